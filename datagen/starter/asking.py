"""What is worth asking about a scene: balanced, well-posed questions, harder ones, wrong ones.

Everything is drawn with the caller's random generator, so a corpus and its gold instructions follow from a seed.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from datagen.starter import questions as q
from datagen.starter.phrases import EXTREMES, RELATIONS, IllPosed, box_text
from datagen.starter.scene import COLORS, SHAPES, SIZES, WORDS, Scene, Thing

OBJECT_KINDS = (
    "existence",
    "count",
    "color",
    "shape",
    "relation",
    "grounding",
    "region",
    "detail",
    "caption",
)
CHART_KINDS = ("chart", "detail", "caption")


def kinds_of(scene: Scene) -> tuple[str, ...]:
    """Task families that a scene can carry."""
    if scene.bars:
        return CHART_KINDS
    return (*OBJECT_KINDS, "ocr") if scene.sign else OBJECT_KINDS


def ask(kind: str, scene: Scene, rng: random.Random, tries: int = 20) -> q.Question | None:
    """A question of a family with an exact answer in this scene; None where ``tries`` draws found none.

    Yes/no questions are balanced by deciding on the answer before drawing."""
    wanted = rng.choice(("yes", "no"))
    for _ in range(tries):
        question = _ASKERS[kind](scene, rng)
        if question is None or not well_posed(question, scene):
            continue
        if not question.boolean or question.truth(scene).short == wanted:
            return question
    return None


def well_posed(question: q.Question, scene: Scene) -> bool:
    """Whether the scene answers the question."""
    try:
        question.truth(scene)
    except IllPosed:
        return False
    return True


def noun_for(thing: Thing, rng: random.Random) -> str:
    """One of the phrases that mean this thing (and perhaps others)."""
    if thing.shape == "sign":
        return "sign"
    return rng.choice(
        (
            thing.shape,
            f"{thing.color} {thing.shape}",
            f"{thing.color} {thing.shape}",
            f"{thing.size} {thing.shape}",
            f"{thing.color} object",
            f"{thing.size} {thing.color} {thing.shape}",
        )
    )


def random_noun(rng: random.Random) -> str:
    """A phrase of the language that need not mean anything in a scene."""
    thing = Thing(row=0, column=0, shape=rng.choice(SHAPES), color=rng.choice(COLORS), size=rng.choice(SIZES))
    return noun_for(thing, rng)


def _near_miss(scene: Scene, rng: random.Random) -> str:
    # A noun mixed from what the picture does hold: the adversarial negatives of POPE.
    things = [t for t in scene.things if t.shape != "sign"]
    if not things or rng.random() < 0.25:
        return "sign" if rng.random() < 0.2 else random_noun(rng)
    a, b = rng.choice(things), rng.choice(things)
    mixed = Thing(row=0, column=0, shape=a.shape, color=b.color, size=rng.choice((a.size, b.size)))
    if rng.random() < 0.5:
        mixed = Thing(row=0, column=0, shape=a.shape, color=rng.choice(COLORS), size=a.size)
    return noun_for(mixed, rng)


def _noun(scene: Scene, rng: random.Random, present: float) -> str:
    if rng.random() < present:
        return noun_for(rng.choice(scene.things), rng)
    return _near_miss(scene, rng)


def _existence(scene: Scene, rng: random.Random) -> q.Question | None:
    if rng.random() < 0.2:
        return q.BothExist(_noun(scene, rng, 0.85), _noun(scene, rng, 0.75))
    return q.Exists(_noun(scene, rng, 0.5))


def _count(scene: Scene, rng: random.Random) -> q.Question | None:
    noun = _noun(scene, rng, 0.85)
    if rng.random() < 0.35:
        noun = rng.choice(("object", rng.choice([t.shape for t in scene.things])))
    if noun == "sign":
        return None
    if rng.random() < 0.2:
        other = _noun(scene, rng, 0.85)
        return None if other in (noun, "sign") else q.CountBoth(noun, other)
    return q.Count(noun)


def _color(scene: Scene, rng: random.Random) -> q.Question | None:
    thing = rng.choice(scene.things)
    noun = rng.choice((thing.shape, f"{thing.size} {thing.shape}", f"{rng.choice(list(EXTREMES))} object"))
    return None if thing.shape == "sign" else q.Color(noun)


def _shape(scene: Scene, rng: random.Random) -> q.Question | None:
    thing = rng.choice(scene.things)
    size_color = f"{thing.size} {thing.color} object"
    noun = rng.choice((f"{thing.color} object", size_color, f"{rng.choice(list(EXTREMES))} object"))
    return None if thing.shape == "sign" else q.Shape(noun)


def _relation(scene: Scene, rng: random.Random) -> q.Question | None:
    if len(scene.things) < 2:
        return None
    a, b = rng.sample(scene.things, 2)
    noun, noun2 = noun_for(a, rng), noun_for(b, rng)
    if rng.random() < 0.2:
        return q.RelatesBoth(noun, rng.choice(("left of", "right of")), rng.choice(("above", "below")), noun2)
    return q.Relates(noun, rng.choice(list(RELATIONS)), noun2)


def _ocr(scene: Scene, rng: random.Random) -> q.Question:
    return q.Letter() if rng.random() < 0.25 else q.Word()


def _chart(scene: Scene, rng: random.Random) -> q.Question | None:
    if not scene.bars:
        return None
    a, b = rng.sample(scene.bars, 2)
    draw = rng.random()
    if draw < 0.5:
        return q.BarValue(a.color)
    return (
        q.BarExtreme(rng.choice(("tallest", "shortest"))) if draw < 0.8 else q.BarDifference(a.color, b.color)
    )


_ASKERS: dict[str, Callable[[Scene, random.Random], q.Question | None]] = {
    "existence": _existence,
    "count": _count,
    "color": _color,
    "shape": _shape,
    "relation": _relation,
    "ocr": _ocr,
    "chart": _chart,
    "grounding": lambda scene, rng: q.Ground(noun_for(rng.choice(scene.things), rng)),
    "region": lambda scene, rng: q.RegionCaption(box_text(rng.choice(scene.things).box)),
    "detail": lambda scene, rng: q.Detail(),
    "caption": lambda scene, rng: q.Caption(),
}


def ill_posed(kind: str, scene: Scene, rng: random.Random) -> q.Question | None:
    """A question of a family that this scene cannot answer; None where the family always has an answer."""
    question: q.Question
    match kind:
        case "color":
            question = q.Color(rng.choice((rng.choice(SHAPES), f"{rng.choice(SIZES)} {rng.choice(SHAPES)}")))
        case "shape":
            question = q.Shape(f"{rng.choice(COLORS)} object")
        case "grounding":
            question = q.Ground(_near_miss(scene, rng))
        case "relation":
            question = q.Relates(_noun(scene, rng, 0.4), rng.choice(list(RELATIONS)), _noun(scene, rng, 0.6))
        case "ocr":
            question = q.Word()
        case "chart":
            question = q.BarValue(rng.choice(COLORS))
        case _:
            return None
    return None if well_posed(question, scene) else question


def harder(question: q.Question, scene: Scene, rng: random.Random) -> q.Question | None:
    """A harder question of the same family (ComVint's complication, in this world's terms); None where none is
    known: a noun becomes an extreme, one condition becomes two, a reading becomes a calculation."""
    for _ in range(20):
        new: q.Question | None
        match question:
            case q.Exists(noun):
                new = q.BothExist(noun, _noun(scene, rng, 0.6))
            case q.Count(noun):
                new = q.CountBoth(noun, rng.choice(("", f"{rng.choice(COLORS)} ")) + rng.choice(SHAPES))
            case q.Color():
                new = q.Color(f"{rng.choice(list(EXTREMES))} object")
            case q.Shape():
                new = q.Shape(f"{rng.choice(list(EXTREMES))} object")
            case q.Relates(noun, relation, noun2):
                across = ("above", "below") if "of" in relation else ("left of", "right of")
                pair = (relation, rng.choice(across)) if "of" in relation else (rng.choice(across), relation)
                new = q.RelatesBoth(noun, *pair, noun2)
            case q.Word():
                new = q.Letter()
            case q.BarValue(color) | q.BarDifference(color, _):
                new = q.BarDifference(color, rng.choice(COLORS))
            case _:
                return None
        if new != question and well_posed(new, scene):
            return new
    return None


def as_bool(
    question: q.Question, short: str, positive: bool, scene: Scene, rng: random.Random
) -> q.Question | None:
    """The yes/no form of an open question (paper's reformulation): ``positive`` states the given answer, otherwise
    one fact is minimally changed. None for families without such a form."""
    said = short if positive else rng.choice(wrong_answers(question, short) or [""])
    match question:
        case q.Color(noun):
            return q.IsColor(noun, said)
        case q.Shape(noun):
            return q.IsShape(noun, said)
        case q.Count(noun):
            return q.IsCount(noun, said)
        case q.Word():
            return q.Says(said)
        case q.BarValue(color):
            return q.IsBarValue(color, said)
        case q.BarExtreme(extreme):
            others = [b.color for b in scene.bars if b.color != short]
            return q.IsBarExtreme(short if positive else rng.choice(others), extreme)
    return None


def wrong_answers(question: q.Question, short: str) -> list[str]:
    """Other short answers of the same type, hard ones: never the given one."""
    match question:
        case _ if question.boolean:
            pool = ["yes", "no"]
        case q.Color() | q.BarExtreme():
            pool = list(COLORS)
        case q.Shape():
            pool = list(SHAPES)
        case q.Count() | q.CountBoth():
            pool = [str(n) for n in range(6)]
        case q.BarValue() | q.BarDifference():
            pool = ["1", "2", "3", "4"]
        case q.Word():
            pool = list(WORDS)
        case q.Letter():
            pool = sorted({w[0] for w in WORDS})
        case _:
            pool = []
    return [p for p in pool if p != short]
