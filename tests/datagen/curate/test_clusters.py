"""Buckets and clusters: the same components as networkx, whatever the order and the partitions."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from datagen.curate import clusters
from datagen.curate.buckets import ENTRY_SCHEMA, LINK_SCHEMA, links

Edges = list[tuple[int, int, float]]


def name(ref: int) -> str:
    return f"{ref % 7}:{ref}"


def dropped(edges: Edges) -> pa.Table:
    rows = [{"a": a, "b": b, "likeness": value} for a, b, value in edges]
    links = clusters.unique(pa.Table.from_pylist(rows, schema=LINK_SCHEMA))
    refs = clusters.involved(links)
    return clusters.drops(links, refs, [name(ref) for ref in refs.tolist()])


edges = st.lists(
    st.tuples(st.integers(0, 30), st.integers(0, 30), st.sampled_from([0.5, 0.75, 1.0])), max_size=40
)


@settings(max_examples=200, deadline=None)
@given(edges, st.randoms())
def test_one_of_each_component_stays(given_edges: Edges, shuffle) -> None:
    given_edges = [(a, b, v) for a, b, v in given_edges if a != b]
    graph = nx.Graph((a, b) for a, b, _ in given_edges)
    drops = dropped(given_edges)
    gone = {row["ref"]: row for row in drops.to_pylist()}
    for component in nx.connected_components(graph):
        first = min(component, key=name)
        assert component - gone.keys() == {first}
        assert all(gone[n]["kept"] == name(first) for n in component - {first})
        for n in component - {first}:
            best = max(v for a, b, v in given_edges if n in (a, b))
            assert gone[n]["likeness"] == best
            nearest = int(gone[n]["nearest"].partition(":")[2])
            assert any({a, b} == {n, nearest} and v == best for a, b, v in given_edges)
    assert gone.keys() <= set(graph)
    again = list(given_edges)
    shuffle.shuffle(again)
    assert dropped([(b, a, v) for a, b, v in again]).equals(drops)


def test_the_same_name_twice_is_no_duplicate_of_itself() -> None:
    links = pa.Table.from_pylist([{"a": 1, "b": 2, "likeness": 1.0}], schema=LINK_SCHEMA)
    assert clusters.drops(links, clusters.involved(links), ["0:x", "0:x"]).num_rows == 0


def entry_table(rows: list[tuple[int, int, int]]) -> pa.Table:
    """(key, ref, value); two rows are alike when their values differ by at most 1."""
    columns = [{"key": k, "ref": r, "order": f"{r:04d}", "sketch": bytes([v])} for k, r, v in rows]
    return pa.Table.from_pylist(columns, schema=ENTRY_SCHEMA)


def closeness(one: np.ndarray, others: np.ndarray) -> np.ndarray:
    return -np.abs(one.astype(int) - others.astype(int))[:, 0]


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(st.tuples(st.integers(0, 3), st.integers(0, 40)), st.integers(0, 40), max_size=60),
    st.randoms(),
)
def test_links_join_what_is_alike_within_a_bucket(entries: dict[tuple[int, int], int], shuffle) -> None:
    value_of = {ref: value for (_, ref), value in entries.items()}
    rows = [(key, ref, value_of[ref]) for key, ref in entries]
    found = links(entry_table(rows), closeness, -1)
    expected = nx.Graph()
    for key, ref, value in rows:
        for other_key, other, other_value in rows:
            if key == other_key and ref < other and abs(value - other_value) <= 1:
                expected.add_edge(ref, other)
    ours = nx.Graph(zip(found["a"].to_pylist(), found["b"].to_pylist(), strict=True))
    assert all(expected.has_edge(*edge) for edge in ours.edges)
    assert set(map(frozenset, nx.connected_components(ours))) == set(
        map(frozenset, nx.connected_components(expected))
    )
    again = list(rows)
    shuffle.shuffle(again)
    assert links(entry_table(again), closeness, -1).equals(found), "the order of the input does not matter"


def test_a_phrase_repeated_by_all_costs_one_link_a_row() -> None:
    found = links(entry_table([(1, ref, 7) for ref in range(2000)]), closeness, -1)
    assert found.num_rows == 1999
    assert links(ENTRY_SCHEMA.empty_table(), closeness, -1).num_rows == 0
