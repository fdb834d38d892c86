"""The evaluation's page in a browser: nothing is loaded, nothing of the data runs, and it can be read."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cluster.datasets import commit_shard, freeze, plan_dataset
from datagen import corpus
from eval.likelihood import LIKELIHOOD_SCHEMA
from eval.page import render
from eval.report import summarise
from eval.results import RESULT_SCHEMA
from eval.runs import Reported
from eval.tasks import SUITES, TASKS
from tests.browser.conftest import Open
from tests.browser.test_train_pages import CONTRASTS
from tests.datagen.conftest import row
from tests.train.run_folder import HOSTILE

THINGS = ("red ball", "small dog", "wooden table", "green bus", "old clock", "white horse", "long train")
GOLDS = {"pope": ("yes",), "mme": ("yes",)}
MODELS = {"base": 0.45, HOSTILE[:40]: 0.6, "seed1": 0.65, "seed2": 0.62, "seed3": 0.7}


def answer_rows(name: str, skill: float, images: list[str]) -> list[dict[str, Any]]:
    """Answers of a model that is right with probability ``skill``, hostile where it is wrong."""
    rows = []
    for task in (*SUITES["l2t"], "pope_random", "chair"):
        for k in range(24):
            thing = THINGS[k % len(THINGS)]
            golds = GOLDS.get(TASKS[task].scorer, ("A",))
            if TASKS[task].scorer in ("captions", "chair_coco"):
                golds = (f"a {thing} stands in the street", f"there is a {thing} and nobody else")
            elif task == "ocrbench":
                golds = (thing,)
            rng = random.Random(f"{name}{task}{k}")
            right = rng.random() < skill
            wrong = HOSTILE if k % 6 == 0 else "two cats and a chair" if task != "pope_random" else "no"
            rows.append(
                dict.fromkeys(RESULT_SCHEMA.names)
                | {
                    "sample_id": f"{task}:{k}{HOSTILE if k == 3 else ''}",
                    "model": name,
                    "task": task,
                    "image_id": images[k % len(images)],
                    "prompt": f"USER: <image>\nWhat is it? {HOSTILE if k == 6 else ''} ASSISTANT:",
                    "golds": list(golds),
                    "options": ["a ball", "a dog"],
                    "objects": ["sports ball"],
                    "category": "existence",
                    "meta": '{"box": [1, 1, 20, 20]}' if task == "refcoco" else "{}",
                    "prediction": golds[0] if right else wrong,
                    "state": "accepted",
                    "finish_reason": "stop",
                }
            )
    return rows


def likelihood_rows(name: str, skill: float) -> list[dict[str, Any]]:
    """Losses and contributions of the picture, of 200 samples."""
    rng = random.Random(name)
    gains = [rng.gauss(skill, 0.3) for _ in range(200)]
    return [
        dict.fromkeys(LIKELIHOOD_SCHEMA.names)
        | {"sample_id": f"s{k}", "model": name, "set": "test", "task": "gqa", "image_id": f"i{k % 50}"}
        | {"response_tokens": 4, "loss": 2 - gain, "vc": 4 * gain, "vc_per_token": gain, "state": "accepted"}
        for k, gain in enumerate(gains)
    ]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five models on 18 tasks, three of them seeds, one more with reported numbers; a damaged picture."""
    root = tmp_path_factory.mktemp("eval")
    images = str(root / "corpus")
    pictures = [row(i) for i in range(6)] + [row(6, b"damaged")]
    plan_dataset(images, kind="corpus", name="pictures", shards=1, config={"of": "browser tests"})
    commit_shard(images, 0, {"rows": corpus.to_table(pictures)})
    freeze(images)
    uris = []
    for k, (name, skill) in enumerate(MODELS.items()):
        for what, rows, schema in (
            ("answers", answer_rows(name, skill, [p.image_id for p in pictures]), RESULT_SCHEMA),
            ("likelihood", likelihood_rows(name, skill), LIKELIHOOD_SCHEMA),
        ):
            uri = str(root / f"m{k}-{what}")
            plan_dataset(
                uri,
                kind="eval",
                name=f"m{k}",
                shards=1,
                config={"what": what},
                parents=[images],
                models={name: "r"},
            )
            commit_shard(uri, 0, {"rows": pa.Table.from_pylist(rows, schema=schema)})
            freeze(uri)
            uris.append(uri)
    paper = {task: Reported(value=50.0, se=1.0) for task in SUITES["l2t"]}
    recipes = {"l2t": ["seed1", "seed2", "seed3"], "vit": ["base"]}
    summary = summarise(uris, "base", draws=200, recipes=recipes, reported={"the paper": paper})
    out = root / "page.html"
    out.write_text(render(summary, trains={}, instructions=[], title=f"Five models {HOSTILE}"))
    return out


def test_nothing_is_loaded_and_nothing_of_the_data_runs(page: Path, open_page: Open) -> None:
    opened = open_page(page)
    opened.unfold()
    assert [r for r in opened.seen.requests if not r.startswith("data:image/jpeg;base64,")] == [page.as_uri()]
    assert opened.seen.messages == [] and opened.seen.dialogs == [] and opened.seen.blocked == []
    assert opened.page.evaluate("window.hacked") is None
    assert opened.page.locator("script").count() == 0
    assert opened.page.evaluate("[...document.images].every(i => i.naturalWidth > 0)")
    assert (
        opened.page.evaluate(
            "Math.max(...[...document.images].map(i => Math.max(i.naturalWidth, i.naturalHeight)))"
        )
        <= 224
    )
    assert page.stat().st_size < 4_000_000


def test_every_task_opens_to_samples_of_both_directions(page: Path, open_page: Open) -> None:
    opened = open_page(page)
    counts = opened.page.eval_on_selector_all(
        "#samples details",
        "all => all.map(d => [d.querySelectorAll('.win').length, d.querySelectorAll('.loss').length])",
    )
    assert len(counts) >= 4 * 16 and all(1 <= wins + losses <= 6 for wins, losses in counts)
    last = opened.page.locator("#samples details").last
    assert not last.locator(".sample").first.is_visible()
    last.locator("summary").click()
    assert last.locator(".sample").first.is_visible()


def test_the_page_says_what_is_promised(page: Path, open_page: Open) -> None:
    opened = open_page(page)
    assert opened.page.locator("#improvement svg.plot polygon.web").count() == 6
    rows = opened.page.locator("#improvement .scores tbody tr").all_inner_texts()
    assert sum("without RefCOCO" in r for r in rows) == 2 and any(r.startswith("OCR") for r in rows)
    assert "overall, without RefCOCO" in opened.page.locator("#seeds table").inner_text()
    assert opened.page.locator("#mechanism svg .hill").count() == 2 * len(MODELS)
    names = {
        link.removeprefix("#")
        for link in opened.page.eval_on_selector_all("nav a", "a => a.map(l => l.hash)")
    }
    assert names == set(opened.page.eval_on_selector_all("section", "all => all.map(s => s.id)"))


def test_what_the_policy_forbids_does_not_happen(page: Path, open_page: Open) -> None:
    opened = open_page(page)
    opened.page.evaluate(
        "for (const [tag, set] of [['script', e => e.textContent = 'window.hacked = 1'], "
        "['img', e => e.src = 'https://example.invalid/a.png'], ['style', e => e.textContent = 'body{color:red}'], "
        "['p', e => e.setAttribute('style', 'color:red')]]) "
        "{ const e = document.createElement(tag); set(e); document.body.append(e); }"
    )
    opened.page.wait_for_timeout(100)
    assert opened.page.evaluate("window.hacked") is None
    assert sum("Content Security Policy" in m for m in opened.seen.messages) == 4


@pytest.mark.parametrize("width", [320, 390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_fits_and_can_be_read(page: Path, open_page: Open, width: int, scheme: Any) -> None:
    opened = open_page(page, width=width, color_scheme=scheme)
    opened.unfold()
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    contrasts = opened.page.evaluate(CONTRASTS)
    assert contrasts and min(c for _, c in contrasts) >= 4.5, sorted(contrasts, key=lambda c: c[1])[:5]
    sizes = opened.page.eval_on_selector_all(
        "svg.plot text", "all => all.map(t => parseFloat(getComputedStyle(t).fontSize) * t.getScreenCTM().a)"
    )
    assert all(6.5 <= size <= 17 for size in sizes), (min(sizes), max(sizes))
