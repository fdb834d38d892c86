"""Rows that give away an evaluation set: its questions with their answers, or its pictures.

Text, after PaLM (Chowdhery et al. 2022, section 8: contaminated when at least 70% of an example's 8-grams occur in
the training data), with one row as the training data: a row is dropped when it holds 70% of the 8-grams of an
evaluation example (question and answer). Ours: n-grams that occur in more than ten examples of the evaluation set
are phrases of its template and prove nothing (GPT-3, Brown et al. 2020, appendix C, ignores n-grams by the same
count on the training side); examples without a telling 8-gram, such as "Is there a dog? yes", are judged by their
picture alone; and where the row asks about another picture than the example, short questions are the same without being
a leak ("What shape is the lowest object? …"), so that only examples of PICTURED_WORDS words prove anything. Of 5,177
rows about pictures of the starter world 24% hold 70% of a question of its test split at 8 words, 5% at 13, none at 20.

Pictures: `datagen.gates.image_duplicate`, distance at most ``distance``, to any picture of the evaluation corpus.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from datagen.gates import image_duplicate
from datagen.gates.image_duplicate import Look
from datagen.gates.shingles import conversation_words, ngram_hashes, words
from datagen.records import GateResult, Turn

NAME = "decontaminate"
NGRAM = 8
SHARE = 0.7
COMMON = 10
PICTURED_WORDS = 20


@dataclass(frozen=True, kw_only=True)
class EvalIndex:
    """What evaluation sets consist of, by hash.

    Attributes:
        sets: names of the sets.
        grams: sorted uint64, telling n-grams; one entry for each (n-gram, example).
        example_of: int64, same length: the example.
        gram_counts: int64 (examples,): telling n-grams of the example.
        proves: bool (examples,): long enough to prove a leak in a row about another picture, or about none itself.
        set_of: int64 (examples,): its set.
        ids: (examples,) str.
        picture_keys: sorted uint64 bucket keys of pictures; ``picture_of`` int64 points into the next three.
        looks: uint8 (pictures, PACKED), ``picture_ids`` str, ``picture_sets`` int64.
    """

    sets: np.ndarray
    grams: np.ndarray
    example_of: np.ndarray
    gram_counts: np.ndarray
    proves: np.ndarray
    set_of: np.ndarray
    ids: np.ndarray
    picture_keys: np.ndarray
    picture_of: np.ndarray
    looks: np.ndarray
    picture_ids: np.ndarray
    picture_sets: np.ndarray

    def judge_text(self, turns: Iterable[Turn], *, pictured: bool) -> GateResult:
        """Whether a conversation holds SHARE of the telling n-grams of an example.

        Args:
            pictured: the row has pictures, none of which is known to be one of an evaluation set.
        """
        hashes, _ = ngram_hashes([conversation_words(turns)], NGRAM)
        spans = _spans(self.grams, np.unique(hashes))
        if not len(spans):
            return GateResult(name=NAME, passed=True)
        examples, hits = np.unique(self.example_of[spans], return_counts=True)
        shares = hits / self.gram_counts[examples]
        if pictured:
            shares = np.where(self.proves[examples], shares, 0.0)
        best = int(np.argmax(shares))
        if shares[best] < SHARE:
            return GateResult(name=NAME, passed=True)
        example = int(examples[best])
        where = f"{self.sets[self.set_of[example]]}, example {self.ids[example]}"
        return GateResult(
            name=NAME, passed=False, detail=f"{shares[best]:.0%} of the {NGRAM}-grams of {where}"
        )

    def judge_picture(self, seen: Look, distance: int) -> GateResult:
        """Whether a picture is one of an evaluation corpus."""
        keys = np.array(image_duplicate.band_keys(seen, distance), dtype=np.uint64)
        candidates = np.unique(self.picture_of[_spans(self.picture_keys, np.unique(keys))])
        if len(candidates):
            packed = np.frombuffer(image_duplicate.pack(seen), dtype=np.uint8)
            far = image_duplicate.distances(packed, self.looks[candidates])
            best = int(np.argmin(far))
            if far[best] <= distance:
                picture = int(candidates[best])
                where = f"{self.sets[self.picture_sets[picture]]}, picture {self.picture_ids[picture]}"
                detail = f"shows the same as {where} (at distance {far[best]} of {image_duplicate.BITS})"
                return GateResult(name=NAME, passed=False, detail=detail)
        return GateResult(name=NAME, passed=True)


@dataclass(frozen=True, kw_only=True)
class Examples:
    """An evaluation set to build an index from: ``texts`` are (id, turns, has a picture), ``pictures`` (id, look)."""

    name: str
    texts: Iterable[tuple[str, Sequence[Turn], bool]]
    pictures: Iterable[tuple[str, Look]]


def build_index(evaluations: Sequence[Examples], distance: int) -> EvalIndex:
    """Index of evaluation sets; an example is one question with its answer, in the order of the set."""
    texts: list[list[str]] = []
    ids: list[str] = []
    set_of: list[int] = []
    proves: list[bool] = []
    looks: list[bytes] = []
    picture_ids: list[str] = []
    picture_sets: list[int] = []
    keys: list[tuple[int, int]] = []
    for number, evaluation in enumerate(evaluations):
        for name, turns, pictured in evaluation.texts:
            for text in pairs(turns):
                texts.append(text)
                ids.append(name)
                set_of.append(number)
                proves.append(not pictured or len(text) >= PICTURED_WORDS)
        for name, seen in evaluation.pictures:
            keys += [(key, len(looks)) for key in image_duplicate.band_keys(seen, distance)]
            looks.append(image_duplicate.pack(seen))
            picture_ids.append(name)
            picture_sets.append(number)
    grams, example_of, gram_counts = _telling(texts, np.array(set_of, dtype=np.int64))
    keys.sort()
    return EvalIndex(
        sets=np.array([e.name for e in evaluations], dtype=np.str_),
        grams=grams,
        example_of=example_of,
        gram_counts=gram_counts,
        proves=np.array(proves, dtype=np.bool_),
        set_of=np.array(set_of, dtype=np.int64),
        ids=np.array(ids, dtype=np.str_),
        picture_keys=np.array([k for k, _ in keys], dtype=np.uint64),
        picture_of=np.array([p for _, p in keys], dtype=np.int64),
        looks=np.frombuffer(b"".join(looks), dtype=np.uint8).reshape(-1, image_duplicate.PACKED),
        picture_ids=np.array(picture_ids, dtype=np.str_),
        picture_sets=np.array(picture_sets, dtype=np.int64),
    )


def pairs(turns: Sequence[Turn]) -> Iterator[list[str]]:
    """Words of every question with its answer, where they are long enough for an n-gram."""
    for before, after in pairwise(turns):
        if (before.role, after.role) == ("user", "assistant"):
            text = [*words(before.text), *words(after.text)]
            if len(text) >= NGRAM:
                yield text


def _telling(texts: list[list[str]], set_of: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sorted n-grams with their examples, without those of more than COMMON examples of a set."""
    hashes, starts = ngram_hashes(texts, NGRAM)
    example_of = np.repeat(np.arange(len(texts)), np.diff(starts))
    once = np.unique(np.stack([hashes, example_of.astype(np.uint64)], axis=1), axis=0)
    grams, example_of = once[:, 0], once[:, 1].astype(np.int64)
    in_set = np.stack([grams, set_of[example_of].astype(np.uint64)], axis=1)
    _, inverse, counts = np.unique(in_set, axis=0, return_inverse=True, return_counts=True)
    rare = counts[inverse.ravel()] <= COMMON
    grams, example_of = grams[rare], example_of[rare]
    return grams, example_of, np.bincount(example_of, minlength=len(texts)).astype(np.int64)


def _spans(table: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Positions in the sorted ``table`` of all entries equal to one of ``keys``."""
    low, high = np.searchsorted(table, keys, "left"), np.searchsorted(table, keys, "right")
    return np.concatenate([np.arange(a, b) for a, b in zip(low, high, strict=True) if b > a] or [low[:0]])
