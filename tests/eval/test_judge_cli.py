"""``l2t eval judge`` against a small OpenAI-compatible server of the test's own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cluster.datasets import commit_shard, freeze, iter_tables, plan_dataset
from cluster.runtime import init_ray
from eval.judge_cli import main
from eval.results import RESULT_SCHEMA
from tests.local_http import answering


class Judge(BaseHTTPRequestHandler):
    """Prefers the answer that says more; rates 4."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        said = asked["messages"][-1]["content"][-1]["text"]
        first, _, second = said.partition("Assistant B answered:")
        verdict = "Rating: 4"
        if second:
            verdict = "[[A]]" if "far more" in first else "[[B]]" if "far more" in second else "neither"
        choice = {"message": {"content": verdict}, "finish_reason": "stop"}
        answer = json.dumps({"choices": [choice], "usage": {}}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


@pytest.fixture
def server() -> Iterator[str]:
    with answering(Judge) as address:
        yield f"{address}/v1"


@pytest.fixture(scope="module", autouse=True)
def one_ray() -> Iterator[None]:
    """One session for all commands: starting it takes longer than they do."""
    with init_ray():
        yield


def answers(uri: str, model: str, said: list[str]) -> str:
    rows = [
        {n: None for n in RESULT_SCHEMA.names}
        | {"sample_id": f"mmhal:{k}", "model": model, "task": "mmhal", "image_id": str(k), "prompt": "What?",
           "prediction": text, "golds": ["a dog"], "state": "accepted", "reason": "", "meta": "{}"}
        for k, text in enumerate(said)
    ]  # fmt: skip
    plan_dataset(uri, kind="eval", name=model, shards=1, config={}, parents=[])
    commit_shard(uri, 0, {"rows": pa.Table.from_pylist(rows, schema=RESULT_SCHEMA)}, inputs=len(rows))
    freeze(uri)
    return uri


def test_pairs(server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    left = answers(str(tmp_path / "left"), "ours", ["far more", "far more", "less", "the same"])
    right = answers(str(tmp_path / "right"), "theirs", ["less", "less", "far more", "the same"])
    common = ["--model", "judge", "--base-url", server, "--pairs", "--output", str(tmp_path / "judged")]
    assert main([left, right, *common, "--json", str(tmp_path / "pairs.json")]) == 0
    assert (
        "ours better 2, theirs better 1, equal 0, swayed by the order 0, unparsed 1, failed 0"
        in capsys.readouterr().out
    )
    stored = json.loads((tmp_path / "pairs.json").read_text())
    assert stored["judge"] == "server:judge" and stored["tasks"]["mmhal"]["n"] == 4
    assert stored["tasks"]["mmhal"]["share"] == pytest.approx(200 / 3)
    (table,) = iter_tables(stored["uri"])
    assert table["outcome"].to_pylist() == ["left", "left", "right", "unparsed"]
    assert main([left, right, *common]) == 0  # nothing is left to do
    assert stored["uri"] in capsys.readouterr().out
    assert main([left, *common]) == 2
    assert main([left, right, *common, "--tasks", "mt_bench"]) == 2
    assert "no answered sample in common" in capsys.readouterr().err


def test_ratings(server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    uri = answers(str(tmp_path / "left"), "ours", ["a dog", "a cat"])
    judge = ["--model", "judge", "--base-url", server]
    assert main([uri, *judge]) == 2  # no output
    assert main([uri, *judge, "--output", str(tmp_path / "judged")]) == 0
    assert "2 answers, 2 read, 0 unparsed, 0 failed" in capsys.readouterr().out
