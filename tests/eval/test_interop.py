"""lmms-eval's logs, built by hand as its versions write them, to a run of ours and back."""

from __future__ import annotations

import base64
import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from cluster.datasets import iter_tables
from cluster.errors import UserError
from cluster.models import STARTERS
from datagen.records import from_table
from datagen.starter.world import WorldConfig, write_world
from eval.benchmarks.importing import ImportJob, run_import
from eval.interop.lmms import client_command, is_cpu_build, main, serve_command
from eval.interop.lmms_export import export_run
from eval.interop.lmms_import import Imported, import_run
from eval.interop.lmms_log import reported
from eval.interop.lmms_tasks import BY_NAME
from eval.report import summarise, text
from eval.tasks import TASKS
from tests.eval.benchmarks.layouts import cell, parquet

REPO = Path(__file__).parents[2]
PARTS = ("random", "popular", "adversarial")
# One question stands for every picture, so only names and places can tell rows apart.
POPE = [
    {"id": str(n), "question_id": str(n % 4), "question": "Is there a square in the image?", "category": PARTS[n // 4],
     "answer": "yes" if n % 2 else "no", "image_source": f"p{n}", "image": cell(n)}
    for n in range(12)
]  # fmt: skip
CHART = [
    {"type": "human_test", "question": f"What is BAR {n} worth?", "answer": str(10 * n), "image": cell(n)}
    for n in range(5)
]
CAPTIONS = [
    {"question_id": f"c{n}.jpg", "image_id": f"c{n}", "answer": [f"a square number {n} on white", f"the {n} square"],
     "image": cell(n)}
    for n in range(6)
]  # fmt: skip


@pytest.fixture(scope="module")
def benchmarks(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Three imported gold sets, two of them from several files."""
    root = tmp_path_factory.mktemp("benchmarks")
    parquet(root / "pope/data/test-00000-of-00002.parquet", POPE[:7])
    parquet(root / "pope/data/test-00001-of-00002.parquet", POPE[7:])
    # The second chart's answer is missing: a reject, which has a number all the same.
    parquet(
        root / "chartqa/test-0.parquet",
        [{**row, "answer": "" if n == 1 else row["answer"]} for n, row in enumerate(CHART)],
    )
    parquet(root / "coco2017/val-0.parquet", CAPTIONS)
    for name in ("pope", "chartqa", "coco2017"):
        run_import(
            ImportJob(benchmark=name, sources=(str(root / name),), output=str(root / "in"), shard_images=3)
        )
    return str(root / "in")


def line(
    n: int, asked: str, said: str, target: Any, metric: Any, *, doc: dict[str, Any] | None = None
) -> dict[str, Any]:
    """A sample as lmms-eval 0.7 writes it, or with the document and nested answers of older versions."""
    row = {
        "doc_id": n,
        "target": str(target),
        "token_counts": [{"output_tokens": 2}],
        "doc_hash": "0",
        **metric,
    }
    if doc is None:
        return {**row, "filtered_resps": said, "input": asked}
    kept = {key: value for key, value in doc.items() if key != "image"}
    return {
        **row,
        "doc": kept,
        "arguments": [asked, {"max_new_tokens": 16}],
        "resps": [[said]],
        "filtered_resps": [said],
    }


def write_log(
    folder: Path, samples: dict[str, list[dict[str, Any]]], *, date: str = "20250101_120000"
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for task, rows in samples.items():
        body = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{date}_samples_{task}.jsonl").write_text(body, encoding="utf-8")
    return folder


def make_log(folder: Path, *, old: bool) -> Path:
    """Every second POPE answer is right by the authors' rule and none by lmms-eval's; charts and captions are right."""
    scores = [{"pope_accuracy": {"question_id": row["question_id"], "score": 0.0}} for row in POPE]
    said = ["Yes, there is\u2028" if n % 4 < 2 else "No, none\u2028" for n in range(len(POPE))]
    pope = [
        line(n, f"{row['question']}\nAnswer.", said[n], row["answer"], scores[n], doc=row if old else None)
        for n, row in enumerate(POPE)
    ]
    # As its prompts are: capitalised, which lowers what stood in capitals.
    asked = [str(row["question"]).capitalize() + "\nAnswer" for row in CHART]
    charts = [
        line(
            n, asked[n], str(row["answer"]), row["answer"], {"relaxed_overall": 1.0}, doc=row if old else None
        )
        for n, row in enumerate(CHART)
    ]
    captions = [
        line(n, "Provide a one-sentence caption.", row["answer"][0], row["answer"], {"coco_CIDEr": {"pred": "x"}},
             doc=row if old else None)
        for n, row in enumerate(CAPTIONS)
    ]  # fmt: skip
    samples = {
        "pope": pope[::-1],
        "chartqa": charts,
        "coco2017_cap_val": captions,
        "mmvet": [line(0, "a", "b", "c", {})],
    }
    return write_log(folder, samples)


def rows(uri: str) -> dict[str, dict[str, Any]]:
    return {row["sample_id"]: row for table in iter_tables(uri) for row in table.to_pylist()}


@pytest.mark.parametrize("old", [False, True])
def test_answers_find_their_gold_rows(benchmarks: str, tmp_path: Path, old: bool) -> None:
    made = import_run(
        str(make_log(tmp_path / "log", old=old)),
        name="llava",
        benchmarks=benchmarks,
        output=str(tmp_path / "out"),
    )
    found = {task.task: task for task in made.tasks}
    assert (found["pope"].samples, found["pope"].unmatched) == (12, 0)
    # Both tools agree on charts, and not on "Yes, there is"; the reject has no gold row.
    assert (found["chartqa"].samples, found["chartqa"].unmatched, found["chartqa"].differ) == (4, 1, 0)
    assert (found["pope"].theirs, found["pope"].ours, found["pope"].differ) == (0.0, 50.0, 6)
    stored = rows(made.uri)
    assert len(stored) == 12 + 4 + 6
    for n, row in enumerate(POPE):
        sample = stored[f"pope_{PARTS[n // 4]}:{PARTS[n // 4]}:{n % 4}"]
        assert sample["golds"] == [row["answer"]] and sample["prediction"].startswith(
            "Yes" if n % 4 < 2 else "No"
        )
        assert sample["tokens_completion"] == 2
    assert len({stored[s]["image_id"] for s in stored if s.startswith("pope")}) == 12
    summary = summarise([made.uri], draws=100)
    values = {task["task"]: task["models"]["llava"]["value"] for task in summary["tasks"]}
    assert values["pope_random"] == 50 and values["chartqa"] == 100 and values["coco2017"] > 300


def test_a_log_of_the_first_documents_and_a_newer_one(benchmarks: str, tmp_path: Path) -> None:
    log = make_log(tmp_path / "log", old=False)
    few = [
        line(n, CHART[n]["question"], "0", CHART[n]["answer"], {"relaxed_overall": float(n == 0)})
        for n in (0, 2)
    ]
    write_log(log, {"chartqa": few}, date="20250102_000000")
    made = import_run(str(log), name="m", benchmarks=benchmarks, output=str(tmp_path / "out"))
    chart = next(task for task in made.tasks if task.task == "chartqa")
    assert chart.samples == 2 and chart.ours == chart.theirs == 50


def test_other_documents_are_counted_and_never_guessed(benchmarks: str, tmp_path: Path) -> None:
    lines = [
        line(0, "Another question?", "10", "10", {}),
        line(
            99, "What is bar 2 worth?", "20", "20", {}
        ),  # beyond the files, but question and answer say which
        line(3, "What is bar 3 worth?", "30", "30", {}),
        {**line(4, "What is bar 4 worth?", "", "40", {}), "filtered_resps": [[-1.5, False]]},
    ]
    log = write_log(tmp_path / "log", {"chartqa": lines})
    [task] = import_run(str(log), name="m", benchmarks=benchmarks, output=str(tmp_path / "out")).tasks
    assert (task.samples, task.unmatched, task.silent) == (2, 1, 1) and math.isnan(task.theirs)


def test_bad_logs_are_named(benchmarks: str, tmp_path: Path) -> None:
    def attempt(folder: Path, root: str = benchmarks) -> Imported:
        return import_run(str(folder), name="m", benchmarks=root, output=str(tmp_path / "out"))

    with pytest.raises(UserError, match="Run lmms-eval with --log_samples"):
        attempt(tmp_path)
    log = write_log(tmp_path / "cut", {"chartqa": [line(0, "a", "b", "c", {})]})
    file = next(log.iterdir())
    file.write_text(file.read_text() + '{"doc_id": 1, "tar')
    with pytest.raises(UserError, match="line 2: not JSON"):
        attempt(log)
    file.write_text("[]\n")
    with pytest.raises(UserError, match="line 1: no doc_id"):
        attempt(log)
    file.write_text("")
    with pytest.raises(UserError, match="no sample matches"):
        attempt(log)
    with pytest.raises(UserError, match="not imported: chartqa"):
        attempt(log, str(tmp_path / "nowhere"))


def results(folder: Path, **tasks: dict[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / "20250101_120000_results.json"
    counts = {"vqav2_val": {"original": 214354, "effective": 500}}
    place.write_text(json.dumps({"results": tasks, "n-samples": counts, "date": "x"}))
    return place


def test_numbers_of_a_results_file(tmp_path: Path) -> None:
    place = results(
        tmp_path,
        vqav2_val={"alias": "vqav2_val", "exact_match,none": 0.7664, "exact_match_stderr,none": 0.004},
        mme={
            "mme_perception_score,none": 1508.0,
            "mme_cognition_score,none": 300.0,
            "mme_perception_score_stderr,none": "N/A",
        },
        coco2017_cap_val={"coco_CIDEr,none": 1.1038, "coco_CIDEr_stderr,none": []},
        ocrbench={"ocrbench_accuracy,none": 0.313},
        mmvet={"gpt_eval_score,none": 30.0},
        gqa={"exact_match,none": "N/A"},
    )
    found = reported(str(tmp_path))
    assert repr(reported(str(place))) == repr(found)
    assert {task: round(n.value, 6) for task, n in found.items()} == {
        "vqav2": 76.64, "mme": 1808.0, "coco2017": 110.38, "ocrbench": 313.0,
    }  # fmt: skip
    assert found["vqav2"].se == pytest.approx(0.4) and found["vqav2"].n == 500 and math.isnan(found["mme"].se)
    assert found["mme"].metrics == {"perception": 1508.0, "cognition": 300.0}


def test_reported_numbers_join_the_comparison(benchmarks: str, tmp_path: Path) -> None:
    made = import_run(
        str(make_log(tmp_path / "log", old=False)),
        name="ours",
        benchmarks=benchmarks,
        output=str(tmp_path / "out"),
    )
    results(tmp_path / "r", chartqa={"relaxed_overall,none": 0.5}, mme={"mme_perception_score,none": 1500.0})
    summary = summarise([made.uri], "paper", draws=100, reported={"paper": reported(str(tmp_path / "r"))})
    chart = next(task for task in summary["tasks"] if task["task"] == "chartqa")
    assert chart["differences"]["ours"]["value"] == 50 and chart["differences"]["ours"]["p"] is None
    assert summary["averages"]["all"]["ocr"]["models"]["ours"] == {"value": 100.0, "se": None, "p": None}
    assert (
        "reported" in chart["models"]["paper"]["method"] or chart["models"]["paper"]["method"] == "lmms-eval"
    )
    assert "+100.0" in text(summary)


def test_there_and_back_again(benchmarks: str, tmp_path: Path) -> None:
    first = import_run(
        str(make_log(tmp_path / "log", old=False)),
        name="a/b",
        benchmarks=benchmarks,
        output=str(tmp_path / "out"),
    )
    files = export_run(first.uri, str(tmp_path / "export"), date=datetime(2025, 3, 4, 5, 6, 7), draws=200)
    assert files[0] == tmp_path / "export/a__b/20250304_050607_results.json"
    assert {f.name.split("_samples_")[1] for f in files[1:]} == {
        "pope_random.jsonl", "pope_pop.jsonl", "pope_adv.jsonl", "chartqa.jsonl", "coco2017_cap_val.jsonl",
    }  # fmt: skip
    data = json.loads(files[0].read_text())
    assert {
        "results",
        "configs",
        "versions",
        "n-shot",
        "higher_is_better",
        "n-samples",
        "config",
        "task_hashes",
    } <= data.keys()
    assert {"model_source", "model_name", "model_name_sanitized", "git_hash", "date"} <= data.keys()
    sample = json.loads(files[1].read_bytes().split(b"\n")[0])
    assert {
        "doc_id",
        "doc",
        "target",
        "input",
        "resps",
        "filtered_resps",
        "doc_hash",
        "token_counts",
    } <= sample.keys()
    again = import_run(
        str(tmp_path / "export"), name="a/b", benchmarks=benchmarks, output=str(tmp_path / "again")
    )
    before, after = rows(first.uri), rows(again.uri)
    assert before.keys() == after.keys()
    for name, row in before.items():
        assert after[name]["prediction"] == row["prediction"].strip() and after[name]["score"] == row["score"]
        assert after[name]["image_id"] == row["image_id"]
    numbers = reported(str(tmp_path / "export"))
    for task in summarise([first.uri], draws=100)["tasks"]:
        assert numbers[task["task"]].value == pytest.approx(task["models"]["a/b"]["value"])
    with pytest.raises(UserError, match="holds no answers"):
        export_run(f"{benchmarks}/gold/pope", str(tmp_path))


def test_names_on_both_sides() -> None:
    for theirs in BY_NAME.values():
        assert set(theirs.tasks) <= set(TASKS)
        rule = TASKS[theirs.tasks[0]].rule
        assert set(theirs.parts) <= set(rule.metrics)


# In a process of its own: vLLM's logging takes hold of the streams that a test's capture closes.
PARSE = """
import json, sys
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser
found = vars(make_arg_parser(FlexibleArgumentParser()).parse_args(json.loads(sys.argv[1])))
print(json.dumps({key: found.get(key) for key in ("model_tag", "model", "host", "port", "served_model_name")}))
"""


def parsed(arguments: list[str]) -> dict[str, Any]:
    command = [sys.executable, "-c", PARSE, json.dumps(arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.slow  # two starts of vLLM's parser
def test_the_served_command_is_one_that_vllm_takes(capsys: pytest.CaptureFixture[str]) -> None:
    if find_spec("vllm") is None:
        pytest.skip("no vLLM here")
    command = serve_command("runs/a model", name="l2t", port=8123)
    assert command[:2] == ["vllm", "serve"]
    found = parsed(command[2:])
    assert (found["model_tag"], found["host"], found["port"]) == ("runs/a model", "127.0.0.1", 8123)
    assert found["served_model_name"] == ["l2t"]
    module = serve_command("runs/a model", name="l2t", port=8123, cpu_build=True)
    again = parsed(module[3:])
    assert (again["model"], again["host"]) == ("runs/a model", "127.0.0.1")
    looked = "import importlib.util, sys; sys.exit(importlib.util.find_spec(sys.argv[1]) is None)"
    assert subprocess.run([sys.executable, "-c", looked, module[2]], capture_output=True).returncode == 0
    assert main(["export-lmms", "--serve", "runs/a model", "--tasks", "gqa,mme", "--port", "8123"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].endswith("--served-model-name l2t") and "'runs/a model'" in shown[0]
    assert "--tasks gqa,mme" in shown[1] and "base_url=http://127.0.0.1:8123/v1" in shown[1]
    assert client_command(name="l2t", tasks="gqa", output="o")[0] == "lmms-eval"


def test_commands(benchmarks: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = str(make_log(tmp_path / "log", old=False))
    take = ["import-lmms", log, "--name", "llava", "--benchmarks", benchmarks]
    assert main([*take, "--output", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[-1].startswith(str(tmp_path / "out/llava-lmms-")) and any(
        s.startswith("pope") for s in shown
    )
    assert main(["export-lmms", shown[-1], "--output", str(tmp_path / "logs")]) == 0
    assert main(["import-lmms", str(tmp_path / "logs"), "--numbers"]) == 0
    assert "chartqa" in capsys.readouterr().out
    with pytest.raises(UserError, match="--output is missing"):
        main(take)
    with pytest.raises(UserError, match="--output FOLDER, or --serve MODEL"):
        main(["export-lmms", shown[-1]])


@pytest.mark.parametrize("command", ["import-lmms", "export-lmms"])
def test_help_is_light_and_has_examples(command: str) -> None:
    code = (
        "import sys; from eval.interop.lmms import main\n"
        f"try: main(['{command}', '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'ray', 'torch', 'vllm', 'transformers', 'numpy', 'pyarrow'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPO, env=os.environ, capture_output=True, text=True, check=True
    )
    assert "examples:" in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_served_checkpoint_answers_as_the_driver_asks(tmp_path: Path) -> None:
    """The starter behind the documented command, asked what lmms-eval's async_openai sends."""
    pytest.importorskip("vllm")
    world = write_world(str(tmp_path), WorldConfig(images=6, split="test", shard_images=6))
    pictures = {r["image_id"]: r["image"]["bytes"] for t in iter_tables(world.corpus) for r in t.to_pylist()}
    asked = [r for t in iter_tables(world.gold["questions"]) for r in from_table(t)][:20]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = serve_command(str(STARTERS["starter"]), name="l2t", port=port, cpu_build=is_cpu_build())
    start = [sys.executable, *command[1:]] if command[0] == "python" else command
    light = {
        "OMP_NUM_THREADS": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
    }
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            start, env={**os.environ, **light}, stdout=log, stderr=log, start_new_session=True
        )
    try:
        answers = [_ask(port, r.question, pictures[r.image_ids[0]], server) for r in asked]
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(60)
    right = sum(
        said.strip().rstrip(".").lower() == r.answer.rstrip(".").lower()
        for said, r in zip(answers, asked, strict=True)
    )
    assert right >= 10


def _ask(port: int, question: str, picture: bytes, server: subprocess.Popen[bytes]) -> str:
    url = "data:image/png;base64," + base64.b64encode(picture).decode()
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": question}]
    body = {
        "model": "l2t",
        "max_tokens": 24,
        "temperature": 0,
        "messages": [{"role": "user", "content": content}],
    }
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/chat/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json", "Authorization": "Bearer none"},
    )
    deadline = time.monotonic() + 400
    while True:
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                return str(json.load(reply)["choices"][0]["message"]["content"])
        except urllib.error.HTTPError:
            raise
        except urllib.error.URLError:
            assert server.poll() is None and time.monotonic() < deadline
            time.sleep(1)
