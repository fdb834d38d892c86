"""Caption tokens as the reference caption scores use them: Penn-Treebank style, lower case, punctuation
removed.

Replaces the Java tokeniser behind the COCO caption scores (Stanford CoreNLP 3.4.1, ``-preserveLines
-lowerCase``, then a list of punctuation tokens dropped). Written from its observable behaviour; tests hold
golden outputs of the Java program. Kept on purpose: bracket tokens such as ``-lrb-`` stay, because the
reference's list spells them in capitals. Not kept: a caption holding \\r, \\x0b, \\x0c, U+2028 or U+2029
shifts all later captions to the wrong image in the reference; here such characters are spaces.
"""

from __future__ import annotations

import re
from functools import lru_cache

_DROPPED = frozenset({"''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"})
_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
_REPLACED = str.maketrans({
    "\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u2013": "--", "\u2014": "--",
    "\u2026": "...", "\u00a3": "#", "\u20ac": "$", "\u00ad": "",
})  # fmt: skip

# Abbreviations whose period belongs to the word; of those in _BEFORE only where something particular follows.
_TITLES = [
    "mr",
    "mrs",
    "ms",
    "dr",
    "prof",
    "sr",
    "jr",
    "st",
    "ave",
    "blvd",
    "rd",
    "mt",
    "ft",
    "co",
    "corp",
    "inc",
    "ltd",
    "vs",
    "etc",
    "e.g",
    "i.e",
    "ph.d",
    "al",
]
_CLITIC = r"(?:n't|'(?:s|m|d|re|ve|ll))(?![^\W_])"

_TOKEN = re.compile(
    rf"""
      (?P<url>(?:https?://|www\.)[^\s"<>]+?(?=[.,;:!?)]*(?:\s|$)))
    | (?P<acronym>(?:[a-z]\.){{2,}})
    | (?P<title>\b(?:{"|".join(map(re.escape, _TITLES))})\.(?=[\s,;:)]|$)|\bno\.(?=\s*\d)
        |(?<!\S)[b-z]\.(?=\s+(?-i:[a-z])))
    | (?P<time>\d+:\d+(?=[ap]m\b))
    | (?P<decade>'\d0s?\b|'n'|'(?=em\b))
    | (?P<number>[-+]?\d+(?:[.,:/]\d+)*(?!\w|-\w)|\.\d+)
    | (?P<tag>[#@][^\W\d]\w*)
    | (?P<word>[^\W_](?:[^\W_]|[_&/@](?=[^\W_])|\.(?=[^\W\d_])|-(?=[^\W_])|'(?=[^\W\d_]))*)
    | (?P<clitic>{_CLITIC})
    | (?P<dots>\.{{2,}})
    | (?P<shout>[!?]{{2,}})
    | (?P<dashes>-{{2,}})
    | (?P<quote>``|''|")
    | (?P<other>\S)
    """,
    re.VERBOSE | re.IGNORECASE,
)
_CONTRACTION = re.compile(rf"^(?P<stem>.+?)(?P<clitic>{_CLITIC})$")
_JOINED = {
    "cannot": "can not", "gonna": "gon na", "gotta": "got ta", "wanna": "wan na", "lemme": "lem me",
    "gimme": "gim me", "'tis": "'t is", "'twas": "'t was", "y'all": "y' all", "rock'n'roll": "rock 'n' roll",
}  # fmt: skip


@lru_cache(maxsize=200_000)
def tokenize(caption: str) -> str:
    """The caption's tokens joined by single spaces; '' for text without a word."""
    text = " ".join(caption.translate(_REPLACED).split())
    tokens: list[str] = []
    for match in _TOKEN.finditer(text):
        tokens.extend(_tokens_of(match.lastgroup or "", match.group().lower()))
    return " ".join(t for t in tokens if t not in _DROPPED)


def _tokens_of(kind: str, text: str) -> list[str]:
    if kind == "word":
        if text in _JOINED:
            return _JOINED[text].split()
        if match := _CONTRACTION.match(text):
            return [match.group("stem"), match.group("clitic")]
        return [text]
    if kind == "dots":
        return ["..."]
    if kind == "dashes":
        return ["--"]
    if kind == "quote":
        return ["''"]
    return [_BRACKETS.get(text, text)]
