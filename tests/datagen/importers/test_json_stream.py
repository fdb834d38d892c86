"""Streaming JSON against the standard library: the same values, or a message; memory of one element."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from typing import Any

import ijson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.errors import UserError
from datagen.importers import json_stream
from datagen.importers.json_stream import Element, iter_rows, iter_tables

WHOLE = st.integers(-(2**62), 2**62)  # ijson ends at 64 bits
VALUES = st.recursive(
    st.none() | st.booleans() | WHOLE | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


def values(elements: Iterator[Element]) -> list[Any]:
    return [element.value for element in elements]


@settings(max_examples=120, deadline=None)
@given(
    rows=st.lists(VALUES, max_size=6),
    size=st.integers(1, 40),
    indent=st.sampled_from([None, 2]),
    ascii=st.booleans(),
)
def test_arrays_as_json_loads_reads_them(rows: list[Any], size: int, indent: int | None, ascii: bool) -> None:
    data = json.dumps(rows, indent=indent, ensure_ascii=ascii).encode("utf-8", "surrogatepass")
    try:
        data.decode()
    except UnicodeDecodeError:
        return
    found = list(iter_rows(pieces(data, size), "x.json"))
    assert [element.value for element in found] == rows
    assert [json.loads(element.raw) for element in found] == rows
    assert all(b"\n" not in element.raw for element in found)


@settings(max_examples=120, deadline=None)
@given(
    rows=st.lists(st.dictionaries(st.text(max_size=4), VALUES, max_size=3), max_size=6),
    size=st.integers(1, 40),
)
def test_lines(rows: list[Any], size: int) -> None:
    data = b"\n".join(json.dumps(row).encode() for row in rows)
    assert values(iter_rows(pieces(data, size), "x.jsonl")) == rows


@settings(max_examples=120, deadline=None)
@given(
    tables=st.dictionaries(st.text(max_size=4), st.lists(VALUES, max_size=4) | WHOLE | st.text(), max_size=4),
    size=st.integers(1, 40),
)
def test_tables_as_ijson_reads_them(tables: dict[str, Any], size: int) -> None:
    data = json.dumps(tables).encode()
    found = list(iter_tables(pieces(data, size), "x.json"))
    for key, expected in tables.items():
        if isinstance(expected, list):
            assert [element.value for element in found if element.key == key] == expected
    if all(key and "." not in key for key in tables):
        for key, expected in tables.items():
            if isinstance(expected, list):
                theirs = list(ijson.items(data, f"{key}.item", use_float=True))
                assert theirs == [element.value for element in found if element.key == key]


@settings(max_examples=500, deadline=None)
@given(data=st.binary(max_size=200), head=st.sampled_from([b"", b"[", b"{", b'[{"a": "', b'{"images": [']))
def test_any_bytes_are_rows_or_a_message(data: bytes, head: bytes) -> None:
    for read in (iter_rows, iter_tables):
        try:
            for element in read(pieces(head + data, 7), "x.json"):
                assert element.reason in ("", "malformed", "non_utf8")
                element.raw.decode()
        except UserError as error:
            assert str(error).startswith("x.json: ")


def test_bad_bytes_spoil_one_element_only() -> None:
    data = b'[{"a": "good"}, {"a": "\xff\xfe"}, {"a": "\xc3\xa9"}]'
    found = list(iter_rows(pieces(data, 5), "x.json"))
    assert [element.reason for element in found] == ["", "non_utf8", ""]
    assert found[2].value == {"a": "é"}


def test_a_mark_of_byte_order_is_no_content() -> None:
    assert values(iter_rows([b'\xef\xbb\xbf[{"a": 1}]'], "x.json")) == [{"a": 1}]


def test_a_file_that_breaks_off_gives_its_rows_and_then_says_where() -> None:
    found = []
    with pytest.raises(UserError, match="breaks off in or after element 2"):
        for element in iter_rows(pieces(b'[{"a": 1}, {"a": 2}, {"a": "thr', 4), "x.json"):
            found.append(element.value)
    assert found == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_deep_nesting_is_refused(opening: str) -> None:
    deep = opening * 100_000
    with pytest.raises(UserError, match="nested too deeply"):
        list(iter_rows(pieces(f"[{deep}".encode(), 65536), "x.json"))
    (line,) = iter_rows([b'{"b": 1, "a": ' + deep.encode()], "x.jsonl")
    assert line.reason == "malformed"
    level = opening * 80 + "1" + ("]" if opening == "[" else "}") * 80
    (element,) = iter_rows([f"[{level}]".encode()], "x.json")
    assert element.reason == "malformed" and "deep" in element.detail


def test_a_line_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_stream, "MAX_ELEMENT", 1 << 20)
    endless = (b"x" * (1 << 16) for _ in range(1000))
    with pytest.raises(UserError, match="longer than"):
        list(iter_rows(endless, "x.jsonl"))


def test_memory_is_that_of_one_element() -> None:
    row = json.dumps({"id": 1, "text": "x" * 2000}).encode()

    def chunks(count: int) -> Iterator[bytes]:
        yield b"["
        for number in range(count):
            yield (b"," if number else b"") + row
        yield b"]"

    tracemalloc.start()
    assert sum(1 for _ in iter_rows(chunks(20_000), "x.json")) == 20_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12 << 20, "a file of 40 MB"
