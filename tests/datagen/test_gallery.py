"""The page: books that add up, families of rows, and nothing that a row's text could break out of."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.datasets import commit_shard, freeze, plan_dataset, read_manifest
from cluster.errors import UserError
from datagen import gallery
from datagen.corpus import CorpusRow
from datagen.records import GateResult, Record, Turn, Verdict, to_table
from tests.datagen.conftest import row

HOSTILE = '<script>alert(1)</script> & "quotes" {{ 7 * 7 }}'


def record(name: str, state: str = "accepted", reason: str = "", **more: object) -> Record:
    """A row about the first image."""
    turns = (Turn(role="user", text=f"{name}?"), Turn(role="assistant", text=HOSTILE))
    base = Record(
        id=name,
        image_ids=("img-0000",),
        kind="color",
        format="open",
        conversation=turns,
        state=state,  # type: ignore[arg-type]
        reason=reason,
    )
    return replace(base, **more)  # type: ignore[arg-type]


@pytest.fixture
def instructions(tmp_path: Path, write_corpus: Callable[[list[list[CorpusRow]]], str]) -> str:
    """One shard with a family of rows and a damaged image."""
    corpus = write_corpus([[row(0), row(1, b"damaged")]])
    uri = str(tmp_path / "instructions")
    plan_dataset(uri, kind="instructions", name="demo", shards=1, config={}, parents=[corpus])
    rewritten = (GateResult(name="original_answer", passed=True, detail="One sees a ball."),)
    rows = [
        record("root", verdict=Verdict(result="yes", evidence="It is."), gates=rewritten),
        record("harder", round=1, parents=("root",)),
        record("asked", parents=("harder",), round=1, format="bool"),
    ]
    rejects = [
        record("no", "rejected", "unverified", verdict=Verdict(result="no", evidence="It is not.")),
        record("pick", "rejected", "options:choice", parents=("root",), kind="choice"),
        record(
            "lost", "failed", "image", image_ids=("img-0001",), conversation=(Turn(role="draft", text="x"),)
        ),
    ]
    counts = {"accepted": 3, "rejected:unverified": 1, "rejected:options:choice": 1, "failed:image": 1}
    commit_shard(uri, 0, {"rows": to_table(rows), "rejects": to_table(rejects)}, counts=counts, inputs=6)
    freeze(uri)
    return uri


def test_page(instructions: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "page.html"
    assert gallery.main([instructions, "--out", str(out)]) == 0
    html = out.read_text()
    assert html.count("<script>") == 1 and "&lt;script&gt;" in html and "{{ 7" in html
    assert not re.search(r"(?:src|href)=\"(?!data:|#)", html), "no outside resources"
    assert html.count("data:image/png;base64,") == 1 and "no picture" in html
    assert "<del>One sees a ball.</del>" in html and "<ins>" in html
    assert "made harder, round 1" in html and "as yes or no" in html and "as a choice" in html
    assert html.index("root?") < html.index("harder?") < html.index("asked?"), "families stay together"
    assert "fewer than three different wrong options" in html and "the verifier said no" in html


def test_books_add_up(instructions: str) -> None:
    slices = gallery.books(read_manifest(instructions))
    assert sum(s.rows for s in slices) == 6
    assert sum(s.share for s in slices) == pytest.approx(100)
    assert slices[0].key == "accepted" and slices[-1].left + slices[-1].share == pytest.approx(100)


def test_every_state_has_words() -> None:
    for key in ("rejected:parse:synthesize", "rejected:gate:meta_talk", "truncated:verify", "failed:respond"):
        assert gallery.in_words(key) != key
    assert gallery.in_words("rejected:something new") == "rejected:something new"


def test_section_for_other_pages(instructions: str, tmp_path: Path) -> None:
    html = gallery.section(instructions, images=1)
    assert "<html" not in html and all(name.startswith("g-") for name in re.findall(r'class="([\w-]+)', html))
    assert ".g-bar" in gallery.CSS
    with pytest.raises(UserError, match="not a published dataset"):
        gallery.section(str(tmp_path / "nowhere"))
    assert gallery.main([str(tmp_path / "nowhere")]) == 2
