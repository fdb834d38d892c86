"""An instruction set with every kind of row that an export meets."""

from __future__ import annotations

from pathlib import Path

import pytest

from datagen.records import Record, Turn
from tests.datagen.curate.conftest import image, photo, publish, record

JPEG, PNG, OTHER = photo(1, "JPEG"), photo(2), photo(3, "JPEG", 95)
ODD_IDS = ("../../etc/passwd", "a/b c.jpg", "träume.png", "CON", ".hidden")


def turns(*texts: str) -> tuple[Turn, ...]:
    return tuple(Turn(role=("user", "assistant")[n % 2], text=text) for n, text in enumerate(texts))


def rows() -> list[list[Record]]:
    first = [
        record(
            "one", ["pic/1"], "What is it?", "A ball,\nred \u2028 and \u0085 \"round\" – größer als 'je'."
        ),
        record("two", ["pic/1"], options=("red", "blue"), answer_index=1, format="choice"),
        record("many", ["pic/1", "plain"], scores=(("blind", -1.5),)),
        record("text", []),
        record("talk", ["plain"], conversation=turns("Hello?", "Yes.", "And now?", "No.")),
        record("gone", ["missing"]),
        record("broken", ["bad"]),
        record("marker", ["plain"], "Say <image> twice."),
        record(
            "system", ["plain"], conversation=(Turn(role="system", text="Be short."), *turns("Hi?", "Hi."))
        ),
        record("half", ["plain"], conversation=turns("Hello?", "Yes.", "And?")),
        record("kept", ["plain"], state="kept_original", reason="", rewrite="fallback"),
        record("rejected", ["plain"], state="rejected", reason="unverified"),
    ]
    second = [record(f"odd-{n}", [name]) for n, name in enumerate(ODD_IDS)]
    return [first, second, []]


@pytest.fixture
def instructions(tmp_path: Path) -> str:
    pictures = [
        [image("pic/1", JPEG), image("plain", PNG), image("bad", b"no picture"), image("unused", OTHER)],
        [image(name, OTHER) for name in ODD_IDS],
        [],
    ]
    shards = rows()
    return publish(tmp_path, "mix", pictures, shards)
