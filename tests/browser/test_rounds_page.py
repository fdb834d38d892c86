"""The page of a bootstrap loop in a browser: nothing is loaded, nothing of the data runs, and it can be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cluster.datasets import commit_shard, freeze, plan_dataset
from datagen import corpus
from eval.rounds import render
from tests.browser.conftest import Open
from tests.browser.test_train_pages import CONTRASTS
from tests.datagen.conftest import row
from tests.datagen.every_state import every_state, write_rows
from tests.eval.test_rounds import decided, loop
from tests.train.run_folder import HOSTILE


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three rounds, one of them with drafts in every state."""
    root = tmp_path_factory.mktemp("rounds")
    images = str(root / "corpus")
    plan_dataset(images, kind="corpus", name="pictures", shards=1, config={"of": "browser tests"})
    commit_shard(images, 0, {"rows": corpus.to_table([row(i) for i in range(8)])})
    freeze(images)
    write_rows(str(root / "instructions" / "loop-1"), images, [every_state()])
    config = loop(root, corpus=images, model=HOSTILE, datagen={"preset": "starter-bootstrap"})
    out = root / "rounds.html"
    out.write_text(
        render(config, [decided(1), decided(2, "kept_out", reason=HOSTILE), decided(3, "collapsed")])
    )
    return out


def test_nothing_is_loaded_and_nothing_of_the_data_runs(page: Path, open_page: Open) -> None:
    opened = open_page(page)
    opened.unfold()
    assert [r for r in opened.seen.requests if not r.startswith("data:image/")] == [page.as_uri()]
    assert opened.seen.messages == [] and opened.seen.dialogs == [] and opened.seen.blocked == []
    assert opened.page.evaluate("window.hacked") is None
    assert (
        opened.page.locator("#written-1 img").count() > 0 and opened.page.locator("#written-2").count() == 0
    )


def test_each_round_is_a_column(page: Path, open_page: Open) -> None:
    opened = open_page(page)
    heads = opened.page.locator("#rounds thead th").all_inner_texts()
    assert heads == ["", "round 1", "round 2", "round 3"]
    outcomes = opened.page.locator("#rounds tbody tr").first.locator("td").all_inner_texts()
    assert outcomes == ["promoted", "kept out", "collapsed"]
    assert opened.page.locator("#tasks thead th").all_inner_texts()[2:] == [
        "round 0",
        "round 1",
        "round 2",
        "round 3",
    ]


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_fits_and_can_be_read(page: Path, open_page: Open, width: int, scheme: Any) -> None:
    opened = open_page(page, width=width, color_scheme=scheme)
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    contrasts = opened.page.evaluate(CONTRASTS)
    assert contrasts and min(c for _, c in contrasts) >= 4.5, sorted(contrasts, key=lambda c: c[1])[:5]
