"""The page of the writing-manner gap in a browser: nothing is loaded, nothing of the data runs, and it can be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from datagen.manner.page import render
from tests.browser.conftest import Open
from tests.browser.test_train_pages import CONTRASTS
from tests.datagen.manner.test_summary import of, row
from tests.train.run_folder import HOSTILE

VERDICTS = ["after"] * 5 + ["before", "tie", "inconsistent"]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Answers before and after, judged, one of them hostile."""
    rows = [row(i, verdict=verdict) for i, verdict in enumerate(VERDICTS)]
    rows[0] |= {"question": HOSTILE, "own": HOSTILE, "before": HOSTILE}
    out = tmp_path_factory.mktemp("manner") / "manner.html"
    out.write_text(render(of(rows), rows))
    return out


def test_nothing_is_loaded_and_nothing_of_the_data_runs(page: Path, open_page: Open) -> None:
    opened = open_page(page)
    opened.unfold()
    assert opened.seen.requests == [page.as_uri()]
    assert opened.seen.messages == [] and opened.seen.dialogs == [] and opened.seen.blocked == []
    assert opened.page.evaluate("window.hacked") is None


def test_verdicts_fill_the_bar_by_their_shares(page: Path, open_page: Open) -> None:
    opened = open_page(page)
    bar, table = opened.page.locator(".judged"), opened.page.locator(".judged + table")
    widths = bar.locator("rect").evaluate_all("all => all.map(r => r.getBoundingClientRect().width)")
    assert sum(widths) == pytest.approx(table.bounding_box()["width"], rel=0.01)  # type: ignore[index]
    assert max(widths) / min(widths) == pytest.approx(5, rel=0.02)


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_fits_and_can_be_read(page: Path, open_page: Open, width: int, scheme: Any) -> None:
    opened = open_page(page, width=width, color_scheme=scheme)
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    contrasts = opened.page.evaluate(CONTRASTS)
    assert contrasts and min(c for _, c in contrasts) >= 4.5, sorted(contrasts, key=lambda c: c[1])[:5]
