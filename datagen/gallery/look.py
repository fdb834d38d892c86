"""What a person should look at before trusting a data set: plain rules over its facts, with their numbers (ours)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cluster.datasets import Manifest
from datagen.gallery.facts import Facts

# Fewer rows than these say nothing about a share.
MANY = 30


@dataclass(frozen=True, kw_only=True)
class Look:
    """A finding in words; ``facet`` and ``value`` are the page's filter that shows such rows."""

    text: str
    facet: str = ""
    value: str = ""


def worth_a_look(manifest: Manifest, facts: Facts) -> list[Look]:
    """Findings in the order of the pipeline; none for a set without anything odd."""
    return [*_losses(manifest), *_verifier(manifest, facts), *_kinds(facts), *_gates(facts), *_places(facts)]


def _losses(manifest: Manifest) -> Iterator[Look]:
    counts = manifest.totals.counts
    total = sum(counts.values())
    if total < MANY:
        return
    failed = sum(n for key, n in counts.items() if key.startswith("failed"))
    cut = sum(n for key, n in counts.items() if key.startswith("truncated"))
    unread = sum(n for key, n in counts.items() if key.startswith("rejected:parse"))
    if failed > 0.01 * total:
        yield Look(
            text=f"{_share(failed, total)} of the rows failed for technical reasons",
            facet="state",
            value="failed",
        )
    if cut > 0.02 * total:
        yield Look(
            text=f"{_share(cut, total)} of the texts were cut at a token limit",
            facet="state",
            value="truncated",
        )
    if unread > 0.1 * total:
        yield Look(text=f"{_share(unread, total)} of the answers of a model could not be read")


def _verifier(manifest: Manifest, facts: Facts) -> Iterator[Look]:
    said = sum(facts.verdicts.values())
    yes = facts.verdicts["yes"]
    if not said and manifest.totals.tokens.get("calls", 0) >= MANY:
        yield Look(text="no row was verified", facet="verdict", value="none")
    elif said >= MANY and yes > 0.98 * said:
        yield Look(
            text=f"the verifier passes almost everything ({_share(yes, said)} yes)",
            facet="verdict",
            value="yes",
        )


def _kinds(facts: Facts) -> Iterator[Look]:
    rows: dict[str, int] = {}
    kept: dict[str, int] = {}
    for (kind, state), n in facts.kinds().items():
        rows[kind] = rows.get(kind, 0) + n
        kept[kind] = kept.get(kind, 0) + (n if state in ("accepted", "kept_original") else 0)
    for kind in sorted(rows, key=lambda k: kept[k] / rows[k]):
        if rows[kind] >= MANY and kept[kind] < 0.25 * rows[kind]:
            yield Look(
                text=f"only {_share(kept[kind], rows[kind])} of the kind {kind} were accepted",
                facet="kind",
                value=kind,
            )
    largest = max(kept, key=lambda k: kept[k], default="")
    everything = sum(kept.values())
    if len(kept) > 2 and everything >= MANY and kept[largest] > 0.6 * everything:
        yield Look(
            text=f"{_share(kept[largest], everything)} of the accepted rows are of one kind, {largest}"
        )


def _gates(facts: Facts) -> Iterator[Look]:
    for name, (run, failed) in sorted(facts.gates.items()):
        if run >= MANY and failed > 0.5 * run:
            yield Look(
                text=f"the gate {name} stops {_share(failed, run)} of what it sees", facet="gate", value=name
            )


def _places(facts: Facts) -> Iterator[Look]:
    total = sum(facts.places.values())
    if total >= MANY:
        letter, most = facts.places.most_common(1)[0]
        if most > 0.5 * total:
            yield Look(
                text=f"the right option is {letter} in {_share(most, total)} of the choices",
                facet="format",
                value="choice",
            )


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} % ({part:,} of {whole:,})"
