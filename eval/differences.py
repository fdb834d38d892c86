"""Samples where two models differ, with their pictures: the first thing to look at when a number moves."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from cluster.datasets import iter_tables, read_manifest
from cluster.errors import UserError
from eval.tasks import TASKS, lite_order

_COLUMNS = ["sample_id", "task", "image_id", "prompt", "prediction", "golds", "score"]


@dataclass(frozen=True, kw_only=True)
class Differing:
    """One sample: ``win`` where the first model is right and the other is not; ``image`` is a data URI."""

    task: str
    image_id: str
    question: str
    gold: str
    mine: str
    theirs: str
    win: bool
    image: str = ""


@dataclass(frozen=True, kw_only=True)
class Disagreement:
    """Counts of all and a few of the samples where ``model`` and ``base`` differ."""

    model: str
    base: str
    wins: int
    losses: int
    samples: list[Differing]


def find(model: str, uri: str, base: str, base_uri: str, show: int = 12) -> Disagreement:
    """Compare two runs on tasks where a sample alone is right or wrong."""
    mine, theirs = _right_or_wrong(uri), _right_or_wrong(base_uri)
    differ = [s for s in mine if s in theirs and (mine[s]["score"] >= 0.5) != (theirs[s]["score"] >= 0.5)]
    wins = sorted((s for s in differ if mine[s]["score"] >= 0.5), key=lite_order)
    losses = sorted((s for s in differ if mine[s]["score"] < 0.5), key=lite_order)
    half = show // 2
    chosen = wins[: max(half, show - len(losses))] + losses[: max(half, show - len(wins))]
    images = _images(uri, {str(mine[s]["image_id"]) for s in chosen[:show]})
    samples = [
        Differing(
            task=mine[s]["task"],
            image_id=mine[s]["image_id"],
            question=_question(mine[s]["prompt"]),
            gold=mine[s]["golds"][0],
            mine=mine[s]["prediction"] or "(nothing)",
            theirs=theirs[s]["prediction"] or "(nothing)",
            win=mine[s]["score"] >= 0.5,
            image=images.get(mine[s]["image_id"], ""),
        )
        for s in chosen[:show]
    ]
    return Disagreement(model=model, base=base, wins=len(wins), losses=len(losses), samples=samples)


def _right_or_wrong(uri: str) -> dict[str, dict]:  # type: ignore[type-arg]
    rows = (row for table in iter_tables(uri, columns=_COLUMNS) for row in table.to_pylist())
    # CIDEr has no right or wrong, and CHAIR's score of a sample is a share of mistakes.
    return {
        row["sample_id"]: row
        for row in rows
        if row["score"] is not None and row["task"] in TASKS and _is_right_or_wrong(row["task"])
    }


def _is_right_or_wrong(task: str) -> bool:
    rule = TASKS[task].rule
    return not rule.corpus and rule.metrics[rule.primary].higher


def _question(prompt: str) -> str:
    """The question inside a rendered prompt, without the parts that every prompt has."""
    text = prompt.replace("<image>", "").strip()
    return text.removeprefix("USER:").removesuffix("ASSISTANT:").strip()


def _images(uri: str, wanted: set[str]) -> dict[str, str]:
    """Data URIs of pictures from the run's corpus; empty where that is no longer there."""
    found: dict[str, str] = {}
    for parent in read_manifest(uri).parents:
        try:
            if read_manifest(parent.uri).kind != "corpus":
                continue
            for table in iter_tables(parent.uri, columns=["image_id", "image"], verify=False):
                for image_id, image in zip(
                    table["image_id"].to_pylist(), table["image"].to_pylist(), strict=True
                ):
                    if image_id in wanted:
                        found[image_id] = data_uri(image["bytes"] or b"")
                if len(found) == len(wanted):
                    return found
        except UserError:
            continue  # the comparison is complete without pictures
    return found


def data_uri(data: bytes) -> str:
    """A picture as it is embedded in the page; '' where the bytes are of no format that browsers show."""
    kinds: Sequence[tuple[bytes, str]] = (
        (b"\x89PNG", "png"),
        (b"\xff\xd8", "jpeg"),
        (b"RIFF", "webp"),
        (b"GIF8", "gif"),
    )
    kind = next((k for magic, k in kinds if data.startswith(magic)), "")
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}" if kind else ""
