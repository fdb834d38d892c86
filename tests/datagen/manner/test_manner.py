"""The whole command on real Ray Data and real vLLM with a random tiny model."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from cluster.cli import main
from cluster.datasets import commit_shard, freeze, iter_tables, plan_dataset
from datagen.manner.result import Manner
from datagen.manner.survey import shard_answers
from datagen.records import GateResult, Record, Turn, to_table

REPO = Path(__file__).parents[3]
SHARDS = 3


def instructions(uri: str, *, rewritten: bool) -> str:
    """A set of three shards: soft answers with their originals, a conversation, and hard-format rows."""
    plan_dataset(uri, kind="instructions", name="set", shards=SHARDS, config={"rewritten": rewritten})
    for k in range(SHARDS):
        rows = [record(k, i, rewritten) for i in range(4)]
        commit_shard(uri, k, {"rows": to_table(rows)})
    freeze(uri)
    return uri


def record(shard: int, number: int, rewritten: bool) -> Record:
    old, new = f"It appears that circle {number} is red.", f"Circle {number} is <b>red</b> & large."
    turns = [
        Turn(role="user", text="What do you see?"),
        Turn(role="assistant", text=new if rewritten else old),
    ]
    gates = [GateResult(name="original_answer", passed=True, detail=old)] if rewritten else []
    if number == 1:
        turns = [*turns, Turn(role="user", text="In one word?"), Turn(role="assistant", text="red")]
        gates = [GateResult(name="original_answer", passed=True, detail=f"1\t{old}")] if rewritten else []
    if number == 2:
        turns, gates = [*turns[:1], Turn(role="assistant", text="red")], []
    if number == 3:
        turns, gates = [*turns[:1], Turn(role="assistant", text="yes " * 400 + "it is.")], []
    return Record(
        id=f"r{shard}-{number}",
        image_ids=(f"img{shard}",),
        kind="looks",
        format="open",
        conversation=tuple(turns),
        state="accepted",
        gates=tuple(gates),
    )


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    # A cluster of the developer's own must not be joined, and one thread is enough for a toy.
    kept = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    return subprocess.run(
        [sys.executable, "-m", "cluster", "manner", *arguments],
        cwd=REPO,
        env={**kept, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )


class Page(HTMLParser):
    """Collects tags and whatever would be loaded."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [f"{tag} {name}" for name, _ in attrs if name in ("src", "href", "srcset", "data")]


def test_before_and_after(tmp_path: Path, tiny_model: str) -> None:
    uri, out = instructions(str(tmp_path / "set"), rewritten=True), tmp_path / "out"
    command = [uri, "--inner", tiny_model, "--out", str(out), "--set", "inner.max_model_len=256"]
    command += ["inner.max_num_seqs=8", "own.max_tokens=24", "judging.max_tokens=8", "resamples=60"]
    done = run(*command, "prompts=starter")
    assert done.returncode == 0, done.stderr[-3000:]

    result = Manner.model_validate_json((out / "manner.json").read_text())
    survey = result.survey
    assert (survey.answers, survey.hard, survey.soft, survey.changed) == (15, 6, 9, 6)
    assert (survey.measured, result.failed, result.changed, result.images) == (9, 3, 6, 3)
    rows = [row for table in iter_tables(str(out / "rows")) for row in table.to_pylist()]
    assert len(rows) == 9 and {row["turn"] for row in rows} == {1}
    fine = [row for row in rows if not row["failure"]]
    assert all(row["before"].startswith("It appears") and row["nll_before"] > 0 for row in fine)
    by_hand = sum(r["nll_after"] for r in fine) / sum(r["tokens_after"] for r in fine)
    assert abs(result.likelihood.per_token.after.value - by_hand) < 1e-9
    judgement = result.judgement
    assert judgement is not None and judgement.pairs == 6
    books = judgement.model_dump(include=set(type(judgement).model_fields) - {"pairs", "preferred"})
    assert sum(v for k, v in books.items() if k not in ("first_shown", "can_judge")) == 6
    assert not judgement.can_judge and "cannot do the task" in done.stdout, "a random model is no judge"
    assert "15 answers, 9 soft-format, 6 hard-format" in done.stdout and "3 too long" in done.stdout

    page = (out / "manner.html").read_text()
    read = Page(page)
    assert "script" not in read.tags and not read.loads and "@import" not in page and "url(" not in page
    assert "<b>red</b>" not in page and "&lt;b&gt;red&lt;/b&gt;" in page, "data is text, never markup"
    assert read.tags.count("article") == 6 and "nan" not in re.sub(r"<[^>]*>", " ", page).lower()

    # The rows are there: numbers and page again, without an engine, to the last digit.
    again = run(*command, "prompts=starter")
    assert again.returncode == 0 and "measured" not in again.stderr
    assert json.loads((out / "manner.json").read_text()) == result.model_dump(mode="json")
    other = run(*command, "prompts=starter", "own.temperature=0.1")
    assert other.returncode == 2 and "own.temperature" in other.stderr and "another run" in other.stderr


def test_two_sets(tmp_path: Path) -> None:
    after = instructions(str(tmp_path / "after"), rewritten=True)
    before = instructions(str(tmp_path / "before"), rewritten=False)
    kept = [a for k in range(SHARDS) for a in shard_answers(after, None, k)]
    named = [a for k in range(SHARDS) for a in shard_answers(after, before, k)]
    assert named == kept and len(named) == 15 and sum(a.before != a.after for a in named) == 6
    parted = [a.before for a in shard_answers(after, _first_shard(str(tmp_path / "part")), 1)]
    assert parted == [None] * 5, "a shard that the other set does not have"


def _first_shard(uri: str) -> str:
    plan_dataset(uri, kind="instructions", name="part", shards=1, config={})
    commit_shard(uri, 0, {"rows": to_table([record(0, 0, False)])})
    freeze(uri)
    return uri


def test_bad_input_is_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    uri = instructions(str(tmp_path / "set"), rewritten=True)
    corpus = str(tmp_path / "corpus")
    plan_dataset(corpus, kind="corpus", name="corpus", shards=0, config={})
    freeze(corpus)

    def fails(*arguments: str) -> str:
        try:
            status = main(["manner", *arguments, "--out", str(tmp_path / "bad")])
        except SystemExit as parser_said:
            status = parser_said.code
        assert status == 2
        return capsys.readouterr().err

    assert "not a published dataset" in fails(str(tmp_path / "none"))
    assert "not a published dataset" in fails(uri, "--before", str(tmp_path / "none"))
    assert "kind corpus" in fails(corpus)
    assert "did you mean 'pairwise'" in fails(uri, "--set", "pairwize=false")
    assert "no model folder" in fails(uri, "--inner", "/nowhere/model")
    assert "backend vllm" in fails(uri, "--set", "inner.backend=openai")
    assert "unknown manner prompts 'ful'" in fails(uri, "--set", "prompts=ful")
    assert "nothing to measure" in fails(uri, "--rows", "0")
    assert not (tmp_path / "bad").exists()


def test_help_loads_nothing_heavy() -> None:
    heavy = "('ray', 'torch', 'vllm', 'transformers', 'pandas', 'datasets')"
    code = f"import sys, datagen.manner.cli; sys.exit(', '.join(m for m in {heavy} if m in sys.modules) or 0)"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True)
    assert done.returncode == 0, f"loaded: {done.stderr}"
