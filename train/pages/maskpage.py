"""The mask of a few conversations as a page: each token with its reason, the learned ones marked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from datagen.gallery.visible import visible
from train.mask.templates import TemplateSet
from train.pages.document import document
from train.pages.masktokens import MaskRow, MaskToken

SHOWN_TEMPLATES = 40
MAX_IDS = 8  # named in what a block of tokens says about itself


@dataclass(frozen=True, kw_only=True)
class Fate:
    """One entry of the legend: a reason, and whether tokens of it are learned. ``words`` says what it is."""

    reason: str
    learned: bool
    words: str
    tokens: int

    @property
    def key(self) -> str:
        """What the filter of the page knows it by."""
        return f"{self.reason}{'+' if self.learned else ''}"


@dataclass(frozen=True, kw_only=True)
class Block:
    """What is drawn as one: a token, the tokens of one character, or the tokens of one image."""

    html: Markup
    says: str
    reason: str
    learned: bool
    count: int

    @property
    def key(self) -> str:
        """The filter's word for it, as in `Fate`."""
        return f"{self.reason}{'+' if self.learned else ''}"


def mask_html(
    rows: Sequence[MaskRow],
    legend: Mapping[str, str],
    templates: TemplateSet,
    *,
    mode: str,
    title: str = "Mask",
) -> str:
    """The whole page.

    Args:
        legend: words for each reason that may occur, in the order of the page.
        templates: what the mask leaves out of instructions, listed below the rows.
        mode: which of the four masks this is.
    """
    counts = Counter((token.reason, token.learned) for row in rows for token in row.tokens)
    order = {reason: place for place, reason in enumerate(legend)}
    fates = [
        Fate(reason=reason, learned=learned, words=legend.get(reason, reason), tokens=tokens)
        for (reason, learned), tokens in sorted(
            counts.items(), key=lambda item: (not item[0][1], order.get(item[0][0], len(order)), item[0][0])
        )
    ]
    return document(
        "mask.html.jinja",
        styles=("base.css", "mask.css"),
        scripts=("mask.js",),
        title=title,
        mode=mode,
        fates=fates,
        total=sum(counts.values()),
        learned=sum(count for (_, learned), count in counts.items() if learned),
        rows=[
            {
                "title": row.title,
                "note": row.note,
                "blocks": list(blocks(row.tokens)),
                "tokens": len(row.tokens),
                "parts": _parts(row),
            }
            for row in rows
        ],
        templates=templates,
        shown_templates=templates.counts[:SHOWN_TEMPLATES],
    )


def _parts(row: MaskRow) -> list[tuple[str, int]]:
    """Learned tokens by part, then the others by reason, most first."""
    learned = Counter(token.reason for token in row.tokens if token.learned)
    masked = Counter(token.reason for token in row.tokens if not token.learned)
    return [(f"{reason} learned", n) for reason, n in learned.most_common()] + masked.most_common()


def blocks(tokens: Sequence[MaskToken]) -> Iterator[Block]:
    """Tokens as the page draws them; every token is in exactly one block."""
    at = 0
    while at < len(tokens):
        first, end = tokens[at], at + 1
        is_image = first.reason == "image"
        while (
            end < len(tokens)
            and tokens[end][2:4] == first[2:4]  # reason and whether it is learned
            and (is_image or tokens[end].part)
        ):
            end += 1
        yield _block(tokens[at:end], is_image)
        at = end


def _block(tokens: Sequence[MaskToken], is_image: bool) -> Block:
    first, count = tokens[0], len(tokens)
    # Tiled images have tokens of several kinds; each is named once.
    distinct = (
        list(dict.fromkeys(token.token_id for token in tokens)) if is_image else [t.token_id for t in tokens]
    )
    ids = " ".join(map(str, distinct[:MAX_IDS])) + (" …" if len(distinct) > MAX_IDS else "")
    if is_image:
        html = Markup("{} ×{}").format("<image>", count)
    elif first.part or not first.text:
        html = Markup('<span class="blank">∅</span>')
    else:
        html = _with_blanks(first.text)
    fate = "learned" if first.learned else "not learned"
    which = "token" if count == 1 else f"{count} tokens" if is_image else f"one character of {count} tokens"
    reason = first.reason.replace("_", " ")
    return Block(
        html=html,
        says=f"{reason}, {fate}; {which} {ids}",
        reason=first.reason,
        learned=first.learned,
        count=count,
    )


def _with_blanks(text: str) -> Markup:
    """Escaped text with signs for newlines and tabs, and for a blank that stands alone."""
    if not text.strip(" "):
        return Markup('<span class="blank">{}</span>').format("·" * len(text))
    shown = visible(text)
    for blank, sign in (("\n", "↵"), ("\t", "⇥")):
        shown = Markup(str(shown).replace(blank, f'<span class="blank">{sign}</span>{blank}'))
    return shown
