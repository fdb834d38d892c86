"""Metrics and log lines of real runs on a real head, and a dashboard that asks for nothing else."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
import urllib.error
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cluster.log import run_id
from cluster.metrics import METRICS
from tests.cluster import s3_servers
from tests.cluster.conftest import enter
from tests.cluster.heads import Head, head
from tests.datagen.http_engine import PoisonedEngine
from tests.local_http import answering

DASHBOARD = Path(__file__).parents[2] / "cluster" / "dashboards" / "l2t.json"
NAME = re.compile(r"\bray_l2t_\w+")
# Exported only where it happens: an engine dies, a store fails, the GPU's peak is known, an evaluation runs.
RARE = {"l2t_engine_deaths", "l2t_storage_retries", "l2t_train_mfu", "l2t_eval_samples"}


def exported(name: str) -> set[str]:
    """What Prometheus sees of a metric (measured: Ray 2.60)."""
    match METRICS[name].kind:
        case "counter":
            return {f"ray_{name}_total"}
        case "histogram":
            return {f"ray_{name}_{end}" for end in ("bucket", "count", "sum")}
    return {f"ray_{name}"}


class Unhurried(PoisonedEngine):
    """Gives the exporter time to see the run."""

    def do_POST(self) -> None:
        time.sleep(0.3)
        super().do_POST()


@contextmanager
def scraping(of: Head) -> Iterator[dict[str, str]]:
    """A sample line by metric name, of everything that the port shows while the body runs."""
    seen: dict[str, str] = {}
    done = threading.Event()

    def scrape() -> None:
        while not done.wait(0.3):
            try:
                page = of.get(of.metrics)
            except (urllib.error.URLError, OSError):
                continue
            for line in page.splitlines():
                if found := re.match(NAME, line):
                    seen[found[0]] = line

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield seen
    finally:
        time.sleep(1.5)
        done.set()
        thread.join()


@pytest.mark.slow
def test_a_real_run_exports_what_the_dashboard_asks_for(
    moto_server: s3_servers.S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = enter(moto_server, "moto", monkeypatch)
    corpus, questions = f"{root}/corpora/starter-train", f"{root}/instructions/starter-train-questions"
    output, run = f"{root}/instructions/made", f"{root}/run"
    with (
        answering(Unhurried) as engine,
        head(**moto_server.environment) as cluster,
        scraping(cluster) as seen,
    ):
        here = {"RAY_ADDRESS": cluster.gcs, "L2T_WORKER_LOGS": "1"}
        cluster.call("cluster", "corpus", "starter", "--images", "12", "--out", root).check_returncode()
        made = cluster.call(
            "datagen", f"corpus={corpus}", f"output={output}", "engines.generator.backend=openai",
            f"engines.generator.base_url={engine}/v1",
            "drafts_per_image=2", "kinds=[color,ocr]", "rounds=0", "rewrite.share=0",
            "reformulate={bool_share: 0, choice_share: 0}", **here,
        )  # fmt: skip
        assert made.returncode == 0, made.stderr[-3000:]
        trained = cluster.call(
            "train", "demo-l2t", "workers=1", "epochs=null", "steps=6", "global_batch=8", "microbatch=8",
            f"data=[{{corpus: {corpus}, instructions: {questions}}}]", f"output={run}", "log_every=1",
            timeout=240, **here,
        )  # fmt: skip
        assert trained.returncode == 0, trained.stderr[-3000:]
    wanted = set().union(*(exported(name) for name in METRICS if name not in RARE))
    assert wanted <= seen.keys(), wanted - seen.keys()
    assert (
        f'run="{run_id(output)}"' in seen["ray_l2t_rows_total"]
        and f'dataset="{output}"' in seen["ray_l2t_rows_total"]
    )
    assert 'outcome="' in seen["ray_l2t_storage_requests_total"]

    worker = next(line for line in made.stderr.splitlines() if "committed to" in line)
    assert f"INFO datagen.worker run={run_id(output)} shard=0 " in worker.replace("\x1b[0m", "")
    assert f"run={run_id(output)} datagen 12/12 images" in made.stderr
    assert f"run={run_id(run)} worker=0 train l2t" in trained.stderr


def dashboard() -> dict[str, Any]:
    return dict(json.loads(DASHBOARD.read_text()))


def queries() -> list[str]:
    board = dashboard()
    asked = [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]
    return asked + [v["query"]["query"] for v in board["templating"]["list"] if v["type"] == "query"]


def test_every_query_asks_for_a_metric_that_there_is() -> None:
    there = set().union(*map(exported, METRICS))
    asked = {name for query in queries() for name in NAME.findall(query)}
    assert asked <= there, asked - there
    # And what is exported is shown, a histogram through its buckets.
    shown = {name for name in METRICS if exported(name) & asked}
    assert shown == METRICS.keys()


@pytest.mark.parametrize("query", queries())
def test_a_query_groups_by_tags_that_its_metrics_have(query: str) -> None:
    for name in NAME.findall(query):
        base = next(m for m in METRICS if name in exported(m))
        tags = {*METRICS[base].tags, *(("run", "dataset") if METRICS[base].of_run else ()), "le"}
        for grouped in re.findall(r"by \(([^)]*)\)", query):
            assert {t.strip() for t in grouped.split(",")} <= tags
        for selector in re.findall(rf"{name}\{{([^}}]*)\}}", query):
            assert set(re.findall(r"(\w+)\s*=", selector)) <= tags
    assert query.count("(") == query.count(")") and query.count("{") == query.count("}")


def test_the_dashboard_is_one_that_grafana_takes() -> None:
    board = dashboard()
    assert board["uid"] and board["title"] and board["schemaVersion"] >= 30 and "id" not in board
    variables = {v["name"] for v in board["templating"]["list"]}
    text = json.dumps(board["panels"])
    used = set(re.findall(r"\$\{?([a-z]\w*)", text))
    assert used <= variables, used - variables
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        assert place["x"] >= 0 and place["x"] + place["w"] <= 24 and place["h"] > 0
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
        if panel["type"] == "row":
            continue
        refs = [target["refId"] for target in panel["targets"]]
        assert refs and len(refs) == len(set(refs)) and panel["title"] and panel["description"]
        assert all(target["datasource"]["type"] == "prometheus" for target in panel["targets"])


def test_outside_of_ray_nothing_is_counted_and_ray_is_not_imported() -> None:
    code = (
        "import sys; from cluster import metrics; metrics.count('l2t_calls', 3, 'x'); "
        "metrics.level('l2t_train_step', 3, 'x'); metrics.observe('l2t_shard_seconds', 3, 'x'); "
        "print('ray' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
