"""Template mining: in how many human turns of the whole training set each sentence stands (L2T section 3.2).

What a sentence is, :func:`train.templates.sentences` defines; here the same is counted for a whole column of texts at
once, without a Python object per text. The trick is that everything that ends a sentence can be marked in the bytes of
the column without moving any: a space after a mark becomes a newline, and every other whitespace becomes a space.

The driver makes few decisions: shards are counted one by one, the counts of equal sentences summed, and what is rarer
than the threshold dropped at the very end. Nothing is pruned before, because a sentence that is rare in every part may
be frequent in the whole.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from cluster import datasets
from train.config import DataSource
from train.templates import TemplateSet, fold

if TYPE_CHECKING:
    import pyarrow as pa

# Starting Ray takes as long as counting some millions of turns here; above this a cluster is worth it, and the distinct
# sentences of all shards may no longer fit one process.
FEW_SHARDS = 256
# Rows counted at once: the texts of so many stay in the CPU's cache and keep the peak of memory low.
ROWS = 8192
# Into so many the cluster parts the distinct sentences at most; Ray's own 200 took 12 s more to start on two cores.
PARTITIONS = 64
# A sentence seen once or twice is no template, however small the data set.
FLOOR = 3
# Stands for the turn itself in tables of counts: no sentence is empty.
TURN = ""
_SPACES = bytes.maketrans(b"\t\v\f\r\x1c\x1d\x1e\x1f", b" " * 8)


def mine_dataset(sources: Sequence[DataSource], *, min_share: float, top_k: int | None = None) -> TemplateSet:
    """Sentences in at least ``min_share`` of the human turns (and in three), of these the ``top_k`` most frequent.

    Every row of every source counts once, whatever the weight of its source; rows of other kinds than the source's
    ``kinds`` do not count. Sources without instructions are passed over. A sentence counts once per turn.

    Up to :data:`FEW_SHARDS` shards are counted in this process, shard by shard; where Ray runs already, or there are
    more, the same functions count one shard in each task of a Ray Data aggregate. Both give the same set.

    Raises:
        UserError: a data set cannot be read.
    """
    work = [
        (source.instructions, shard, source.kinds)
        for source in sources
        if source.instructions is not None
        for shard in range(len(datasets.read_manifest(source.instructions).shards))
    ]
    ray = sys.modules.get("ray")
    if work and (len(work) > FEW_SHARDS or (ray is not None and ray.is_initialized())):
        counts = _counted_by_ray(work)
    else:
        counts = _sum(count_shard(*shard) for shard in work)
    return _choose(counts, min_share, top_k)


Work = tuple[str, int, tuple[str, ...] | None]


def _counted_by_ray(work: Sequence[Work]) -> pa.Table:
    """Counts of the sentences in :data:`FLOOR` turns or more; the rarer ones, which are most, stay in the cluster."""
    from cluster.runtime import init_ray

    with init_ray():
        import ray
        from ray.data.aggregate import Sum

        counted = (
            ray.data.from_items([{"work": k} for k in range(len(work))], override_num_blocks=len(work))
            .map_batches(partial(_count_batch, work), batch_size=1, batch_format="pyarrow")
            .groupby("text", num_partitions=min(len(work), PARTITIONS))
            .aggregate(Sum("turns", alias_name="turns"))
            .map_batches(_frequent, batch_size=None, batch_format="pyarrow")
        )
        return _sum(counted.iter_batches(batch_size=None, batch_format="pyarrow"))


def _count_batch(work: Sequence[Work], batch: pa.Table) -> pa.Table:
    return _sum(count_shard(*work[k]) for k in batch["work"].to_pylist())


def _frequent(counts: pa.Table) -> pa.Table:
    import pyarrow.compute as pc

    keep = pc.or_(pc.greater_equal(counts["turns"], FLOOR), pc.equal(counts["text"], TURN))
    return counts.select(["text", "turns"]).filter(keep)


def count_shard(instructions: str, shard: int, kinds: tuple[str, ...] | None = None) -> pa.Table:
    """Counts of one shard: ``text`` (large_string, distinct) and ``turns`` (int64), see :func:`count_turns`."""
    rows = datasets.read_shard(instructions, shard, columns=["conversation", "kind"], verify=False)
    return _sum(count_turns(texts) for texts in _human_turns(rows, kinds))


def _human_turns(rows: pa.Table, kinds: tuple[str, ...] | None) -> Iterator[pa.Array]:
    """Texts of the user turns, some thousand rows at a time; a missing text is an empty one."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for batch in rows.to_batches(max_chunksize=ROWS):
        talks = batch["conversation"]
        if kinds is not None:
            talks = talks.filter(pc.is_in(batch["kind"], value_set=pa.array(kinds, pa.string())))
        turns = talks.flatten()
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
    turn, sentences = turn.filter(said), sentences.filter(said)
    if pc.any(pc.match_substring(sentences, "  ")).as_py():
        sentences = pc.replace_substring_regex(sentences, " +", " ")
    coded = sentences.dictionary_encode()
    distinct = len(coded.dictionary)
    pairs = np.unique(turn.to_numpy() * distinct + coded.indices.to_numpy())
    counts = np.bincount(pairs % max(distinct, 1), minlength=distinct)
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
    data = data.translate(_SPACES)
    for mark in (b".", b"?", b"!", b":"):
        # Where a mark ends one text and a space begins the next, that space is stripped either way.
        data = data.replace(mark + b" ", mark + b"\n")
    return pa.StringArray.from_buffers(len(texts), pa.py_buffer(offsets), pa.py_buffer(data))


def _fold(texts: pa.StringArray) -> pa.StringArray:
    """:func:`train.templates.fold` of every text, with a plain space for whitespace that is not ASCII."""
    import pyarrow as pa
    import pyarrow.compute as pc

    _, data = _buffers(texts)
    joined = data.decode()
    table = np.zeros(sys.maxunicode + 1, np.uint32)
    for character in set(joined):
        folded = fold(character)
        table[ord(character)] = ord(" " if folded.isspace() and not folded.isascii() else folded)
    codes = table[np.frombuffer(joined.encode("utf-32-le"), np.uint32)]
    # Folding keeps the number of characters but not of bytes: UTF-8 takes one more from each of these on.
    width = 1 + sum((codes >= first).astype(np.int32) for first in (0x80, 0x800, 0x10000))
    byte = np.concatenate([[0], np.cumsum(width)])
    last = np.cumsum(pc.utf8_length(texts).to_numpy())
    offsets = byte[np.concatenate([[0], last])].astype(np.int32)
    data = codes.tobytes().decode("utf-32-le").encode()
    return pa.StringArray.from_buffers(len(texts), pa.py_buffer(offsets), pa.py_buffer(data))


def _buffers(texts: pa.StringArray) -> tuple[np.ndarray, bytes]:
    """([texts + 1] offsets from 0, UTF-8 bytes of all texts); there are no nulls."""
    _, offsets, data = texts.buffers()
    if offsets is None or data is None:
        return np.zeros(len(texts) + 1, np.int32), b""
    at = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    return at - at[0], data[int(at[0]) : int(at[-1])].to_pybytes()


def _sum(parts: Iterable[pa.Table]) -> pa.Table:
    """One table of counts from many; a part is merged with one of its own size, so each sentence is moved but a few
    times."""
    import pyarrow as pa

    schema = pa.schema([("text", pa.large_string()), ("turns", pa.int64())])
    stack = [schema.empty_table()]
    for part in parts:
        stack.append(part)
        while len(stack) > 1 and stack[-2].num_rows < 2 * stack[-1].num_rows:
            stack.append(_merge([stack.pop(), stack.pop()]))
    return _merge(stack)


def _merge(parts: list[pa.Table]) -> pa.Table:
    import pyarrow as pa

    grouped = pa.concat_tables(parts).group_by("text").aggregate([("turns", "sum")])
    return grouped.rename_columns({"turns_sum": "turns"}).select(["text", "turns"])


def _choose(counts: pa.Table, min_share: float, top_k: int | None) -> TemplateSet:
    """The templates among counted sentences: most frequent first, equally frequent ones by their text."""
    import pyarrow.compute as pc

    is_turn = pc.equal(counts["text"], TURN)
    turns = pc.sum(counts.filter(is_turn)["turns"]).as_py() or 0
    frequent = pc.greater_equal(counts["turns"], float(max(FLOOR, min_share * turns)))
    kept = counts.filter(pc.and_(frequent, pc.invert(is_turn)))
    pairs = zip(kept["text"].to_pylist(), kept["turns"].to_pylist(), strict=True)
    found = sorted(pairs, key=lambda pair: (-pair[1], pair[0]))
    return TemplateSet(counts=tuple(found[:top_k]), turns=turns, source="mined")
