"""Noun phrases and sentences of the starter world: what a phrase means in a scene, and how things are called."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from datagen.starter.scene import Bar, Scene, Thing

EXTREMES: dict[str, Callable[[Thing], int]] = {
    "leftmost": lambda t: t.column,
    "rightmost": lambda t: -t.column,
    "highest": lambda t: t.row,
    "lowest": lambda t: -t.row,
}
RELATIONS: dict[str, Callable[[Thing, Thing], bool]] = {
    "left of": lambda a, b: a.column < b.column,
    "right of": lambda a, b: a.column > b.column,
    "above": lambda a, b: a.row < b.row,
    "below": lambda a, b: a.row > b.row,
}


class IllPosed(ValueError):
    """The question has no answer in this scene; the message is the sentence that says why."""


@dataclass(frozen=True, kw_only=True)
class Truth:
    """The exact answer: ``short`` (a word, number or box) and the world's own ``sentence`` for it."""

    short: str
    sentence: str


def article(noun: str) -> str:
    """``a red circle``, ``an orange star``."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def plural(noun: str) -> str:
    """``red circles``, ``crosses``."""
    return noun + ("es" if noun.endswith("s") else "s")


def join(parts: list[str]) -> str:
    """``a, b and c``."""
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def matching(noun: str, scene: Scene) -> list[Thing]:
    """All things a noun phrase means: ``large red circle``, ``blue object``, ``sign``, ``leftmost object``."""
    words = noun.split()
    if words[0] in EXTREMES:
        key, things = EXTREMES[words[0]], [t for t in scene.things if t.shape != "sign"]
        best = min((key(t) for t in things), default=0)
        return [t for t in things if key(t) == best]
    *adjectives, shape = words
    found = []
    for thing in scene.things:
        of_shape = thing.shape != "sign" if shape == "object" else thing.shape == shape
        if of_shape and all(w in (thing.color, thing.size) for w in adjectives):
            found.append(thing)
    return found


def the_one(noun: str, scene: Scene) -> Thing:
    """The single thing a noun phrase means.

    Raises:
        IllPosed: none or several.
    """
    found = matching(noun, scene)
    if len(found) == 1:
        return found[0]
    if not found:
        raise IllPosed(f"There is no {noun}.")
    if noun.split()[0] in EXTREMES:
        raise IllPosed(f"There is no single {noun}.")
    raise IllPosed(f"There are {len(found)} {plural(noun)}.")


def the_bar(color: str, scene: Scene) -> Bar:
    """The bar of a colour. Raises IllPosed where there is none."""
    for bar in scene.bars:
        if bar.color == color:
            return bar
    raise IllPosed(f"There is no {color} bar.")


def box_text(box: tuple[int, int, int, int]) -> str:
    """``[x1, y1, x2, y2]`` in pixels."""
    return "[" + ", ".join(map(str, box)) + "]"


def place(thing: Thing) -> str:
    """``row 1 column 3``, counted from 1 at the upper left."""
    return f"row {thing.row + 1} column {thing.column + 1}"


def full_name(thing: Thing) -> str:
    """``large red circle``, or ``sign that says cat``."""
    return f"sign that says {thing.word}" if thing.word else f"{thing.size} {thing.color} {thing.shape}"


def yes_no(flag: bool, yes: str, no: str) -> Truth:
    """A yes/no answer with its sentence."""
    return Truth(short="yes", sentence=f"Yes, {yes}.") if flag else Truth(short="no", sentence=f"No, {no}.")


def captions(scene: Scene) -> tuple[str, ...]:
    """Five captions of a scene, in five wordings, all true (Flickr30k and COCO give five references, too)."""
    if scene.bars:
        colors = [b.color for b in scene.bars]
        n = len(colors)
        return (
            f"A chart with {join(colors)} bars.",
            f"A bar chart with {n} bars.",
            f"There is a chart with {n} bars, {join(colors)}.",
            f"The image shows a bar chart of {join(colors)}.",
            f"A picture of {n} bars in {join(colors)}.",
        )
    brief = [article(full_name(t) if t.word else f"{t.color} {t.shape}") for t in scene.things]
    full = [article(full_name(t)) for t in scene.things]
    return (
        f"There is {join(brief)}.",
        f"{join(brief).capitalize()}.",
        f"The image shows {join(full)}.",
        f"A picture of {join(full)}.",
        f"{len(brief)} objects, {join(brief)}.",
    )
