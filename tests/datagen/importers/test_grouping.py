"""Groups on disk against dictionaries in memory."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from datagen.importers.grouping import Buckets, Links, Seen, digest


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=3), st.integers(0, 999)), max_size=60))
def test_groups_hold_what_was_added_in_order(items: list[tuple[str, int]]) -> None:
    expected: dict[bytes, list[bytes]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        buckets = Buckets(Path(folder))
        for key, value in items:
            buckets.add(digest(key), b"%d" % value)
            expected[digest(key)].append(b"%d" % value)
        found = list(buckets.groups())
    assert dict(found) == expected
    assert [key for key, _ in found] == sorted(expected), "in the order of the hashes, whatever the source's"


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.integers(0, 30), min_size=2, max_size=4), max_size=30), st.integers(2, 40))
def test_links_are_the_connected_components(rows: list[list[int]], limit: int) -> None:
    group: dict[int, set[int]] = {number: {number} for number in range(31)}
    with tempfile.TemporaryDirectory() as folder:
        links = Links(Path(folder) / "links", limit)
        for row in rows:
            union = set().union(*(group[number] for number in row))
            joined = links.join([digest(str(number)) for number in row])
            assert joined == (len(union) <= limit)
            if joined:
                for number in union:
                    group[number] = union
        for a in range(31):
            for b in range(31):
                tied = links.find(digest(str(a))) == links.find(digest(str(b)))
                assert tied == (b in group[a])
            assert links.size(links.find(digest(str(a)))) == len(group[a])
        links.close()


@given(st.lists(st.text(max_size=2)))
@settings(max_examples=30, deadline=None)
def test_seen_is_a_set(keys: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        seen, expected = Seen(Path(folder) / "seen"), set()
        for key in keys:
            assert seen.add(digest(key)) == (key not in expected)
            expected.add(key)
        seen.close()
