"""Data for benchmarks of training, drawn from a seed: pictures of coloured shapes and conversations about them.

Lengths are spread as in LLaVA's mix: half of the conversations are a question with a word for an answer, the others
are captions, detailed descriptions and dialogues of up to twenty questions. All answers can be read off the picture, so
that two trainers which learn equally well reach the same loss on pictures they have not seen.
"""

from __future__ import annotations

import io
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from datagen.records import Record
    from train.config import TrainConfig

COLORS = {
    "red": (220, 30, 30), "green": (30, 160, 40), "blue": (40, 60, 220), "yellow": (230, 210, 40),
    "black": (20, 20, 20), "orange": (240, 140, 20), "purple": (130, 40, 160), "pink": (250, 150, 190),
}  # fmt: skip
SHAPES = ("circle", "square", "triangle", "diamond")
PLACES = [f"{row} {column}" for row in ("top", "middle", "bottom") for column in ("left", "center", "right")]
SIZES = ((128, 96), (96, 128), (112, 112))
SHORT = "Answer the question using a single word or phrase."
CAPTION = "Provide a one-sentence caption for the provided image."
# As one-word questions, captions, descriptions and dialogues are mixed.
KINDS = ("word", "caption", "detail", "dialogue")
SHARES = (10, 4, 3, 3)
# What the committed starter models have (train/starter).
SHAPE: dict[str, Any] = {
    "vision_hidden": 128, "vision_layers": 3, "vision_heads": 4, "vision_intermediate": 256, "text_hidden": 128,
    "text_layers": 4, "text_heads": 4, "text_kv_heads": 4, "text_intermediate": 256,
}  # fmt: skip

# Place to (colour, shape) of a picture.
Scene = dict[str, tuple[str, str]]
Pair = tuple[str, str]


def draw_scene(rng: random.Random) -> Scene:
    """Two to nine things."""
    places = sorted(rng.sample(PLACES, rng.randint(2, 9)), key=PLACES.index)
    return {place: (rng.choice(list(COLORS)), rng.choice(SHAPES)) for place in places}


def draw_picture(scene: Scene, size: tuple[int, int]) -> bytes:
    """A JPEG of the scene; it has to be decoded and resized, as photographs have."""
    from PIL import Image, ImageDraw

    image = Image.new("RGB", size, (235, 235, 235))
    pen = ImageDraw.Draw(image)
    width, height = size[0] / 3, size[1] / 3
    for place, (color, shape) in scene.items():
        row, column = divmod(PLACES.index(place), 3)
        left, top = column * width + 4, row * height + 4
        right, bottom = left + width - 8, top + height - 8
        middle, half = (left + right) / 2, (top + bottom) / 2
        if shape == "circle":
            pen.ellipse((left, top, right, bottom), fill=COLORS[color])
        elif shape == "square":
            pen.rectangle((left, top, right, bottom), fill=COLORS[color])
        elif shape == "triangle":
            pen.polygon([(middle, top), (right, bottom), (left, bottom)], fill=COLORS[color])
        else:
            pen.polygon([(middle, top), (right, half), (middle, bottom), (left, half)], fill=COLORS[color])
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def question(rng: random.Random, scene: Scene) -> Pair:
    """One question about a place, and its answer in a word."""
    asked = rng.randrange(4)
    if asked == 0:
        place = rng.choice(PLACES)
        return f"Is there anything in the {place}?", "yes" if place in scene else "no"
    if asked == 1:
        wanted = rng.choice(SHAPES)
        return f"How many {wanted}s are there?", str(sum(shape == wanted for _, shape in scene.values()))
    place, (color, shape) = rng.choice(list(scene.items()))
    if asked == 2:
        return f"What color is the {shape} in the {place}?", color
    return f"Which shape is in the {place}?", shape


def conversation(rng: random.Random, scene: Scene, kind: str, *, one_turn: bool) -> list[Pair]:
    """Questions and answers of one kind.

    Args:
        one_turn: a dialogue is asked as one question.
    """
    if kind == "word":
        asked, answer = question(rng, scene)
        return [(f"{asked}\n{SHORT}", answer)]
    if kind == "caption":
        things = [f"a {color} {shape}" for color, shape in scene.values()][:3]
        return [(CAPTION, f"The picture shows {' and '.join(things)} on a light ground.")]
    if kind == "detail":
        asked = rng.choice(("Describe the image in detail.", "What do you see in this picture?"))
        return [(asked, description(scene))]
    pairs = [question(rng, scene) for _ in range(rng.randint(4, 20))]
    if one_turn:
        asked = " ".join(asked for asked, _ in pairs)
        return [(asked, " ".join(f"{i}. {answer}." for i, (_, answer) in enumerate(pairs, 1)))]
    return [(asked, full_answer(answer)) for asked, answer in pairs]


def full_answer(answer: str) -> str:
    """As a helpful assistant says it."""
    return f"Looking at the picture, the answer is {answer}."


def description(scene: Scene) -> str:
    """Every thing and how it stands to the one before, about twenty-five tokens each."""
    said = [f"There are {len(scene)} things in the picture."]
    before = ""
    for place, (color, shape) in scene.items():
        said.append(
            f"In the {place} of the picture there is a {color} {shape}, which is filled with one color."
        )
        if before:
            said.append(f"It comes after the {before}.")
        before = f"{color} {shape}"
    return " ".join(said)


def records_of(
    rng: random.Random, scene: Scene, name: str, count: int, *, one_turn: bool
) -> Iterator[Record]:
    """``count`` accepted records about one picture."""
    from datagen.records import Record, Turn

    for number, kind in enumerate(rng.choices(KINDS, SHARES, k=count)):
        pairs = conversation(rng, scene, kind, one_turn=one_turn)
        turns = tuple(
            Turn(role=role, text=text)
            for pair in pairs
            for role, text in zip(("user", "assistant"), pair, strict=True)
        )
        yield Record(
            id=f"{name}-{number}", image_ids=(name,), kind=kind, format="open", conversation=turns, state="accepted"
        )  # fmt: skip


def write_set(
    root: Path,
    *,
    images: int,
    talks: int = 4,
    seed: int = 0,
    shards: int = 4,
    sizes: Sequence[tuple[int, int]] = SIZES,
    one_turn: bool = False,
) -> dict[str, str]:
    """A published corpus and its conversations; what ``data`` of a training config takes.

    Args:
        talks: conversations per picture.
        sizes: of the pictures, in turn.
    """
    from datagen import corpus, records
    from datagen.corpus import CorpusRow

    uris = {kind: str(root / kind / "talks") for kind in ("corpus", "instructions")}
    rng = random.Random(seed)
    parts: list[tuple[list[CorpusRow], list[Record]]] = []
    for shard in range(shards):
        rows: list[CorpusRow] = []
        said: list[Record] = []
        for index in range(shard, images, shards):
            scene, size = draw_scene(rng), sizes[index % len(sizes)]
            data, name = draw_picture(scene, size), f"p{index:06d}"
            rows.append(
                CorpusRow(
                    image_id=name, image=data, width=size[0], height=size[1], sha256=corpus.sha256(data)
                )
            )
            said += records_of(rng, scene, name, talks, one_turn=one_turn)
        parts.append((rows, said))
    publish(uris, "corpus", [corpus.to_table(rows) for rows, _ in parts])
    publish(uris, "instructions", [records.to_table(said) for _, said in parts])
    return uris


def publish(uris: dict[str, str], kind: Literal["corpus", "instructions"], tables: Sequence[Any]) -> None:
    """One data set of a corpus and its conversations."""
    from cluster import datasets

    parents = [uris["corpus"]] if kind == "instructions" else []
    datasets.plan_dataset(uris[kind], kind=kind, name="talks", shards=len(tables), config={}, parents=parents)
    for shard, table in enumerate(tables):
        datasets.commit_shard(uris[kind], shard, {"rows": table})
    datasets.freeze(uris[kind])


def config(data: dict[str, str], output: Path, **settings: Any) -> TrainConfig:
    """A training in fp32 with one learning rate for all modules, no templates and no stored states on the way."""
    from train.config import TrainConfig

    rates = dict.fromkeys(("vision_tower", "connector", "language_model"), 1e-3)
    values: dict[str, Any] = {
        "stage": "finetune",
        "mode": "vit",
        "data": [data],
        "output": str(output),
        "global_batch": 32,
        "microbatch": 32,
        "max_length": 512,
        "lr": rates,
        "optimizer": {"schedule": "constant", "warmup_ratio": 0.0},
        "templates": {"source": "none"},
        "precision": "fp32",
        "checkpoint": {"every": 10**9},
        "trackers": (),
        "log_every": 5,
    }
    if "model" not in settings:
        values["shape"] = SHAPE
    return TrainConfig.model_validate(values | settings)
