"""Lines in logs, a bar on terminals."""

from __future__ import annotations

import io

import pytest

from cluster import progress
from cluster.progress import Progress, clock


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


def test_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    time, out = Clock(), io.StringIO()
    monkeypatch.setattr(progress, "time", time)
    with Progress(600, "rows", "datagen", done=20, stream=out) as bar:
        bar.advance(10)
        time.now += 5
        bar.advance(90)
        time.now += 1
        bar.advance(480, note="loss 1.2")
    bar.close()
    assert out.getvalue().splitlines() == [
        "datagen 120/600 rows  20.0 rows/s  ETA 0:24",
        "datagen 600/600 rows  96.7 rows/s  in 0:06  loss 1.2",
    ]


def test_unknown_total() -> None:
    out = io.StringIO()
    with Progress(None, "calls", stream=out) as bar:
        bar.advance(3)
    assert out.getvalue().startswith("3 calls  ")


def test_bar_on_a_terminal() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    with Progress(4, "rows", "eval", stream=out) as bar:
        bar.advance(4, note="half")
    assert "eval" in out.getvalue() and "4/4" in out.getvalue()


def test_clock() -> None:
    assert [clock(7), clock(754), clock(3723)] == ["0:07", "12:34", "1:02:03"]
