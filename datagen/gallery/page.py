"""The page: books, facts, a sample of cards and their filters in one file that loads nothing.

Everything is in the HTML and readable without JavaScript; the script only hides, counts and sorts what is there.
A policy in the page lets this very script and style run and nothing else, whatever a row's text might smuggle in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from markupsafe import Markup

from cluster.datasets import read_manifest
from cluster.errors import UserError
from cluster.pages import policy
from datagen.gallery.books import TONES, books, in_words, tone_of
from datagen.gallery.facts import Facts, ScoreFacts, spread
from datagen.gallery.look import worth_a_look
from datagen.gallery.render import TEMPLATES, render
from datagen.gallery.sample import Choice
from datagen.gallery.show import MAX_BYTES, Shown, show
from datagen.gallery.visible import label

CSS = (TEMPLATES / "gallery.css").read_text()
# The filters of a page in their order, with the names they have on it; a facet has at most MAX_VALUES boxes.
FACETS = {
    "state": "state",
    "reason": "how it ended",
    "kind": "kind",
    "format": "format",
    "verdict": "verdict",
    "gate": "failed gate",
    "rewrite": "rewrite",
    "source": "source",
    "has": "annotations",
    "object": "object",
}
MAX_VALUES = 40


@dataclass(frozen=True, kw_only=True)
class Page:
    """A page, and what to say about it on the command line."""

    html: str
    notes: list[str]


@dataclass(frozen=True, kw_only=True)
class Box:
    """A value of a filter: words for it, and how many rows of the page have it."""

    value: str
    words: str
    tone: str
    rows: int


@dataclass(frozen=True, kw_only=True)
class Filter:
    """A facet with its values, the most frequent first; ``more`` values are not listed."""

    facet: str
    name: str
    boxes: list[Box]
    more: int


def section(uri: str, *, images: int = 8, seed: int = 0, corpus: str | None = None) -> str:
    """The HTML of one instruction set's books and samples, without script, to stand in a page that has `CSS`.

    Raises:
        UserError: ``uri`` is not a published data set, or ``corpus`` is none.
    """
    manifest = read_manifest(uri)
    if manifest.kind != "instructions":
        raise UserError(f"{uri} is a dataset of kind {manifest.kind}; here the gallery shows instructions")
    return _section(show(uri, Choice(images=images, seed=seed), corpus=corpus, alone=False), alone=False)


def gallery_html(
    uris: Sequence[str], *, images: int | None = 24, seed: int = 0, corpus: str | None = None
) -> str:
    """A whole page with a section for every data set; ``images`` None for all of them. See `build`."""
    return build(uris, Choice(images=images, seed=seed), corpus=corpus).html


def build(
    uris: Sequence[str], choice: Choice, *, corpus: str | None = None, max_bytes: int = MAX_BYTES
) -> Page:
    """A page of instruction sets and corpora.

    Args:
        corpus: where the images are, if not at the parent that a manifest names.
        max_bytes: cards beyond this are left out, and the page says how many.

    Raises:
        UserError: not a published data set of these kinds, or nothing in it is what ``choice`` asks for.
    """
    found = [show(uri, choice, corpus=corpus, max_bytes=max_bytes // len(uris)) for uri in uris]
    script = (TEMPLATES / "gallery.js").read_text()
    style = CSS + (TEMPLATES / "page.css").read_text()
    html = render(
        "page.html.jinja",
        title=", ".join(label(shown.manifest.name) for shown in found),
        policy=policy(style, script, pictures=True),
        style=Markup(style),
        script=Markup(script),
        sections=[Markup(_section(shown, alone=True)) for shown in found],
        filters=list(_filters(found)),
        scores=_score_ranges(found),
        sorts=_sorts(found),
        rows=sum(shown.rows for shown in found),
        cards=sum(len(shown.cards) for shown in found),
        instructions=any(shown.manifest.kind == "instructions" for shown in found),
        start=_start(choice),
    )
    return Page(html=str(html), notes=[note for shown in found for note in shown.notes])


def _section(shown: Shown, *, alone: bool) -> str:
    slices = books(shown.manifest)
    instructions = isinstance(shown.facts, Facts)
    return render(
        "gallery.html.jinja" if instructions else "corpus.html.jinja",
        shown=shown,
        manifest=shown.manifest,
        facts=shown.facts,
        slices=slices,
        total=sum(s.rows for s in slices),
        kept=sum(s.rows for s in slices if s.tone in ("good", "kept")),
        tokens=shown.manifest.totals.tokens,
        tones=[(state, tone) for state, tone in TONES.items() if any(s.tone == tone for s in slices)],
        looks=worth_a_look(shown.manifest, shown.facts) if isinstance(shown.facts, Facts) else [],
        alone=alone,
    )


def _filters(found: list[Shown]) -> Iterator[Filter]:
    for facet, name in FACETS.items():
        counts: Counter[str] = Counter()
        for shown in found:
            counts.update(shown.facets.get(facet, Counter()))
        if not counts or (facet == "reason" and set(counts) == {"accepted"}):
            continue
        boxes = [
            Box(
                value=value,
                words=in_words(value) if facet == "reason" else value.replace("_", " "),
                tone=tone_of(value) if facet in ("state", "reason") else "",
                rows=rows,
            )
            for value, rows in counts.most_common(MAX_VALUES)
        ]
        yield Filter(facet=facet, name=name, boxes=boxes, more=len(counts) - len(boxes))


def _score_ranges(found: list[Shown]) -> list[tuple[str, ScoreFacts]]:
    values: dict[str, list[float]] = {}
    for shown in found:
        for name, numbers in shown.scores.items():
            values.setdefault(name, []).extend(numbers)
    return [(name, spread(numbers)) for name, numbers in sorted(values.items())]


def _sorts(found: list[Shown]) -> list[tuple[str, str]]:
    """Orders of cards: what the script sorts by (descending with a minus), and its words."""
    kinds = {shown.manifest.kind for shown in found}
    sorts = [("", "as in the corpus"), ("state", "worst first")]
    sorts += [("-length", "longest text first"), ("length", "shortest text first")]
    if "instructions" in kinds:
        sorts += [("-gates", "most failed gates first"), ("-depth", "longest lineage first")]
    if "corpus" in kinds:
        sorts += [("-items", "most boxes first"), ("items", "fewest boxes first")]
    for name in sorted({name for shown in found for name in shown.scores}):
        sorts += [(f"score:{name}", f"lowest {name} first"), (f"-score:{name}", f"highest {name} first")]
    return sorts


def _start(choice: Choice) -> str:
    """The filter that a page begins with: what was asked for on the command line."""
    facet = "reason" if ":" in choice.state else "state"
    return urlencode([(name, v) for name, v in ((facet, choice.state), ("kind", label(choice.kind))) if v])
