"""``l2t view <instructions>``: images with what was written about them, the verdicts, and where every row
went.

One self-contained page without scripts. `section` and `CSS` are the same without the page around them, for
other pages to embed; all class names begin with ``g-``.
"""

from __future__ import annotations

import argparse
import base64
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from cluster import storage
from cluster.datasets import Manifest, read_manifest, read_shard
from cluster.errors import UserError
from datagen.corpus import BadImage, decode_image
from datagen.programs.draft import outcome
from datagen.records import Record, from_table

TEMPLATES = Path(__file__).parent / "templates"
CSS = (TEMPLATES / "gallery.css").read_text()
TONES = {"accepted": "good", "kept_original": "kept", "rejected": "out", "truncated": "cut", "failed": "bad"}
# What reasons mean, for people who have not read the programs.
WORDS = {
    "accepted": "accepted",
    "kept_original": "accepted, original answer kept after failed rewrites",
    "rejected:unverified": "the verifier said no",
    "rejected:duplicate": "says the same as another row of its image",
    "failed:image": "the image cannot be decoded",
    "failed:row": "the corpus row is malformed",
}
STEPS = {
    "synthesize": "the drafted question",
    "complicate": "the harder question",
    "verify": "the verdict",
    "bool_yes": "the yes question",
    "bool_no": "the no question",
    "choice": "the options",
    "instruct": "the instruction",
    "respond": "the response",
}
MAX_SHARDS = 4
THUMBNAIL = 256


@dataclass(frozen=True, kw_only=True)
class Slice:
    """One terminal state in the books; ``left`` and ``share`` are per cent of all rows, ``shade`` the opacity that
    tells neighbours of one tone apart."""

    key: str
    words: str
    tone: str
    rows: int
    share: float
    left: float
    shade: float


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One record as the page shows it; ``depth`` is its distance from the first draft of its lineage."""

    record: Record
    tone: str
    fate: str
    depth: int
    made: str
    before: str
    draft: str


@dataclass(frozen=True, kw_only=True)
class Card:
    """An image and what was written about it; ``data`` is a data URL, empty where the image cannot be
    shown.
    """

    image_id: str
    data: str
    small: bool
    entries: list[Entry] = field(default_factory=list)


def in_words(key: str) -> str:
    """A terminal state in plain words."""
    if key in WORDS:
        return WORDS[key]
    state, _, reason = key.partition(":")
    what, _, step = reason.partition(":")
    text = STEPS.get(step or what, step or what)
    match state, what:
        case "rejected", "parse":
            return f"{text} could not be read"
        case "rejected", "gate":
            return f"stopped by the gate {step.replace('_', ' ')}"
        case "rejected", "answer":
            return f"{text} came with another answer"
        case "rejected", "options":
            return "fewer than three different wrong options"
        case "rejected", "unchanged":
            return "the harder question was the old one"
        case "truncated", _:
            return f"{text} was cut at its token limit"
        case "failed", _:
            return f"the engine refused the call for {text}"
    return key


def books(manifest: Manifest) -> list[Slice]:
    """Rows by terminal state, accepted first, then by number; their rows add up to all rows."""
    counts = manifest.totals.counts
    total = max(1, sum(counts.values()))
    tones = list(TONES)
    order = sorted(
        counts.items(), key=lambda item: (tones.index(item[0].partition(":")[0]), -item[1], item[0])
    )
    slices: list[Slice] = []
    left = 0.0
    for key, rows in order:
        share = 100 * rows / total
        tone = TONES[key.partition(":")[0]]
        shade = 1.0 - 0.15 * min(4, sum(s.tone == tone for s in slices))
        words = in_words(key)
        slices.append(Slice(key=key, words=words, tone=tone, rows=rows, share=share, left=left, shade=shade))
        left += share
    return slices


def cards(uri: str, manifest: Manifest, images: int, seed: int, corpus: str | None = None) -> list[Card]:
    """Seeded sample of images with all their records; from at most MAX_SHARDS shards.

    Args:
        corpus: where the images are, if not at the parent that the manifest names.
    """
    if corpus is None:
        corpora = [p.uri for p in manifest.parents]
        if not corpora:
            raise UserError(f"{uri} names no corpus as its parent; give one with --corpus")
        corpus = corpora[0]
    rng = random.Random(seed)
    shards = rng.sample(range(len(manifest.shards)), min(MAX_SHARDS, len(manifest.shards)))
    found: list[Card] = []
    for number, shard in enumerate(sorted(shards)):
        by_image: dict[str, list[Record]] = {}
        for stream in manifest.shards[shard].parts:
            for record in from_table(read_shard(uri, shard, stream)):
                if len(record.image_ids) == 1:
                    by_image.setdefault(record.image_ids[0], []).append(record)
        wanted = (images - len(found)) // (len(shards) - number)
        picked = set(rng.sample(sorted(by_image), min(wanted, len(by_image))))
        table = read_shard(corpus, shard, columns=["image_id", "image"])
        for row in table.to_pylist():
            if row["image_id"] in picked:
                found.append(
                    _card(row["image_id"], (row["image"] or {}).get("bytes"), by_image[row["image_id"]])
                )
    return found


def _card(image_id: str, data: bytes | None, records: list[Record]) -> Card:
    import io

    try:
        picture = decode_image(data or b"")
    except BadImage:
        return Card(image_id=image_id, data="", small=False, entries=_entries(records))
    small = max(picture.size) <= THUMBNAIL // 2
    picture.thumbnail((THUMBNAIL * 2, THUMBNAIL * 2))
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG" if small else "JPEG")
    kind = "png" if small else "jpeg"
    url = f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
    return Card(image_id=image_id, data=url, small=small, entries=_entries(records))


def _entries(records: list[Record]) -> list[Entry]:
    """Records of an image as a family tree: each under what it was made from."""
    known = {r.id for r in records}
    children: dict[str, list[Record]] = {}
    for record in sorted(records, key=lambda r: (TONES[r.state] != "good", r.round, r.format)):
        parent = next((p for p in record.parents if p in known), "")
        children.setdefault(parent, []).append(record)
    entries: list[Entry] = []

    def walk(parent: str, depth: int, round: int) -> None:
        for record in children.get(parent, []):
            entries.append(_entry(record, depth, round))
            walk(record.id, depth + 1, record.round)

    walk("", 0, 0)
    return entries


def _entry(record: Record, depth: int, parent_round: int) -> Entry:
    made = ""
    if record.kind == "choice":
        made = "as a choice"
    elif depth:
        made = f"made harder, round {record.round}" if record.round > parent_round else "as yes or no"
    return Entry(
        record=record,
        tone=TONES[record.state],
        fate=in_words(outcome(record.state, record.reason)),
        depth=min(depth, 3),
        made=made,
        before=next((g.detail for g in record.gates if g.name == "original_answer"), ""),
        draft=next((t.text for t in record.conversation if t.role == "draft"), ""),
    )


def section(uri: str, *, images: int = 8, seed: int = 0, corpus: str | None = None) -> str:
    """The HTML of one data set's books and samples, to stand in a page that has `CSS` in its style.

    Raises:
        UserError: ``uri`` or its corpus is not a published data set.
    """
    manifest = read_manifest(uri)
    if manifest.kind != "instructions":
        raise UserError(f"{uri} is a dataset of kind {manifest.kind}; the gallery shows instructions")
    slices = books(manifest)
    return _template("gallery.html.jinja").render(
        uri=uri,
        manifest=manifest,
        slices=slices,
        total=sum(s.rows for s in slices),
        kept=sum(s.rows for s in slices if s.tone in ("good", "kept")),
        tokens=manifest.totals.tokens,
        cards=cards(uri, manifest, images, seed, corpus),
    )


def gallery_html(uris: Sequence[str], *, images: int = 12, seed: int = 0, corpus: str | None = None) -> str:
    """A whole page with a section for every data set."""
    sections = [Markup(section(uri, images=images, seed=seed, corpus=corpus)) for uri in uris]
    return _template("page.html.jinja").render(css=Markup(CSS), sections=sections)


def _template(name: str) -> Any:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["thousands"] = lambda n: f"{n:,}".replace(",", "\u202f")
    return environment.get_template(name)


def main(argv: Sequence[str] | None = None) -> int:
    """Write the page; 0 done, 2 for bad input."""
    parser = argparse.ArgumentParser(prog="l2t view", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("instructions", nargs="+", help="URIs of published instruction data sets")
    parser.add_argument("--out", default="gallery.html", help="file or URI of the page (gallery.html)")
    parser.add_argument("--images", type=int, default=12, help="images shown of each data set (12)")
    parser.add_argument("--seed", type=int, default=0, help="which images")
    parser.add_argument("--corpus", help="URI of the corpus, if it is no longer where it was")
    args = parser.parse_args(argv)
    try:
        page = gallery_html(args.instructions, images=args.images, seed=args.seed, corpus=args.corpus)
        storage.write_bytes(args.out, page.encode())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(args.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
