"""Near-duplicate search: ours against `datasketch`, on the same conversations, in one process and one run.

    python tests/bench/bench_dedup.py --rows 20000

Both make 128 minima of word triples of every conversation, put them into buckets by bands for similarity 0.8, compare
what meets and keep one of each cluster. A fifth of the rows are copies with one changed word. Prints rows/s of both,
their ratio, and how far they agree with an exact count.
"""

from __future__ import annotations

import argparse
import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import datasketch
import networkx as nx
import numpy as np
import pyarrow as pa

from datagen.curate import clusters
from datagen.curate.buckets import ENTRY_SCHEMA, links
from datagen.gates import near_duplicate
from datagen.gates.shingles import conversation_words
from datagen.records import Turn

THRESHOLD = 0.8
Conversation = tuple[Turn, ...]


def conversations(rows: int) -> list[Conversation]:
    """About 40 words each, with the word frequencies of a language."""
    rng = random.Random(1)
    vocabulary = [f"word{n}" for n in range(20_000)]
    weights = [1 / (n + 10) for n in range(20_000)]
    made: list[Conversation] = []
    for n in range(rows):
        if n % 5 == 4:
            user, assistant = rng.choice(made)
            said = assistant.text.split()
            said[rng.randrange(len(said))] = "changed"
            made.append((user, Turn(role="assistant", text=" ".join(said))))
        else:
            said = rng.choices(vocabulary, weights, k=rng.randrange(20, 60))
            made.append(
                (Turn(role="user", text=" ".join(said[:8])), Turn(role="assistant", text=" ".join(said[8:])))
            )
    return made


def ours(talks: list[Conversation]) -> set[int]:
    """Rows that go, as `l2t curate` finds them."""
    sketches = near_duplicate.sketches(talks)
    keys = near_duplicate.band_keys(sketches, np.zeros(len(talks), dtype=np.uint64), THRESHOLD)
    owner = np.repeat(np.arange(len(talks)), keys.shape[1])
    orders = pa.array([f"{n:09d}" for n in range(len(talks))])
    packed = pa.array([sketch.tobytes() for sketch in sketches], pa.binary())
    columns = [
        pa.array(keys.ravel()),
        pa.array(owner),
        orders.take(pa.array(owner)),
        packed.take(pa.array(owner)),
    ]
    found = clusters.unique(
        links(pa.table(columns, schema=ENTRY_SCHEMA), near_duplicate.similarity, THRESHOLD)
    )
    refs = clusters.involved(found)
    return set(clusters.drops(found, refs, orders.take(pa.array(refs)).to_pylist())["ref"].to_pylist())


def theirs(talks: list[Conversation]) -> set[int]:
    """The same with MinHash and MinHashLSH of datasketch."""
    graph: nx.Graph = nx.Graph()
    index = datasketch.MinHashLSH(threshold=THRESHOLD, num_perm=near_duplicate.PERMUTATIONS)
    hashes = []
    for n, talk in enumerate(talks):
        text = conversation_words(talk)
        minhash = datasketch.MinHash(num_perm=near_duplicate.PERMUTATIONS)
        minhash.update_batch([" ".join(text[i : i + 3]).encode() for i in range(max(1, len(text) - 2))])
        for other in index.query(minhash):
            if minhash.jaccard(hashes[other]) >= THRESHOLD:
                graph.add_edge(n, other)
        index.insert(n, minhash, check_duplication=False)
        hashes.append(minhash)
    return {n for component in nx.connected_components(graph) for n in component - {min(component)}}


def exact(talks: list[Conversation]) -> set[int]:
    """The same by counting triples, through an inverted index; nothing is estimated."""
    graph: nx.Graph = nx.Graph()
    holders: dict[tuple[str, ...], list[int]] = {}
    sets = []
    for n, talk in enumerate(talks):
        text = conversation_words(talk)
        sets.append({tuple(text[i : i + 3]) for i in range(max(1, len(text) - 2))})
        shared = Counter(other for triple in sets[n] for other in holders.get(triple, ()))
        for other, both in shared.items():
            if both / (len(sets[n]) + len(sets[other]) - both) >= THRESHOLD:
                graph.add_edge(n, other)
        for triple in sets[n]:
            holders.setdefault(triple, []).append(n)
    return {n for component in nx.connected_components(graph) for n in component - {min(component)}}


def timed(
    search: Callable[[list[Conversation]], set[int]], talks: list[Conversation]
) -> tuple[set[int], float]:
    """Result and CPU seconds."""
    begun = time.process_time()
    return search(talks), time.process_time() - begun


def main() -> None:
    """Run both, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=20_000)
    args = parser.parse_args()
    talks = conversations(args.rows)
    results: dict[str, Any] = {"datasketch": timed(theirs, talks), "ours": timed(ours, talks)}
    truth = exact(talks)
    print(f"{'exact count':<12}{len(truth):>29} rows dropped")
    for name, (gone, seconds) in results.items():
        right = len(gone & truth)
        print(
            f"{name:<12}{args.rows / seconds:>8.0f} rows/s of CPU{len(gone):>8} rows dropped, "
            f"precision {right / len(gone):.3f}, recall {right / len(truth):.3f}"
        )
    print(f"ratio of the rates {results['datasketch'][1] / results['ours'][1]:.1f}")


if __name__ == "__main__":
    main()
