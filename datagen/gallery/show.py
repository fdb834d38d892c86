"""What of a data set a page shows: facts, cards, and what is left out, in words."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, groupby

from markupsafe import Markup

from cluster.datasets import Manifest, read_manifest
from cluster.errors import UserError, did_you_mean
from datagen.gallery import annotated, facts, sample
from datagen.gallery.lineage import Entry, entries
from datagen.gallery.pictures import Picture, image_bytes, side_for, thumbnail
from datagen.gallery.render import render
from datagen.gallery.sample import Choice, Group
from datagen.gallery.visible import label

MAX_BYTES = 20_000_000
# Pictures of one conversation; the card says how many more there are.
MAX_PICTURES = 12


@dataclass(kw_only=True)
class Shown:
    """What of a data set a page shows, and the values that its filters need; ``cards`` is one for each image."""

    uri: str
    manifest: Manifest
    facts: facts.Facts | facts.CorpusFacts
    cards: list[Markup] = field(default_factory=list)
    rows: int = 0
    left_out: int = 0
    notes: list[str] = field(default_factory=list)
    facets: dict[str, Counter[str]] = field(default_factory=dict)
    scores: dict[str, list[float]] = field(default_factory=dict)

    def count(self, facets: str, scores: str = "[]") -> None:
        """Take a row's values into the filters."""
        self.rows += 1
        for name, values in json.loads(facets):
            self.facets.setdefault(name, Counter()).update(values)
        for name, value in json.loads(scores):
            self.scores.setdefault(name, []).append(value)


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where cards come from; ``corpus`` is empty where pictures are missing, and ``trouble`` says why."""

    uri: str
    manifest: Manifest
    corpus: str
    trouble: str
    side: int

    def cards(self, groups: Sequence[Group]) -> Iterator[tuple[Group, list[Entry], list[Picture]]]:
        """Rows and pictures of groups, read shard by shard as they are taken."""
        for shard, of_shard in groupby(sorted(groups, key=lambda g: g.shard), key=lambda g: g.shard):
            members = list(of_shard)
            records = sample.records_of(self.uri, self.manifest, shard, members)
            wanted = {name for group in members for name in group.image_ids[:MAX_PICTURES]}
            data = image_bytes(self.corpus, shard, wanted) if self.corpus else {}
            for group in members:
                pictures = [self._picture(name, data) for name in group.image_ids[:MAX_PICTURES]]
                yield group, entries([records[name] for name in group.ids]), pictures

    def _picture(self, name: str, data: dict[str, bytes]) -> Picture:
        if name in data:
            return thumbnail(name, data[name], self.side)
        return Picture(image_id=name, why="the corpus was not found" if self.trouble else "not in the corpus")


def show(
    uri: str, choice: Choice, *, corpus: str | None = None, max_bytes: int = MAX_BYTES, alone: bool = True
) -> Shown:
    """Facts and cards of one data set.

    Args:
        max_bytes: cards beyond this are left out.
        alone: the page is one of its own, with filters that rows may link to.
    """
    manifest = read_manifest(uri)
    if manifest.kind == "corpus":
        return _show_corpus(uri, manifest, choice, max_bytes)
    if manifest.kind != "instructions":
        raise UserError(
            f"{uri} is a dataset of kind {manifest.kind}; the gallery shows instructions and corpora"
        )
    return _show_instructions(uri, manifest, choice, corpus, max_bytes, alone)


def _show_instructions(
    uri: str, manifest: Manifest, choice: Choice, corpus: str | None, max_bytes: int, alone: bool
) -> Shown:
    _check_state(uri, manifest, choice)
    found = facts.facts_of(uri, manifest, _looked_at(manifest, choice))
    first, others = sample.choose(uri, manifest, found, choice)
    if not first and not others and (choice.state or choice.kind):
        raise UserError(_nothing(uri, found, choice))
    place, trouble = _corpus_of(manifest, corpus, needed=set(found.pictures) != {"text only"})
    side = side_for(len(first) + len(others))
    source = Source(uri=uri, manifest=manifest, corpus=place, trouble=trouble, side=side)
    shown = Shown(uri=uri, manifest=manifest, facts=found)
    kept: list[tuple[Group, Markup]] = []
    size = 0
    # What makes every state and kind occur comes before the page is full.
    for group, rows, pictures in chain(source.cards(first), source.cards(others)):
        html = render("card.html.jinja", group=group, pictures=pictures, entries=rows, alone=alone)
        size += len(html.encode())
        if size > max_bytes:
            break
        kept.append((group, html))
        for entry in rows:
            shown.count(entry.facets, entry.scores)
    kept.sort(key=lambda card: (card[0].shard, card[0].place))
    shown.cards = [html for _, html in kept]
    shown.left_out = len(first) + len(others) - len(kept)
    shown.notes = [*_said(shown, max_bytes), *([trouble] if trouble else [])]
    if absent := sample.missing(found, choice, [group for group, _ in kept]):
        some = ", ".join(map(label, absent[:6])) + (" …" if len(absent) > 6 else "")
        shown.notes.append(f"not on this page: {some}; raise --images, or ask with --state or --kind")
    return shown


def _show_corpus(uri: str, manifest: Manifest, choice: Choice, max_bytes: int) -> Shown:
    if choice.kind:
        raise UserError(f"--kind {choice.kind}: {uri} is a corpus, and its images have no kind")
    _check_state(uri, manifest, choice)
    looked_at = _looked_at(manifest, choice)
    shown = Shown(uri=uri, manifest=manifest, facts=facts.corpus_facts(uri, manifest, looked_at))
    picks = annotated.choose(uri, manifest, looked_at, choice)
    size = 0
    for image in annotated.read(uri, picks, side_for(len(picks))):
        html = render("annotated.html.jinja", image=image)
        size += len(html.encode())
        if size > max_bytes:
            break
        shown.cards.append(html)
        shown.count(image.facets)
    shown.left_out = len(picks) - len(shown.cards)
    shown.notes = _said(shown, max_bytes)
    return shown


def _looked_at(manifest: Manifest, choice: Choice) -> list[int]:
    if choice.images is None:
        return list(range(len(manifest.shards)))
    return facts.shards_to_look_at(manifest, choice.seed, choice.state)


def _corpus_of(manifest: Manifest, given: str | None, *, needed: bool) -> tuple[str, str]:
    """Where the pictures are, or why there are none: a set that lost its corpus still has its texts."""
    if given is not None:
        if (kind := read_manifest(given).kind) != "corpus":
            raise UserError(f"--corpus {given}: that is a dataset of kind {kind}")
        return given, ""
    trouble = "no corpus is named as a parent"
    for parent in manifest.parents:
        try:
            if read_manifest(parent.uri).kind == "corpus":
                return parent.uri, ""
        except UserError as error:
            trouble = str(error)
    if not needed:
        return "", ""
    return "", f"pictures are missing: {trouble}. If they are elsewhere, say where with --corpus"


def _check_state(uri: str, manifest: Manifest, choice: Choice) -> None:
    states = manifest.totals.counts
    if not any(facts.is_of(key, choice.state) for key in states) and choice.state:
        raise UserError(
            f"--state {choice.state}: no row of {uri} ended so{did_you_mean(choice.state, states)} "
            f"There are {', '.join(states)}"
        )


def _nothing(uri: str, found: facts.Facts, choice: Choice) -> str:
    kinds = sorted({kind for kind, _ in found.kinds()})
    some = ", ".join(kinds[:20]) + (" …" if len(kinds) > 20 else "")
    where = "" if found.complete else f" in the {len(found.looked_at)} of {found.shards} shards looked at"
    wanted = " and ".join(
        filter(None, [choice.kind and f"kind {choice.kind}", choice.state and f"state {choice.state}"])
    )
    return f"{uri}: no row of {wanted}{where}; kinds are {some}"


def _said(shown: Shown, max_bytes: int) -> list[str]:
    """What is shown out of how many, in words."""
    total = sum(shown.manifest.totals.counts.values())
    if isinstance(shown.facts, facts.CorpusFacts):
        text = f"{shown.rows:,} of {total:,} images"
    else:
        what = "images or texts" if "text only" in shown.facts.pictures else "images"
        text = f"{shown.rows:,} of {total:,} rows, about {len(shown.cards):,} {what}"
    if shown.left_out:
        text += f"; {shown.left_out:,} more would make the page larger than {max_bytes / 1e6:.0f} MB"
    if shown.facts.complete:
        return [text]
    looked_at = f"{len(shown.facts.looked_at)} of {shown.facts.shards} shards"
    return [text, f"its tables are of {shown.facts.rows:,} rows in {looked_at}"]
