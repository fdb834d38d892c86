"""Rows that name their pictures by path: grouped so that each picture is stored once and every conversation lies in
the shard of its pictures. Used by the importers of LLaVA JSON, of folders with rows, and of Parquet with paths.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from cluster.errors import UserError
from datagen.importers import fields
from datagen.importers.conversations import conversation_record, rejected_record
from datagen.importers.grouping import Buckets, Links, digest
from datagen.importers.importer import Tick
from datagen.importers.json_stream import Element
from datagen.importers.options import ImportOptions
from datagen.importers.pictures import Annotations, Picture
from datagen.importers.rejects import BadRow, CorpusReject, printable
from datagen.importers.roots import Root, clean_name
from datagen.importers.work import Context, WorkLists
from datagen.records import Record

# A conversation may tie at most so many pictures to one shard, in shards: else one chain of shared pictures could
# pull a whole data set into one.
GROUP_SHARDS = 4


@dataclass(frozen=True)
class RowLists:
    """``talks``: every row must be a conversation (LLaVA); otherwise a row may annotate its picture instead."""

    talks: bool

    def scan(
        self,
        options: ImportOptions,
        rows: Iterable[tuple[int, Element]],
        lists: WorkLists,
        folder: Path,
        tick: Tick,
    ) -> Context:
        """Write the work lists of ``(file number, row)``; their lines are the groups of rows that share pictures.

        Raises:
            UserError: none of the first pictures is under the root.
        """
        buckets = Buckets(folder / "rows")
        links = Links(folder / "links.sqlite", limit=options.shard_images * GROUP_SHARDS)
        sample: dict[int, str] = {}
        number, talks, seen = 0, self.talks, 0
        for number, (file, element) in enumerate(rows, 1):
            key, item, names = self._place(options, file, element, links)
            buckets.add(key, item)
            for name in names[:1]:
                sample.setdefault(key[0], name)
            talks = talks or fields.value_of("conversations", options.columns, _mapping(element)) is not None
            if number - seen >= 1000:
                tick(number - seen)
                seen = number
        tick(number - seen)
        check_sample(options, list(sample.values()))
        grouped = buckets if links.empty else _regrouped(buckets, links, folder)
        groups = images = 0
        for key, items in grouped.groups():
            if options.limit is not None and groups >= options.limit:
                break
            weight = 1 if links.empty else links.size(key)
            lists.add(b"[%b]" % b",".join(items), weight)
            groups, images = groups + 1, images + weight
        links.close()
        return Context(shards=lists.close(), instructions=talks, rows=number, images=images)

    def pictures(
        self, options: ImportOptions, files: list[str], work: Iterable[Any]
    ) -> Iterator[Picture | CorpusReject]:
        """Every picture of the groups once, with the annotations of the first row that has any."""
        root = Root(options.images or "")
        for group in work:
            named: dict[str, Picture | CorpusReject] = {}
            listed: set[str] = set()
            for item in group:
                where = f"{files[item['f']]} row {item['n']}"
                for found, lists in self._row_pictures(options, root, item, where):
                    name = found.image_id
                    if lists and isinstance(found, CorpusReject):
                        yield found
                    elif lists and name in listed:
                        detail = "an earlier row is about this picture"
                        yield CorpusReject(image_id=name, reason="duplicate_id", detail=detail, where=where)
                    elif lists:
                        listed.add(name)
                        named[name] = found
                    else:
                        named.setdefault(name, found)
            yield from named.values()

    def records(
        self, options: ImportOptions, files: list[str], work: Iterable[Any], pictures: Mapping[str, str]
    ) -> Iterator[Record]:
        """The conversation of every row that has one, or should have."""
        for group in work:
            for item in group:
                where = f"{files[item['f']]} row {item['n']}"
                if "bad" in item:
                    if self.talks:
                        yield rejected_record(options, where, item["bad"][0], item["bad"][1])
                    continue
                row = item["row"]
                conversation = fields.value_of("conversations", options.columns, row)
                if conversation is None and not self.talks:
                    continue
                names = [image_name(value)[0] for value in fields.image_values(options.columns, row)]
                yield conversation_record(options, where, row, conversation, names, pictures)

    def _place(
        self, options: ImportOptions, file: int, element: Element, links: Links
    ) -> tuple[bytes, bytes, list[str]]:
        """The digest a row is grouped by, its line, and its pictures' names."""
        number = element.number
        try:
            if element.reason:
                raise BadRow(element.reason, element.detail)
            if not isinstance(element.value, dict):
                raise BadRow("malformed", f"a row is an object, this is {type(element.value).__name__}")
            values = fields.image_values(options.columns, element.value)
            names = list(dict.fromkeys(image_name(value)[0] for value in values))
            keys = [digest(name) for name in names]
            if len(keys) > 1 and not links.join(keys):
                limit = options.shard_images * GROUP_SHARDS
                raise BadRow("image_group", f"more than {limit} pictures tied together; raise --shard-images")
        except BadRow as error:
            bad = json.dumps({"f": file, "n": number, "bad": [error.reason, printable(str(error))]})
            return digest(f"bad row {file} {number}"), bad.encode(), []
        item = b'{"f":%d,"n":%d,"row":%b}' % (file, number, element.raw)
        if not keys:
            # By content, so that the same text twice meets itself in one shard.
            return digest("text " + element.raw.decode()), item, []
        return keys[0], item, names

    def _row_pictures(
        self, options: ImportOptions, root: Root, item: Mapping[str, Any], where: str
    ) -> Iterator[tuple[Picture | CorpusReject, bool]]:
        """The pictures of one row, and whether the row stands for them in the corpus or only talks about them."""
        if "bad" in item:
            if not self.talks:
                reason, detail = item["bad"]
                yield CorpusReject(image_id="", reason=reason, detail=detail, where=where), True
            return
        row = item["row"]
        lists = self._lists(options, row)
        values = fields.image_values(options.columns, row)
        if lists and not values:
            yield CorpusReject(image_id="", reason="no_image", detail="names no picture", where=where), True
        for value in values:
            name, bad = image_name(value)
            notes = Annotations()
            try:
                if bad is not None:
                    raise bad
                if lists and len(values) == 1:
                    notes = fields.read_annotations(options.columns, row)
            except BadRow as error:
                yield CorpusReject(image_id=name, reason=error.reason, detail=str(error), where=where), lists
            else:
                read = partial(root.read, name)
                yield Picture(image_id=name, where=where, read=read, annotations=notes), lists

    def _lists(self, options: ImportOptions, row: Mapping[str, Any]) -> bool:
        """Whether a row stands for its picture in the corpus: it annotates it, or holds nothing else."""
        if self.talks:
            return False
        talks = fields.value_of("conversations", options.columns, row) is not None
        return not talks or fields.says_something(options.columns, row)


def image_name(value: object) -> tuple[str, BadRow | None]:
    """The id of the picture that a row names, and why it cannot be one of ours."""
    try:
        return clean_name(value), None
    except BadRow as error:
        return printable(str(value)), error


def check_sample(options: ImportOptions, names: list[str]) -> None:
    """Whether the root is the right one: one of the sampled pictures must be there.

    Raises:
        UserError: none is, or there is no root though rows name pictures.
    """
    clean = [name for name in names if image_name(name)[1] is None]
    if not clean:
        return
    if options.images is None:
        raise UserError(f"rows name pictures ({clean[0]!r} …); give the folder they are under: --images ROOT")
    root = Root(options.images)
    if not any(root.exists(name) for name in clean):
        raise UserError(
            f"none of {len(clean)} pictures looked for is under {options.images}, as {clean[0]!r}. "
            "--images is the folder that these paths start from."
        )


def _mapping(element: Element) -> Mapping[str, Any]:
    return element.value if isinstance(element.value, dict) else {}


def _regrouped(buckets: Buckets, links: Links, folder: Path) -> Buckets:
    """The same items under the one key of all that is tied together."""
    tied = Buckets(folder / "tied")
    for key, items in buckets.groups():
        top = links.find(key)
        for item in items:
            tied.add(top, item)
    return tied
