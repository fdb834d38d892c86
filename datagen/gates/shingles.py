"""Words of a text and hashes of its word n-grams: what near-duplicate search and decontamination count.

Hashing is the same in every process and on every machine (no `hash()`), and vectorised over all texts of a
shard: only distinct words pass through Python.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np

from datagen.records import Turn

# Japanese and Chinese write no spaces; there every character counts as a word.
_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_CJK}]|[^\W_{_CJK}]+")
_IMAGE = re.compile(r"<image>")
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


def words(text: str) -> list[str]:
    """Words in lower case (NFKC), without punctuation and image markers; a CJK character is a word."""
    return _WORD.findall(unicodedata.normalize("NFKC", _IMAGE.sub(" ", text)).lower())


def conversation_words(turns: Iterable[Turn]) -> list[str]:
    """Words of all turns that a model is trained on, in order; unreadable drafts are not among them."""
    return [word for turn in turns if turn.role != "draft" for word in words(turn.text)]


@lru_cache(maxsize=1 << 18)
def _word_hash(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode("utf-8", "replace"), digest_size=8).digest(), "little")


def stable_hash(*parts: str) -> int:
    """64 bits that name a sequence of strings on every machine."""
    data = "\x1f".join(parts).encode("utf-8", "replace")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def ngram_hashes(texts: Sequence[Sequence[str]], n: int) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of all word n-grams of every text.

    A text of fewer than ``n`` words, but at least one, counts as one n-gram of its own; one without words has none.

    Args:
        texts: each a list of words.

    Returns:
        ``(hashes, starts)``: uint64 hashes of all texts one after the other, and int64 offsets of length
        ``len(texts) + 1`` into them.
    """
    lengths = np.fromiter((len(text) for text in texts), dtype=np.int64, count=len(texts))
    flat = np.fromiter((_word_hash(w) for t in texts for w in t), dtype=np.uint64, count=int(lengths.sum()))
    grams = np.where(lengths >= n, lengths - n + 1, np.minimum(lengths, 1))
    starts = np.concatenate([[0], np.cumsum(grams)]).astype(np.int64)
    text_of = np.repeat(np.arange(len(texts)), grams)
    word_starts = np.concatenate([[0], np.cumsum(lengths)])[:-1]
    first = word_starts[text_of] + np.arange(starts[-1]) - starts[text_of]
    sizes = np.minimum(lengths, n)[text_of]
    hashes = sizes.astype(np.uint64)
    for k in range(n):
        inside = sizes > k
        # A polynomial in wrapped 64-bit arithmetic, so that the order of the words counts.
        hashes[inside] = hashes[inside] * _MULTIPLIER + flat[first[inside] + k]
    return mix(hashes), starts


def mix(values: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64: every bit of the input reaches every bit of the output."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
