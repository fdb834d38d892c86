"""Template mining: in how many human turns of the whole training set each sentence stands (L2T section 3.2).

What a sentence is, :func:`train.mask.templates.sentences` defines; here the same is counted for a whole column of texts
at once, without a Python object per text. The trick is that everything that ends a sentence can be marked in the bytes
of the column without moving any: a space after a mark becomes a newline, and every other whitespace becomes a space.

In one process shards are counted one by one, the counts of equal sentences summed, and what is rarer than the threshold
dropped at the very end. A cluster moves no rare sentence: one that is below the share in every part is below it in the
whole, so that only those above it somewhere are looked up everywhere (the partition algorithm of Savasere, Omiecinski
and Navathe, VLDB 1995).
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cluster import datasets
from cluster.errors import UserError
from train.config import DataSource
from train.feed.mixture import filtered_rows
from train.mask.templates import TemplateSet, fold

if TYPE_CHECKING:
    import pyarrow as pa

# A million turns take four seconds here, where Ray needs seven to start its workers; above this a cluster is worth it,
# and the distinct sentences may no longer fit one process.
FEW_SHARDS = 128
# Each takes some 50 MiB while it counts.
THREADS = 8
# Rows counted at once: the texts of so many stay in the CPU's cache and keep the peak of memory low.
ROWS = 4096
# The cluster counts so many parts for each of its cores: enough to share them out evenly, and large, since in a part of
# few turns every sentence is above the share, and Ray takes its time for every task.
PARTS_A_CORE = 8
# 0.07 of 100 turns are 7.000000000000001, of 500 exactly 35: without it 7 of 100 would be too few, and a share that the
# whole has exactly would be lost in its parts.
ROUNDING = 1e-9
# A sentence seen once or twice is no template, however small the data set.
FLOOR = 3
# Counts of so many sentences are held before equal ones are summed, and so many are summed at once.
HELD_ROWS, GROUP_ROWS = 1 << 19, 1 << 15
# Stands for the turn itself in tables of counts: no sentence is empty.
TURN = ""
# Begins a text that is no sentence but an error: no sentence holds a newline.
WRONG = "\n"
# A shard: its set of instructions with the filters on its rows, and its index.
Work = tuple[DataSource, int]
# What is left of "A. red" after a split at the mark.
_OPTION = re.compile(r"\W*\w{1,2}\W*")
_SPACES = bytes.maketrans(b"\t\v\f\r\x1c\x1d\x1e\x1f", b" " * 8)


def mine_dataset(sources: Sequence[DataSource], *, min_share: float, top_k: int | None = None) -> TemplateSet:
    """Sentences in at least ``min_share`` of the human turns (and in three), of these the ``top_k`` most frequent.

    Every row of every source counts once, whatever the weight of its source; rows that its ``kinds`` or ``share`` leave
    out do not count. Sources without instructions are passed over. A sentence counts once per turn. Letters and numbers
    of options ("A.") are no templates, however frequent: the paper's lists have none.

    Up to :data:`FEW_SHARDS` shards are counted in this process, shard by shard and without Ray; of more, the same
    functions count them in tasks of Ray Data, in the cluster that runs already or that the environment names, else in
    one started here. Both give the same set.

    Raises:
        UserError: a data set cannot be read.
    """
    work = [
        (source, shard)
        for source in sources
        if source.instructions is not None
        for shard in range(len(datasets.read_manifest(source.instructions).shards))
    ]
    counts = _counted_by_ray(work, min_share) if len(work) > FEW_SHARDS else _counted_here(work)
    return _choose(counts, min_share, top_k)


def _counted_here(work: Sequence[Work]) -> pa.Table:
    """Counts by threads: Arrow and numpy let go of the interpreter for most of the work."""
    with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
        return _sum(pool.map(lambda shard: count_shard(*shard), work), FLOOR)


def _counted_by_ray(work: Sequence[Work], min_share: float) -> pa.Table:
    """Counts of the sentences in ``min_share`` of the turns of some part; all others stay where they were counted."""
    from cluster.runtime import init_ray
    from datagen.curate.shards import quiet

    with init_ray():
        import pyarrow as pa
        import pyarrow.compute as pc
        import ray

        quiet()
        cores = ray.cluster_resources().get("CPU", 0)
        number = min(
            len(work), max(FEW_SHARDS, round(PARTS_A_CORE * cores))
        )  # a cluster may still have to grow
        parts = ray.data.from_items([{"work": k} for k in range(len(work))], override_num_blocks=number)
        tables: dict[str, Any] = {"batch_size": None, "batch_format": "pyarrow"}
        counted = parts.map_batches(partial(_count_part, work, min_share), **tables).materialize()
        frequent = counted.map_batches(_frequent, **tables).iter_batches(**tables)
        texts = pc.unique(pa.chunked_array([part["text"].cast(pa.large_string()) for part in frequent]))
        counts = _sum(counted.map_batches(partial(_only, texts), **tables).iter_batches(**tables))
    wrong = counts.filter(pc.starts_with(counts["text"], WRONG))
    if wrong.num_rows:
        raise UserError(wrong["text"][0].as_py().removeprefix(WRONG))
    return counts


def _count_part(work: Sequence[Work], min_share: float, batch: pa.Table) -> pa.Table:
    """Counts of a part's shards, the frequent ones marked. What a person can put right comes back as a text, since Ray
    wraps exceptions."""
    import pyarrow as pa

    try:
        counts = _sum(count_shard(*work[k]) for k in batch["work"].to_pylist())
    except UserError as error:
        counts = pa.table({"text": [f"{WRONG}{error}"], "turns": [FLOOR]}, schema=_empty().schema)
    return _marked(counts, min_share)


def _marked(counts: pa.Table, min_share: float) -> pa.Table:
    """With ``frequent``: whether the sentence is in ``min_share`` of these turns, or so near to it that rounding
    decides."""
    import pyarrow.compute as pc

    turns = pc.sum(counts.filter(pc.equal(counts["text"], TURN))["turns"]).as_py() or 0
    return counts.append_column(
        "frequent", pc.greater_equal(counts["turns"], (1 - ROUNDING) * min_share * turns)
    )


def _frequent(counts: pa.Table) -> pa.Table:
    return counts.filter(counts["frequent"]).select(["text"])


def _only(texts: pa.Array, counts: pa.Table) -> pa.Table:
    import pyarrow.compute as pc

    return counts.filter(pc.is_in(counts["text"], texts)).select(["text", "turns"])


def count_shard(source: DataSource, shard: int) -> pa.Table:
    """Counts of one shard: ``text`` (large_string, distinct) and ``turns`` (int64), see :func:`count_turns`."""
    rows = filtered_rows(source, shard, ["conversation"])
    return _sum(count_turns(texts) for texts in _human_turns(rows))


def _human_turns(rows: pa.Table) -> Iterator[pa.Array]:
    """Texts of the user turns, some thousand rows at a time; a missing text is an empty one."""
    import pyarrow.compute as pc

    for batch in rows.to_batches(max_chunksize=ROWS):
        turns = batch["conversation"].flatten()
        user = pc.fill_null(pc.equal(pc.struct_field(turns, "role"), "user"), False)
        yield pc.fill_null(pc.struct_field(turns, "text").filter(user), "")


def count_turns(texts: pa.StringArray) -> pa.Table:
    """In how many of ``texts`` each sentence stands, and under the text :data:`TURN` how many texts there are.

    Equal to counting ``set(sentences(text))`` over the texts.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    pieces = pc.split_pattern(_one_sentence_a_line(texts), "\n")
    turn, sentences = pc.list_parent_indices(pieces), pc.ascii_trim(pieces.flatten(), " ")
    said = pc.greater(pc.binary_length(sentences), 0)
    coded = sentences.filter(said).dictionary_encode()
    distinct = len(coded.dictionary)
    pairs = np.sort(turn.filter(said).to_numpy() * distinct + coded.indices.to_numpy())
    once = pairs[np.diff(pairs, prepend=-1) > 0]
    counts = np.bincount(once % max(distinct, 1), minlength=distinct)
    text = pa.concat_arrays([coded.dictionary, pa.array([TURN], pa.string())])
    # Large strings: all distinct sentences of a large set together pass the 2 GiB of small ones.
    return pa.table({"text": text.cast(pa.large_string()), "turns": np.append(counts, len(texts))})


def _one_sentence_a_line(texts: pa.StringArray) -> pa.StringArray:
    """The texts folded, in another order, with newlines where sentences end and spaces for all other whitespace."""
    import pyarrow as pa
    import pyarrow.compute as pc

    texts = pc.replace_substring(texts, "<image>", "\n")
    plain = pc.string_is_ascii(texts)
    if not pc.all(plain).as_py():
        texts = pa.concat_arrays([texts.filter(plain), _fold(texts.filter(pc.invert(plain)))])
    offsets, data = _buffers(texts)
    byte = np.frombuffer(bytearray(data.translate(_SPACES)), np.uint8)
    before, here = byte[:-1], byte[1:]
    # Where a mark ends one text and a space begins the next, that space is stripped either way.
    ends = (before == ord(".")) | (before == ord("?")) | (before == ord("!")) | (before == ord(":"))
    here[ends & (here == ord(" "))] = ord("\n")
    lines = pa.StringArray.from_buffers(len(texts), pa.py_buffer(offsets), pa.py_buffer(byte))
    while pc.any(pc.match_substring(lines, "  ")).as_py():
        lines = pc.replace_substring(lines, "  ", " ")
    return lines


def _fold(texts: pa.StringArray) -> pa.StringArray:
    """:func:`train.mask.templates.fold` of every text, with a plain space for whitespace that is not ASCII."""
    import pyarrow as pa
    import pyarrow.compute as pc

    offsets, data = _buffers(texts)
    codes = np.frombuffer(data.decode().encode("utf-32-le"), np.uint32)
    seen = np.zeros(sys.maxunicode + 1, np.bool_)
    seen[codes] = True
    table = np.zeros(sys.maxunicode + 1, np.uint32)
    for code in np.flatnonzero(seen).tolist():
        folded = fold(chr(code))
        table[code] = ord(" " if folded.isspace() and not folded.isascii() else folded)
    folded_codes = table[codes]
    # Folding keeps the number of characters but not of bytes.
    changed = np.flatnonzero(folded_codes != codes)
    ends = np.cumsum(pc.utf8_length(texts).to_numpy())
    grown = np.zeros(len(texts) + 1, np.int64)
    widths = _utf8_width(folded_codes[changed]) - _utf8_width(codes[changed])
    np.add.at(grown, np.searchsorted(ends, changed, side="right") + 1, widths)
    moved = (offsets + np.cumsum(grown)).astype(np.int32)
    data = folded_codes.tobytes().decode("utf-32-le").encode()
    return pa.StringArray.from_buffers(len(texts), pa.py_buffer(moved), pa.py_buffer(data))


def _utf8_width(codes: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Bytes that each character takes in UTF-8."""
    return 1 + np.searchsorted(np.array([0x80, 0x800, 0x10000]), codes, side="right")


def _buffers(texts: pa.StringArray) -> tuple[NDArray[np.int32], bytes]:
    """([texts + 1] offsets from 0, UTF-8 bytes of all texts); there are no nulls."""
    _, offsets, data = texts.buffers()
    if offsets is None or data is None:
        return np.zeros(len(texts) + 1, np.int32), b""
    at = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    return at - at[0], data[int(at[0]) : int(at[-1])].to_pybytes()


def _empty() -> pa.Table:
    import pyarrow as pa

    return pa.schema([("text", pa.large_string()), ("turns", pa.int64())]).empty_table()


def _sum(parts: Iterable[pa.Table], floor: int = 1) -> pa.Table:
    """One table of counts from many, without the sentences in fewer than ``floor`` turns."""
    import pyarrow as pa
    import pyarrow.compute as pc

    held, rows, limit = [_empty()], 0, HELD_ROWS
    for part in parts:
        held.append(part)
        rows += part.num_rows
        if rows > limit:
            held = list(_merged(held))
            rows = sum(table.num_rows for table in held)
            limit = max(HELD_ROWS, 2 * rows)
    return pa.concat_tables(
        table.filter(pc.or_(pc.greater_equal(table["turns"], floor), pc.equal(table["text"], TURN)))
        for table in _merged(held)
    )


def _merged(parts: list[pa.Table]) -> Iterator[pa.Table]:
    """Sums over equal sentences, those of some lengths at a time: what a merge needs beside its parts stays small."""
    import pyarrow as pa
    import pyarrow.compute as pc

    whole = pa.concat_tables(parts)
    groups = 1 + whole.num_rows // GROUP_ROWS
    group = pc.binary_length(whole["text"]).to_numpy() % groups
    for number in range(groups):
        part = whole.filter(pa.array(group == number))
        # Four times as fast as Arrow's group_by, which also fills a hash table for each of its threads.
        coded = part["text"].combine_chunks().dictionary_encode()
        turns = np.bincount(coded.indices.to_numpy(), part["turns"].to_numpy(), len(coded.dictionary))
        yield pa.table({"text": coded.dictionary, "turns": turns.astype(np.int64)})
        # Arrow's allocator keeps what is freed, in pieces: 60 MiB after a million texts.
        pa.default_memory_pool().release_unused()


def _choose(counts: pa.Table, min_share: float, top_k: int | None) -> TemplateSet:
    """The templates among counted sentences: most frequent first, equally frequent ones by their text."""
    import pyarrow.compute as pc

    is_turn = pc.equal(counts["text"], TURN)
    turns = pc.sum(counts.filter(is_turn)["turns"]).as_py() or 0
    frequent = pc.greater_equal(counts["turns"], float(max(FLOOR, (1 - ROUNDING) * min_share * turns)))
    kept = counts.filter(pc.and_(frequent, pc.invert(is_turn)))
    pairs = zip(kept["text"].to_pylist(), kept["turns"].to_pylist(), strict=True)
    said = (pair for pair in pairs if not _OPTION.fullmatch(pair[0]))
    found = sorted(said, key=lambda pair: (-pair[1], pair[0]))
    return TemplateSet(counts=tuple(found[:top_k]), turns=turns, source="mined")
