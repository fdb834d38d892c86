"""Words and n-grams: hand-worked cases, and counting by hand against counting with arrays."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datagen.manner.wordlist import function_words
from datagen.manner.words import Tokens, chosen, encode, grams, words

TEXTS = st.lists(st.lists(st.sampled_from(["a", "b", "c", "dd"]), max_size=8).map(" ".join), max_size=6)


def test_words() -> None:
    assert words("It's a RED, well-lit room: 3.5 m²!") == [
        "it's",
        "a",
        "red",
        "well",
        "lit",
        "room",
        "3",
        "5",
        "m²",
    ]
    assert words("the dog’s ‘bone’") == ["the", "dog's", "bone"]
    assert words("snake_case …") == ["snake", "case"]
    assert words("") == words(" -- ") == []


def test_a_vocabulary_is_shared() -> None:
    vocabulary, (first, second) = encode(["The cat.", "", "the"], ["Cat, dog"])
    assert vocabulary == ["the", "cat", "dog"]
    assert first.ids.tolist() == [0, 1, 0] and first.text.tolist() == [0, 0, 2] and first.texts == 3
    assert second.ids.tolist() == [1, 2]
    assert first.lengths().tolist() == [2, 0, 1]


@settings(deadline=None)
@given(one=TEXTS, two=TEXTS, n=st.integers(1, 4))
def test_grams_are_those_counted_by_hand(one: list[str], two: list[str], n: int) -> None:
    vocabulary, encoded = encode(one, two)
    found = grams(encoded, n, len(vocabulary))

    def by_hand(texts: list[str]) -> Counter[tuple[str, ...]]:
        return Counter(tuple(ws[i : i + n]) for ws in map(str.split, texts) for i in range(len(ws) - n + 1))

    hands = [by_hand(one), by_hand(two)]
    assert all(g.size == len(hands[0] | hands[1]) for g in found)
    # The support is numbered in some order: pairs of counts are the same in any.
    pairs = sorted(zip(*(g.counts().astype(int).tolist() for g in found), strict=True))
    assert pairs == sorted((hands[0][key], hands[1][key]) for key in hands[0] | hands[1])


def test_weights_take_texts_more_than_once() -> None:
    vocabulary, (tokens,) = encode(["a b", "b b", "c"])
    (found,) = grams([tokens], 1, len(vocabulary))
    assert found.counts(np.array([2.0, 0.0, 3.0])).tolist() == [2.0, 2.0, 3.0]


def test_too_many_words_for_a_number() -> None:
    empty = np.zeros(0, dtype=np.int64)
    with pytest.raises(ValueError, match="too many"):
        grams([Tokens(ids=empty, text=empty, texts=0)], 4, 2**16)


def test_chosen_words() -> None:
    vocabulary, (tokens,) = encode(["The cat and the dog", "a cat"])
    assert chosen(tokens, vocabulary, ["and", "the", "upon"]).counts().tolist() == [1, 2, 0]
    assert chosen(tokens, vocabulary, ["and", "the", "upon"]).text.tolist() == [0, 0, 0]
    vocabulary, (none,) = encode([])
    assert chosen(none, vocabulary, ["the"]).counts().tolist() == [0]


def test_the_list_of_function_words() -> None:
    listed = function_words()
    assert len(listed) == len(set(listed)) == 145
    assert {"upon", "the", "you", "within"} <= set(listed)
    assert all(words(word) == [word] for word in listed), "each is one word to the tokenizer"
