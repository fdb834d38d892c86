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
    "\u2026": "...", "\u00a3": "#", "\u20ac": "$", "\u00a2": " cents ", "\u00ad": "",
})  # fmt: skip

# Abbreviations whose period belongs to the word, however they are spelt …
_TITLES = (
    r"mr|mrs|ms|mme|messrs|dr|prof|sr|jr|esq|hon|sgt|capt|lt|gen|col|cpl|pvt|adm|cmdr|maj|insp|supt|rev|sens?|reps?"
    r"|govs?|pres|det|st|ave|blvd|rd|mt|ft|sq|bldg|co|corp|inc|ltd|plc|pty|bros|univ|dept|assn|natl|intl|mfg|est|tel"
    r"|ext|vs|etc|cf|al|e\.g|i\.e|ph|ph\.d|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec|mon|tues?|wed|thu|thurs|fri"
    r"|ala|ariz|calif|colo|conn|fla|ga|ind|kans?|ky|md|mich|minn|mo|mont|neb|nev|okla|penn|tenn|va|vt|wisc?|wyo"
)
# … and those that are words too, so only with a capital.
_CAPITALISED = "Ark|Cal|Del|Ida|Ill|La|Mass|Miss|Ore|Pa|Tex|Wash"
# A single letter keeps its period unless one of these begins the next sentence. At a caption's end the reference
# looks into the next caption, which mostly begins with one of them; here the period always goes.
_BEGINS = (
    "A|About|After|An|As|At|But|He|Her|Here|However|If|In|It|Many|More|Now|One|Other|Our|She|So|Some|Such|That|The"
    "|Their|Then|There|These|They|This|We|What|When|While|You"
)
_CLITIC = r"(?:n't|'(?:s|m|d|re|ve|ll))(?![^\W_])"

_TOKEN = re.compile(
    rf"""
      (?P<url>(?:https?://|www\.)[^\s"<>]+?(?=[.,;:!?)]*(?:\s|$)))
    | (?P<acronym>(?:[a-z]\.){{2,}}(?![^\W_]))
    | (?P<fraction>\d{{1,4}}[ ]\d{{1,4}}/\d{{1,4}}(?![\w/]))
    | (?P<title>\b(?:{_TITLES}|(?-i:{_CAPITALISED}))\.(?=[\s,;:)"']|$)
        |\bno\.(?=\s*\d)
        |[a-z]\.(?!\s+(?-i:{_BEGINS})\b)(?=[\s,;:)"']))
    | (?P<time>\d+:\d+(?=[ap]m\b))
    | (?P<decade>'\d0s?\b|'n'|'(?=em\b))
    | (?P<measure>\d+(?:[.,]\d+)+-[^\W\d_]+)
    | (?P<decimal>[-+]?\d+(?:[.,]\d+)+(?=[^\W\d_]))
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


# Most captions: letters, commas and a last period need no scanner, which takes 4 times as long.
_PLAIN = re.compile(r"[A-Za-z]+(?:,? [A-Za-z]+)*\.?")
_ABBREVIATION = re.compile(rf"{_TITLES}|{_CAPITALISED}", re.IGNORECASE)


@lru_cache(maxsize=200_000)
def tokenize(caption: str) -> str:
    """The caption's tokens joined by single spaces; '' for text without a word."""
    text = " ".join(caption.translate(_REPLACED).split())
    if _PLAIN.fullmatch(text):
        plain = text.replace(",", "").removesuffix(".").lower()
        words = plain.split(" ")
        if _JOINED.keys().isdisjoint(words) and not _ABBREVIATION.fullmatch(words[-1]):
            return plain
    return scan(text)


def scan(text: str) -> str:
    """The tokens of a text with single spaces."""
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
    if kind == "fraction":
        return [text.replace(" ", "\u00a0")]  # one token there, with a space that str.split takes for one
    if kind == "dots":
        return ["..."]
    if kind == "dashes":
        return ["--"]
    if kind == "quote":
        return ["''"]
    return [_BRACKETS.get(text, text)]
