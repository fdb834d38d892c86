"""Every question the world can be asked: its wording and its exact answer.

A question class has ``patterns`` (wordings; the fields in braces), the ``kind`` (task family) and ``truth(scene)``.
``grammar`` reads the same patterns back, so a draft that a model wrote can be judged exactly.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, fields
from typing import ClassVar

from datagen.starter.phrases import (
    RELATIONS,
    IllPosed,
    Truth,
    article,
    box_text,
    captions,
    full_name,
    matching,
    place,
    plural,
    the_bar,
    the_one,
    yes_no,
)
from datagen.starter.scene import Scene, Thing


@dataclass(frozen=True)
class Question:
    """Base of all questions; fields of a subclass are the holes in its ``patterns``."""

    kind: ClassVar[str]
    patterns: ClassVar[tuple[str, ...]]
    boolean: ClassVar[bool] = False

    def truth(self, scene: Scene) -> Truth:
        """The exact answer. Raises IllPosed where the scene gives none."""
        raise NotImplementedError

    def text(self, rng: random.Random) -> str:
        """One of the wordings."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        values |= {f"{k}s": plural(v) for k, v in values.items()} | {
            f"a_{k}": article(v) for k, v in values.items()
        }
        return rng.choice(self.patterns).format(**values)


@dataclass(frozen=True)
class Exists(Question):
    kind = "existence"
    boolean = True
    patterns = ("Is there {a_noun}?", "Do you see {a_noun}?")
    noun: str

    def truth(self, scene: Scene) -> Truth:
        """yes where at least one matches."""
        return yes_no(
            bool(matching(self.noun, scene)), f"there is {article(self.noun)}", f"there is no {self.noun}"
        )


@dataclass(frozen=True)
class BothExist(Question):
    kind = "existence"
    boolean = True
    patterns = ("Is there {a_noun} and {a_noun2}?",)
    noun: str
    noun2: str

    def truth(self, scene: Scene) -> Truth:
        """yes where both match; the sentence of a no names what is missing."""
        missing = [n for n in (self.noun, self.noun2) if not matching(n, scene)]
        both = f"there is {article(self.noun)} and {article(self.noun2)}"
        return yes_no(not missing, both, f"there is no {missing[0] if missing else ''}")


def count_sentence(n: int, noun: str) -> str:
    """``There is 1 star.``, ``There are 3 stars.``"""
    return f"There is 1 {noun}." if n == 1 else f"There are {n} {plural(noun)}."


@dataclass(frozen=True)
class Count(Question):
    kind = "count"
    patterns = ("How many {nouns} are there?", "Count the {nouns}.")
    noun: str

    def truth(self, scene: Scene) -> Truth:
        """Number of matches, 0 included."""
        n = len(matching(self.noun, scene))
        return Truth(short=str(n), sentence=count_sentence(n, self.noun))


@dataclass(frozen=True)
class CountBoth(Question):
    kind = "count"
    patterns = ("How many {nouns} and {noun2s} are there?",)
    noun: str
    noun2: str

    def truth(self, scene: Scene) -> Truth:
        """Number of things that match either."""
        n = len({*matching(self.noun, scene), *matching(self.noun2, scene)})
        both = f"{plural(self.noun)} and {plural(self.noun2)}"
        return Truth(short=str(n), sentence=f"There are {n} {both}.")


@dataclass(frozen=True)
class Color(Question):
    kind = "color"
    patterns = ("What color is the {noun}?", "Which color does the {noun} have?")
    noun: str

    def truth(self, scene: Scene) -> Truth:
        """Colour of the one thing meant."""
        color = the_one(self.noun, scene).color
        return Truth(short=color, sentence=f"The {self.noun} is {color}.")


@dataclass(frozen=True)
class Shape(Question):
    kind = "shape"
    patterns = ("What shape is the {noun}?", "Which shape does the {noun} have?")
    noun: str

    def truth(self, scene: Scene) -> Truth:
        """Shape of the one thing meant."""
        shape = the_one(self.noun, scene).shape
        return Truth(short=shape, sentence=f"The {self.noun} is {article(shape)}.")


@dataclass(frozen=True)
class Relates(Question):
    kind = "relation"
    boolean = True
    patterns = ("Is the {noun} {relation} the {noun2}?",)
    noun: str
    relation: str
    noun2: str

    def truth(self, scene: Scene) -> Truth:
        """yes where the relation holds between cells; equal rows or columns are neither."""
        a, b = the_one(self.noun, scene), the_one(self.noun2, scene)
        rest = f"{self.relation} the {self.noun2}"
        return yes_no(
            RELATIONS[self.relation](a, b), f"the {self.noun} is {rest}", f"the {self.noun} is not {rest}"
        )


@dataclass(frozen=True)
class RelatesBoth(Question):
    kind = "relation"
    boolean = True
    patterns = ("Is the {noun} {relation} and {relation2} the {noun2}?",)
    noun: str
    relation: str
    relation2: str
    noun2: str

    def truth(self, scene: Scene) -> Truth:
        """yes where both relations hold."""
        a, b = the_one(self.noun, scene), the_one(self.noun2, scene)
        holds = RELATIONS[self.relation](a, b) and RELATIONS[self.relation2](a, b)
        rest = f"{self.relation} and {self.relation2} the {self.noun2}"
        return yes_no(holds, f"the {self.noun} is {rest}", f"the {self.noun} is not {rest}")


def _sign(scene: Scene) -> Thing:
    if scene.sign is None:
        raise IllPosed("There is no sign.")
    return scene.sign


@dataclass(frozen=True)
class Word(Question):
    kind = "ocr"
    patterns = ("What word is on the sign?", "Read the sign.")

    def truth(self, scene: Scene) -> Truth:
        """The printed word."""
        word = _sign(scene).word
        return Truth(short=word, sentence=f"The sign says {word}.")


@dataclass(frozen=True)
class Letter(Question):
    kind = "ocr"
    patterns = ("What is the first letter on the sign?",)

    def truth(self, scene: Scene) -> Truth:
        """First letter of the printed word."""
        letter = _sign(scene).word[0]
        return Truth(short=letter, sentence=f"The first letter is {letter}.")


@dataclass(frozen=True)
class BarValue(Question):
    kind = "chart"
    patterns = ("What is the value of the {color} bar?", "How tall is the {color} bar?")
    color: str

    def truth(self, scene: Scene) -> Truth:
        """Height in cells."""
        value = the_bar(self.color, scene).value
        return Truth(short=str(value), sentence=f"The {self.color} bar is {value}.")


@dataclass(frozen=True)
class BarExtreme(Question):
    kind = "chart"
    patterns = ("Which bar is {extreme}?",)
    extreme: str

    def truth(self, scene: Scene) -> Truth:
        """Colour of the single tallest or shortest bar."""
        if not scene.bars:
            raise IllPosed("There is no chart.")
        values = sorted((b.value for b in scene.bars), reverse=self.extreme == "tallest")
        best = [b for b in scene.bars if b.value == values[0]]
        if len(best) > 1:
            raise IllPosed(f"There is no single {self.extreme} bar.")
        return Truth(short=best[0].color, sentence=f"The {best[0].color} bar is {self.extreme}.")


@dataclass(frozen=True)
class BarDifference(Question):
    kind = "chart"
    patterns = ("How much taller is the {color} bar than the {color2} bar?",)
    color: str
    color2: str

    def truth(self, scene: Scene) -> Truth:
        """Difference of heights; ill-posed where the first is not taller."""
        a, b = the_bar(self.color, scene).value, the_bar(self.color2, scene).value
        if a <= b:
            raise IllPosed(f"The {self.color} bar is not taller.")
        return Truth(short=str(a - b), sentence=f"The {self.color} bar is {a - b} taller.")


@dataclass(frozen=True)
class Ground(Question):
    kind = "grounding"
    patterns = ("Give the box of the {noun}.",)
    noun: str

    def truth(self, scene: Scene) -> Truth:
        """Box of the one thing meant, in pixels."""
        box = box_text(the_one(self.noun, scene).box)
        return Truth(short=box, sentence=f"The {self.noun} is at {box}.")


@dataclass(frozen=True)
class RegionCaption(Question):
    kind = "region"
    patterns = ("Describe the region {box}.",)
    box: str

    def truth(self, scene: Scene) -> Truth:
        """Full name of the thing with exactly this box."""
        for thing in scene.things:
            if box_text(thing.box) == self.box:
                return Truth(short=full_name(thing), sentence=f"It is {article(full_name(thing))}.")
        raise IllPosed("There is nothing there.")


@dataclass(frozen=True)
class Detail(Question):
    kind = "detail"
    patterns = ("Describe the image in detail.",)

    def truth(self, scene: Scene) -> Truth:
        """Everything in raster order with its place; ``short`` and ``sentence`` are the same text."""
        if scene.bars:
            text = "Chart: " + ", ".join(f"{b.color} {b.value}" for b in scene.bars) + "."
        else:
            text = ", ".join(f"{full_name(t)} at {place(t)}" for t in scene.things).capitalize() + "."
        return Truth(short=text, sentence=text)


@dataclass(frozen=True)
class Caption(Question):
    kind = "caption"
    patterns = ("Write a short caption.", "Describe the image briefly.")

    def truth(self, scene: Scene) -> Truth:
        """The first of the scene's captions."""
        text = captions(scene)[0]
        return Truth(short=text, sentence=text)


@dataclass(frozen=True)
class IsColor(Question):
    kind = "color"
    boolean = True
    patterns = ("Is the {noun} {color}?",)
    noun: str
    color: str

    def truth(self, scene: Scene) -> Truth:
        """yes where the one thing meant has the colour."""
        true = the_one(self.noun, scene).color
        sentence = f"the {self.noun} is {true}"
        return yes_no(true == self.color, sentence, sentence)


@dataclass(frozen=True)
class IsShape(Question):
    kind = "shape"
    boolean = True
    patterns = ("Is the {noun} {a_shape}?",)
    noun: str
    shape: str

    def truth(self, scene: Scene) -> Truth:
        """yes where the one thing meant has the shape."""
        true = the_one(self.noun, scene).shape
        sentence = f"the {self.noun} is {article(true)}"
        return yes_no(true == self.shape, sentence, sentence)


@dataclass(frozen=True)
class IsCount(Question):
    kind = "count"
    boolean = True
    patterns = ("Is the number of {nouns} {number}?",)
    noun: str
    number: str

    def truth(self, scene: Scene) -> Truth:
        """yes where exactly that many match."""
        n = len(matching(self.noun, scene))
        sentence = count_sentence(n, self.noun)[:-1].replace("There", "there", 1)
        return yes_no(str(n) == self.number, sentence, sentence)


@dataclass(frozen=True)
class Says(Question):
    kind = "ocr"
    boolean = True
    patterns = ("Does the sign say {word}?",)
    word: str

    def truth(self, scene: Scene) -> Truth:
        """yes where the sign has this word."""
        true = _sign(scene).word
        return yes_no(true == self.word, f"the sign says {true}", f"the sign says {true}")


@dataclass(frozen=True)
class IsBarValue(Question):
    kind = "chart"
    boolean = True
    patterns = ("Is the value of the {color} bar {number}?",)
    color: str
    number: str

    def truth(self, scene: Scene) -> Truth:
        """yes where the bar has that height."""
        true = the_bar(self.color, scene).value
        sentence = f"the {self.color} bar is {true}"
        return yes_no(str(true) == self.number, sentence, sentence)


@dataclass(frozen=True)
class IsBarExtreme(Question):
    kind = "chart"
    boolean = True
    patterns = ("Is the {color} bar the {extreme}?",)
    color: str
    extreme: str

    def truth(self, scene: Scene) -> Truth:
        """yes where this bar alone is tallest or shortest."""
        the_bar(self.color, scene)
        best = BarExtreme(self.extreme).truth(scene).short
        sentence = f"the {best} bar is the {self.extreme}"
        return yes_no(best == self.color, sentence, sentence)


QUESTIONS: tuple[type[Question], ...] = (
    Exists, BothExist, Count, CountBoth, Color, Shape, Relates, RelatesBoth, Word, Letter, BarValue, BarExtreme,
    BarDifference, Ground, RegionCaption, Detail, Caption, IsColor, IsShape, IsCount, Says, IsBarValue, IsBarExtreme,
)  # fmt: skip
