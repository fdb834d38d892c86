"""Text of rows on a page: escaped, cut, with what is invisible made visible, and two versions as a word diff.

Rows are hostile: beside markup they hold bidirectional overrides that show a text in another order than it is read
by a model, and tag characters that are read and not shown at all. On the page such characters stand as their names.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from markupsafe import Markup, escape

MAX_TEXT = 20_000
MAX_LABEL = 120
# SequenceMatcher is quadratic; two answers above this many words stand one after the other instead.
MAX_DIFF_WORDS = 600
# Controls except tab and newline, line separators, bidirectional overrides and isolates, zero-width space, byte
# order mark, tag characters. Joiners stay: scripts and emoji need them.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u2028\u2029\u202a-\u202e\u2060\u2066-\u2069\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f]"
)
# Han, kana and hangul are not spaced, so each character is a word of its own.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|\w+|\s+|.", re.DOTALL)


@dataclass(frozen=True)
class Piece:
    """A run of a diff: ``how`` is ``same``, ``old`` or ``new``."""

    how: str
    text: str


def visible(text: str, limit: int = MAX_TEXT) -> Markup:
    """Safe HTML of a row's text: hidden characters by name, at most ``limit`` characters and a note of the rest."""
    shown = Markup("")
    start = 0
    body = text[:limit].replace("\r\n", "\n")
    for found in _HIDDEN.finditer(body):
        name = f"U+{ord(found[0]):04X}"
        mark = Markup('<span class="g-hidden" title="invisible character">{}</span>').format(name)
        shown += escape(body[start : found.start()]) + mark
        start = found.end()
    shown += escape(body[start:])
    if len(text) > limit:
        shown += Markup('<span class="g-cutoff"> … cut here, {} characters in all</span>').format(
            f"{len(text):,}"
        )
    return shown


def label(text: str) -> str:
    """A name from a row (a kind, a gate, a score) for attributes and tables: hidden characters out, not too long."""
    clean = _HIDDEN.sub("\ufffd", text[: MAX_LABEL + 1])
    return clean if len(text) <= MAX_LABEL else clean[:MAX_LABEL] + "…"


def origin(source: str) -> str:
    """The part of a row's source that it shares with others: importers put file and row behind a colon."""
    return label(source.partition(":")[0])


def word_diff(before: str, after: str) -> list[Piece]:
    """What was taken out and put in, by words; both as a whole where they are too long to compare."""
    old, new = _WORD.findall(before[:MAX_TEXT]), _WORD.findall(after[:MAX_TEXT])
    if len(old) > MAX_DIFF_WORDS or len(new) > MAX_DIFF_WORDS:
        return [Piece("old", before), Piece("new", after)]
    pieces: list[Piece] = []
    for how, a, b, c, d in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if how == "equal":
            pieces.append(Piece("same", "".join(old[a:b])))
            continue
        if b > a:
            pieces.append(Piece("old", "".join(old[a:b])))
        if d > c:
            pieces.append(Piece("new", "".join(new[c:d])))
    return _without_islands(pieces)


def _without_islands(pieces: list[Piece]) -> list[Piece]:
    """Lone blanks between two changes belong to both, so that a changed phrase reads as one."""
    merged: list[Piece] = []
    old = new = ""
    for place, piece in enumerate(pieces):
        island = piece.how == "same" and not piece.text.strip() and 0 < place < len(pieces) - 1
        if piece.how != "new" and (island or piece.how == "old"):
            old += piece.text
        if piece.how != "old" and (island or piece.how == "new"):
            new += piece.text
        if piece.how == "same" and not island:
            merged += [Piece(how, text) for how, text in (("old", old), ("new", new)) if text]
            merged.append(piece)
            old = new = ""
    return merged + [Piece(how, text) for how, text in (("old", old), ("new", new)) if text]
