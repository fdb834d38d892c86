"""Repetition between answers against sacrebleu, which compares every pair."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU

from datagen.manner.repetition import distinct, self_bleu
from datagen.manner.words import encode

TEXT = st.lists(st.sampled_from(["a", "b", "c", "d", "e"]), min_size=4, max_size=12).map(" ".join)


def test_distinct() -> None:
    vocabulary, (tokens,) = encode(["a b a b", "a b"])
    assert distinct(tokens, 1, len(vocabulary)) == 2 / 6
    assert distinct(tokens, 2, len(vocabulary)) == 2 / 4
    assert distinct(tokens, 5, len(vocabulary)) is None


@settings(deadline=None)
@given(st.lists(TEXT, min_size=2, max_size=6))
def test_self_bleu_against_sacrebleu(texts: list[str]) -> None:
    vocabulary, (tokens,) = encode(texts)
    bleu = BLEU(tokenize="none", effective_order=True)
    pairwise = [
        bleu.sentence_score(text, [t for k, t in enumerate(texts) if k != i]).score / 100
        for i, text in enumerate(texts)
    ]
    assert self_bleu(tokens, len(vocabulary)) == pytest.approx(float(np.mean(pairwise)), abs=1e-9)


def test_self_bleu_of_few() -> None:
    same = encode(["one two three four"] * 3)
    assert self_bleu(same[1][0], len(same[0])) == pytest.approx(1.0)
    short = encode(["one two three four", "too short"])
    assert self_bleu(short[1][0], len(short[0])) is None
    apart = encode(["one two three four", "five six seven eight"])
    assert self_bleu(apart[1][0], len(apart[0])) == 0.0
