"""The comparison from scored rows: pairs, corpus metrics by the bootstrap, Holm, means with and without RefCOCO."""

from __future__ import annotations

import json
import math
import random
from typing import Any

import numpy as np
import pytest

from eval.results import RESULT_SCHEMA, TaskScores, score_rows
from eval.runs import Reported, Run
from eval.statistics import estimate, paired
from eval.summary import compare
from eval.tasks import TASKS
from eval.terminal import show

WORDS = (
    "red",
    "green",
    "small",
    "large",
    "dog",
    "cat",
    "bird",
    "house",
    "tree",
    "car",
    "table",
    "sky",
    "water",
)


def caption(rng: random.Random) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(8))


def rows(
    name: str, skill: float, *, tasks: tuple[str, ...], n: int = 60, images: int = 20
) -> list[dict[str, Any]]:
    out = []
    for task in tasks:
        for k in range(n):
            rng, truth = random.Random(f"{name}{task}{k}"), random.Random(f"{task}{k}")
            golds = [caption(truth), caption(truth)]
            right, wrong = golds[0], caption(rng)
            if TASKS[task].scorer in ("pope", "mme"):
                golds = [truth.choice(("yes", "no"))]
                right, wrong = golds[0], "no" if golds[0] == "yes" else "yes"
            out.append(
                dict.fromkeys(RESULT_SCHEMA.names)
                | {
                    "sample_id": f"{task}:{k}",
                    "task": task,
                    "image_id": f"image{k % images}",
                    "group": f"pair{k // 2}" if task == "mme" else "",
                    "category": "existence" if k % 3 else "code_reasoning",
                    "golds": golds,
                    "prediction": right if rng.random() < skill else wrong,
                    "state": "accepted",
                }
            )
    return out


def run(name: str, skill: float, *tasks: str, **how: Any) -> Run:
    return Run(
        name=name, revision="r", tasks=score_rows(rows(name, skill, tasks=tasks, **how)), info={"uri": ""}
    )


ALL = ("pope_random", "pope_popular", "mme", "coco2017", "refcoco")


@pytest.fixture(scope="module")
def summary() -> dict[str, Any]:
    return compare([run("vit", 0.4, *ALL), run("l2t", 0.8, *ALL), run("mid", 0.5, *ALL)], draws=500)


def test_nothing_in_it_that_json_cannot_say(summary: dict[str, Any]) -> None:
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_corpus_metrics_are_resampled_and_means_are_not(summary: dict[str, Any]) -> None:
    methods = {t["task"]: t["models"]["l2t"]["method"] for t in summary["tasks"]}
    assert methods == {
        "pope_random": "clustered", "pope_popular": "clustered", "mme": "bootstrap", "coco2017": "bootstrap",
        "refcoco": "bootstrap",
    }  # fmt: skip
    for task in summary["tasks"]:
        entry, difference = task["models"]["l2t"], task["differences"]["l2t"]
        assert entry["low"] < entry["value"] < entry["high"]
        assert difference["value"] == pytest.approx(entry["value"] - task["models"]["vit"]["value"])
        assert difference["low"] <= difference["value"] <= difference["high"] and difference["n"] == 60


@pytest.mark.parametrize("task", ["coco2017", "mme", "pope_random"])
def test_the_bootstrap_agrees_with_the_closed_form(task: str) -> None:
    a, b = (run(name, skill, task, n=300, images=100).tasks[task] for name, skill in (("a", 0.7), ("b", 0.5)))
    for key in {TASKS[task].rule.primary, "f1"} & {*TASKS[task].rule.metrics}:
        metric = TASKS[task].rule.metrics[key]
        drawn = paired(metric, a.stats, b.stats, a.clusters, draws=3000, resample=True)
        alone = estimate(metric, a.stats, a.clusters, draws=3000, resample=True)
        (value, part), (other, its) = metric.value.residuals(a.stats), metric.value.residuals(b.stats)  # type: ignore[union-attr]
        sums: dict[str, float] = {}
        for image, x in zip(a.clusters, part - its, strict=True):
            sums[image] = sums.get(image, 0.0) + x
        assert drawn.value == pytest.approx(value - other) and alone.value == pytest.approx(value)
        assert drawn.se == pytest.approx(math.sqrt(sum(x * x for x in sums.values())), rel=0.12)


def test_order_of_rows_and_runs_does_not_matter(summary: dict[str, Any]) -> None:
    shuffled = []
    for name, skill in (("mid", 0.5), ("l2t", 0.8), ("vit", 0.4)):
        mixed = rows(name, skill, tasks=ALL)
        random.Random(name).shuffle(mixed)
        shuffled.append(Run(name=name, revision="r", tasks=score_rows(mixed), info={"uri": ""}))
    again = compare(shuffled, "vit", draws=500)
    assert {t["task"]: t["differences"]["l2t"] for t in again["tasks"]} == {
        t["task"]: t["differences"]["l2t"] for t in summary["tasks"]
    }
    for view in ("all", "without_refcoco"):
        mine, theirs = (s["averages"][view]["overall"]["models"]["l2t"] for s in (again, summary))
        assert mine["value"] == pytest.approx(theirs["value"]) and mine["se"] == pytest.approx(theirs["se"])


def test_means_by_category_are_means_of_relative_differences(summary: dict[str, Any]) -> None:
    relative = {t["task"]: t["differences"]["l2t"]["relative"] for t in summary["tasks"]}
    found = summary["averages"]["all"]
    assert found["captions"]["tasks"] == ["coco2017", "refcoco"]
    assert found["captions"]["models"]["l2t"]["value"] == pytest.approx(
        (relative["coco2017"] + relative["refcoco"]) / 2
    )
    assert found["overall"]["models"]["l2t"]["value"] == pytest.approx(sum(relative.values()) / 5)
    without = summary["averages"]["without_refcoco"]
    assert without["captions"]["models"]["l2t"]["value"] == pytest.approx(relative["coco2017"])
    assert list(found)[-1] == "overall" and "vit" not in found["overall"]["models"]
    mme = next(t for t in summary["tasks"] if t["task"] == "mme")
    perception = [mme["models"][m]["metrics"]["perception"]["value"] for m in ("vit", "l2t")]
    assert relative["mme"] == pytest.approx(100 * (perception[1] / perception[0] - 1))


def test_errors_of_tasks_about_the_same_images_are_not_independent() -> None:
    # POPE's two parts here hold the very same answers: their mean must have the error of one.
    one = rows("a", 0.6, tasks=("pope_random",)) + rows("b", 0.5, tasks=("pope_random",))
    both = []
    for name, own in (("a", one[:60]), ("b", one[60:])):
        twin = [
            {**r, "task": "pope_popular", "sample_id": r["sample_id"].replace("random", "popular")}
            for r in own
        ]
        both.append(Run(name=name, revision="r", tasks=score_rows(own + twin), info={"uri": ""}))
    single = [
        Run(name=r.name, revision="r", tasks={"pope_random": r.tasks["pope_random"]}, info={"uri": ""})
        for r in both
    ]
    two, alone = (
        compare(runs, draws=50)["averages"]["all"]["overall"]["models"]["b"] for runs in (both, single)
    )
    assert two["value"] == pytest.approx(alone["value"]) and two["se"] == pytest.approx(alone["se"])


def test_the_delta_method_against_resampling() -> None:
    a, b = (run(name, skill, "pope_random", n=400, images=400) for name, skill in (("a", 0.6), ("b", 0.7)))
    found = compare([a, b], draws=50)["averages"]["all"]["overall"]["models"]["b"]
    right = [s.tasks["pope_random"].stats @ [1, 0, 1, 0, 0, 0] for s in (a, b)]
    picks = np.random.default_rng(0).integers(0, 400, (4000, 400))
    drawn = 100 * (right[1][picks].sum(1) / right[0][picks].sum(1) - 1)
    assert found["se"] == pytest.approx(drawn.std(), rel=0.08)


def test_holm_is_over_the_tasks_of_each_model(summary: dict[str, Any]) -> None:
    for model in ("l2t", "mid"):
        raw = sorted(
            (t["differences"][model]["p"], t["differences"][model]["p_holm"]) for t in summary["tasks"]
        )
        assert raw[0][1] == pytest.approx(min(1.0, 5 * raw[0][0])) and all(a <= b for a, b in raw)
        assert [b for _, b in raw] == sorted(b for _, b in raw)


def test_runs_with_different_tasks_and_samples() -> None:
    more, fewer = run("a", 0.5, "pope_random", "mme"), run("b", 0.7, "pope_random", n=30)
    found = compare([more, fewer], draws=50)
    pope = next(t for t in found["tasks"] if t["task"] == "pope_random")
    assert pope["differences"]["b"]["n"] == 30 and pope["n"] == 60
    assert found["averages"]["all"]["overall"]["tasks"] == ["pope_random"]
    apart = Run(
        name="c", revision="r", info={"uri": ""}, tasks={"pope_random": _renamed(fewer.tasks["pope_random"])}
    )
    nothing = compare([more, apart], draws=50)["tasks"]
    cell = next(t for t in nothing if t["task"] == "pope_random")["differences"]["c"]
    assert cell["n"] == 0 and cell["value"] is None and cell["p_holm"] is None
    assert "a" in show(compare([more, apart], draws=50))


def _renamed(scores: TaskScores) -> TaskScores:
    return TaskScores(
        task=scores.task, ids=[f"other{i}" for i in scores.ids], clusters=scores.clusters, stats=scores.stats,
        truncated=0, failed=0,
    )  # fmt: skip


def test_reported_numbers_alone() -> None:
    table = {
        "vit": {"gqa": Reported(value=61.97), "mme": Reported(value=1808.0, metrics={"perception": 1508.0})},
        "l2t": {
            "gqa": Reported(value=62.32, se=0.4),
            "mme": Reported(value=1831.0, metrics={"perception": 1531.0}),
        },
    }
    runs = [Run(name=n, revision="", tasks={}, info={"uri": ""}, reported=r) for n, r in table.items()]
    found = compare(runs)
    assert found["averages"]["all"]["overall"]["models"]["l2t"]["value"] == pytest.approx(
        (0.5648 + 1.5252) / 2, abs=1e-3
    )
    assert found["averages"]["all"]["overall"]["models"]["l2t"]["se"] is None
    assert "+1.0" in show(found)
    json.dumps(found, allow_nan=False)
