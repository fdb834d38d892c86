"""The attention page in a browser: nothing is loaded, nothing of the data runs, and it can be read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cluster.datasets import commit_shard, freeze, plan_dataset, read_shard
from datagen import corpus
from datagen.starter.world import WorldConfig, write_world
from eval.attention import ATTENTION_SCHEMA
from eval.attention_page import write_page
from eval.config import GoldSet
from eval.samples import load, select
from eval.tasks import TASKS, Sample
from tests.browser.conftest import Open
from tests.browser.test_train_pages import CONTRASTS
from tests.train.run_folder import HOSTILE


def attention_row(k: int, sample: Sample, heads: int, rng: np.random.Generator) -> dict[str, Any]:
    """A sample with attention on 3 x 4 cells."""
    shares = rng.dirichlet(np.ones(20), heads)
    return dict.fromkeys(ATTENTION_SCHEMA.names) | {
        "sample_id": sample.id,
        "task": sample.task,
        "benchmark": "",
        "shard": 0,
        "image_id": sample.image_ids[0],
        "question": HOSTILE if k == 0 else "What is it?",
        "answer": HOSTILE if k == 1 else "It is red.",
        "tokens": 20,
        "image_tokens": 12,
        "mass": float(shares[:, :12].sum(axis=1).mean()),
        "mass_first": float(shares[:, 12].mean()),
        "mass_head": shares[:, :12].sum(axis=1),
        "rows": 3,
        "columns": 4,
        "region": (0.0, -0.5, 1.0, 1.5) if k == 2 else (0.0, 0.0, 1.0, 1.0),
        "map": shares[:, :12].mean(axis=0),
        "top_head": 0,
        "top_map": shares[0, :12],
        "state": "failed" if k == 5 else "accepted",
        "reason": "",
    }


def damaged(source: str, image_id: str, out: str) -> str:
    """A copy of a corpus of one shard in which a picture cannot be opened."""
    rows = [corpus.from_row(row) for row in read_shard(source, 0).to_pylist()]
    rows = [replace(row, image=b"damaged") if row.image_id == image_id else row for row in rows]
    plan_dataset(out, kind="corpus", name="pictures", shards=1, config={"of": "browser tests"})
    commit_shard(out, 0, {"rows": corpus.to_table(rows)})
    freeze(out)
    return out


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models of different numbers of heads, hostile texts, a damaged picture, a failed sample."""
    root = tmp_path_factory.mktemp("attention")
    paths = write_world(str(root), WorldConfig(images=6, split="test", shard_images=6))
    gold = GoldSet(corpus=paths.corpus, instructions=paths.gold["questions"])
    chunk = select(gold, [TASKS["caption"]], 6, 100)[0]
    samples = [item.sample for item in load(gold, chunk)]
    gold = gold.model_copy(
        update={"corpus": damaged(gold.corpus, samples[4].image_ids[0], str(root / "damaged"))}
    )
    uris = []
    for seed, (name, heads) in enumerate({HOSTILE[:40]: 4, "vit": 40}.items()):
        rng = np.random.default_rng(seed)
        rows = [attention_row(k, sample, heads, rng) for k, sample in enumerate(samples)]
        uri = str(root / f"model{seed}")
        plan_dataset(
            uri,
            kind="eval",
            name=name,
            shards=1,
            config={"what": "attention", "gold_set": gold.model_dump()},
            models={name: "r"},
        )
        table = pa.Table.from_pylist(rows, schema=ATTENTION_SCHEMA)
        commit_shard(uri, 0, {"rows": table}, counts={"accepted": 5, "failed": 1})
        freeze(uri)
        uris.append(uri)
    out = root / "page.html"
    write_page(uris, str(out), title=HOSTILE)
    return out


def test_nothing_is_loaded_and_nothing_of_the_data_runs(page: Path, open_page: Open) -> None:
    opened = open_page(page)
    # Pictures of the file itself are no requests to anywhere.
    assert [r for r in opened.seen.requests if not r.startswith("data:image/jpeg;base64,")] == [page.as_uri()]
    assert opened.seen.messages == [] and opened.seen.dialogs == [] and opened.seen.blocked == []
    assert opened.page.evaluate("window.hacked") is None
    assert opened.page.locator("script").count() == 0
    # Five samples that did not fail, one of them with a damaged picture; a picture and two maps for each model.
    assert opened.page.locator(".look").count() == 4
    assert opened.page.locator(".look img").count() == 4 * 5
    assert opened.page.evaluate("[...document.images].every(i => i.naturalWidth > 0)")


def test_what_the_policy_forbids_does_not_happen(page: Path, open_page: Open) -> None:
    opened = open_page(page)
    opened.page.evaluate(
        "for (const [tag, set] of [['script', e => e.textContent = 'window.hacked = 1'], "
        "['img', e => e.src = 'https://example.invalid/a.png'], ['style', e => e.textContent = 'body{color:red}']]) "
        "{ const e = document.createElement(tag); set(e); document.body.append(e); }"
    )
    opened.page.wait_for_timeout(100)
    assert opened.page.evaluate("window.hacked") is None
    assert sum("Content Security Policy" in m for m in opened.seen.messages) == 3


@pytest.mark.parametrize("width", [320, 390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_fits_and_can_be_read(page: Path, open_page: Open, width: int, scheme: Any) -> None:
    opened = open_page(page, width=width, color_scheme=scheme)
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    contrasts = opened.page.evaluate(CONTRASTS)
    assert contrasts and min(c for _, c in contrasts) >= 4.5, sorted(contrasts, key=lambda c: c[1])[:5]
    sizes = opened.page.eval_on_selector_all(
        "svg.plot text", "all => all.map(t => parseFloat(getComputedStyle(t).fontSize) * t.getScreenCTM().a)"
    )
    assert all(6.5 <= size <= 16 for size in sizes), (min(sizes), max(sizes))
