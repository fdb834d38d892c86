"""JSON files larger than memory, element by element: arrays, objects of arrays (COCO), and JSON lines.

The standard library's scanner is pointed at a moving window of the file, so an element costs what `json.loads` of it
costs (measured: see tests/bench/bench_import.py) and memory is that of the largest element. Bytes that are not UTF-8
spoil the element they are in and no other.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from cluster import storage
from cluster.errors import UserError

CHUNK = 1 << 20
MAX_ELEMENT = 64 << 20
MAX_DEPTH = 64
_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()
DELIMITERS = tuple(",]} \t\r\n")
NON_UTF8 = "bytes that are not UTF-8"


@dataclass(frozen=True, slots=True)
class Element:
    """One element: its number from 0, the top-level key whose array it is in ("" for a plain array or lines), its
    value, its JSON on one line, and where ``value`` cannot be used, ``reason`` and ``detail``."""

    number: int
    key: str
    value: Any
    raw: bytes
    reason: str = ""
    detail: str = ""


def read_chunks(uri: str) -> Iterator[bytes]:
    """The bytes of a file, a megabyte at a time; ``.gz``, ``.bz2`` and ``.zst`` are unpacked on the way.

    Raises:
        UserError: it cannot be read.
    """
    filesystem, path = storage.filesystem(uri)
    try:
        with filesystem.open_input_stream(path) as stream:
            while chunk := stream.read(CHUNK):
                yield chunk
    except FileNotFoundError as error:
        raise UserError(f"{uri}: no such file. Check the path.") from error
    except OSError as error:
        raise UserError(f"{uri}: cannot be read ({error})") from error


def iter_rows(chunks: Iterable[bytes], place: str) -> Iterator[Element]:
    """Rows of a file that is one array of objects, or has one JSON value on each line.

    Raises:
        UserError: an array that breaks off or is not JSON; what follows the damage cannot be told apart. In JSON
            lines every line stands for itself.
    """
    window = _Window(chunks, place)
    first = window.peek()
    if first == "[":
        yield from _array(window, "")
        if window.peek():
            raise window.broken(ValueError("text after the end of the array"))
    else:
        yield from _lines(window)


def iter_tables(chunks: Iterable[bytes], place: str) -> Iterator[Element]:
    """Elements of the arrays in a file that is one object, in the order of the file; its other values are passed over.

    Raises:
        UserError: not one object, or broken.
    """
    window = _Window(chunks, place)
    if window.peek() != "{":
        raise UserError(
            f"{place}: an object {{…}} is expected at the top, found {window.peek() or 'nothing'!r}"
        )
    window.at += 1
    while (mark := window.peek()) != "}":
        key, _ = window.value()
        if not isinstance(key, str) or window.peek() != ":":
            raise window.broken(ValueError("expected a key and a colon"))
        window.at += 1
        if window.peek() == "[":
            yield from _array(window, key)
        else:
            window.value()
        mark = window.peek()
        if mark == ",":
            window.at += 1
        elif mark != "}":
            raise window.broken(ValueError("expected a comma or the closing brace"))


def _array(window: _Window, key: str) -> Iterator[Element]:
    """Elements of the array that begins here."""
    window.at += 1
    number = 0
    if window.peek() == "]":
        window.at += 1
        return
    while True:
        window.element = number
        value, text = window.value()
        yield _element(number, key, value, text)
        number += 1
        mark = window.peek()
        window.at += 1
        if mark == "]":
            return
        if mark != ",":
            raise window.broken(ValueError("expected a comma or the end of the array"))


def _lines(window: _Window) -> Iterator[Element]:
    number = 0
    for line in window.lines():
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except RecursionError:
            yield Element(number, "", None, b"null", "malformed", "nested too deeply")
        except ValueError as error:
            reason = "malformed" if _is_utf8(line) else "non_utf8"
            yield Element(number, "", None, b"null", reason, f"not JSON: {error}")
        else:
            yield _element(number, "", value, line)
        number += 1


def too_deep(value: Any) -> bool:
    """Whether a value is nested more than MAX_DEPTH levels: what comes later recurses, and rows may be hostile."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True


def _element(number: int, key: str, value: Any, text: str) -> Element:
    if text.count("[") + text.count("{") > MAX_DEPTH and isinstance(value, dict | list) and too_deep(value):
        return Element(number, key, None, b"null", "malformed", "nested too deeply")
    try:
        # A line break in JSON is only ever space between its parts.
        raw = text.replace("\n", " ").replace("\r", " ").encode()
    except UnicodeEncodeError:
        return Element(number, key, None, b"null", "non_utf8", NON_UTF8)
    return Element(number, key, value, raw)


def _is_utf8(text: str) -> bool:
    return not any("\udc80" <= letter <= "\udcff" for letter in text)


class _Window:
    """The part of the file that is being read: ``text`` from ``at`` on is ahead."""

    def __init__(self, chunks: Iterable[bytes], place: str) -> None:
        self._chunks = iter(chunks)
        self._place = place
        # What is not UTF-8 becomes lone surrogates, which no valid file holds and no encoder takes.
        self._decode = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self.text, self.at, self.ended, self.element = "", 0, False, 0
        self._grow(1)
        self.at = int(self.text.startswith("\ufeff"))

    def _grow(self, least: int) -> None:
        """Drop what is behind, and read at least ``least`` characters more where there are any."""
        parts, size = [self.text[self.at :]], 0
        while size < least and not self.ended:
            chunk = next(self._chunks, b"")
            self.ended = not chunk
            parts.append(self._decode.decode(chunk, self.ended))
            size += len(parts[-1])
        self.text, self.at = "".join(parts), 0

    def peek(self) -> str:
        """The next character that is not space, "" at the end."""
        while True:
            match = _SPACE.match(self.text, self.at)
            self.at = match.end() if match else self.at
            if self.at < len(self.text):
                return self.text[self.at]
            if self.ended:
                return ""
            self._grow(1)

    def value(self) -> tuple[Any, str]:
        """The value that begins here, and its text."""
        self.peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self.text, self.at)
            except RecursionError as error:
                raise self.broken(ValueError("nested too deeply")) from error
            except ValueError as error:
                if self.ended or len(self.text) - self.at > MAX_ELEMENT:
                    raise self.broken(error) from error
            else:
                # A number that is cut ("1.5" of "1.5e3") reads as another number.
                whole = not isinstance(value, int | float) or self.text[end : end + 1] in DELIMITERS
                if (end < len(self.text) and whole) or self.ended:
                    text = self.text[self.at : end]
                    self.at = end
                    return value, text
            # It may only be cut off; doubling keeps the repeated attempts at twice the work of one.
            self._grow(max(CHUNK, len(self.text) - self.at))

    def lines(self) -> Iterator[str]:
        """The rest, line by line; a line longer than MAX_ELEMENT is refused."""
        while True:
            end = self.text.find("\n", self.at)
            if end >= 0:
                yield self.text[self.at : end]
                self.at = end + 1
            elif self.ended:
                yield self.text[self.at :]
                return
            elif len(self.text) - self.at > MAX_ELEMENT:
                raise self.broken(ValueError("a line longer than 64 MiB"))
            else:
                self._grow(max(CHUNK, len(self.text) - self.at))

    def broken(self, error: ValueError) -> UserError:
        """The message for a file that cannot be read on."""
        what = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        cut = "the file breaks off" if self.ended and self.peek_is_short() else "not JSON"
        return UserError(
            f"{self._place}: {cut} in or after element {self.element} ({what}). Download or write the file again."
        )

    def peek_is_short(self) -> bool:
        """Whether what is left could be the beginning of an element."""
        return self.text.rstrip()[-1:] not in ("]", "}")
