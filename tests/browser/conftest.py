"""A real headless browser on pages opened from disk; every request, message and dialog of a page is written down."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from cluster.datasets import commit_shard, freeze, plan_dataset
from datagen import corpus
from datagen.corpus import Box, CorpusRow, Region, Relation
from datagen.gallery.page import build
from datagen.gallery.sample import Choice
from tests.datagen.conftest import png, row
from tests.datagen.every_state import every_state, hostile, write_rows

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",  # containers run tests as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@dataclass
class Seen:
    """What a page did beside showing itself."""

    requests: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)
    blocked: list[str] = field(default_factory=list)


@dataclass
class Opened:
    """A page and what it did so far."""

    page: Page
    seen: Seen

    def shown(self) -> set[str]:
        """Ids of the rows that a reader sees."""
        return set(
            self.page.eval_on_selector_all(
                ".g-entry", "rows => rows.filter(r => r.offsetParent !== null).map(r => r.dataset.id)"
            )
        )

    def cards(self) -> list[list[str]]:
        """Ids of shown rows by card, in the order of the page."""
        return self.page.eval_on_selector_all(
            ".g-card",
            "cards => cards.filter(c => c.offsetParent !== null).map(c => "
            "[...c.querySelectorAll('.g-entry')].filter(r => !r.hidden).map(r => r.dataset.id))",
        )

    def status(self) -> str:
        """The line that says how much is shown."""
        return self.page.locator("#g-status").inner_text()

    def hash(self) -> str:
        """The part of the address that keeps the filter."""
        return self.page.evaluate("location.hash")

    def unfold(self) -> None:
        """Open everything that is folded."""
        self.page.eval_on_selector_all("details", "all => all.forEach(d => d.open = true)")

    def until(self, expression: str) -> None:
        """Wait for a condition; asked from outside, as the page's policy forbids the waiting script itself."""
        for _ in range(100):
            if self.page.evaluate(expression):
                return
            self.page.wait_for_timeout(50)
        raise AssertionError(f"never came true: {expression}")


Open = Callable[..., Opened]


@pytest.fixture(scope="session")
def chromium() -> str:
    """An installed Chromium; without one these tests cannot run."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    return found


# Of a module: while it is open, its event loop runs in this thread, and no other test could call asyncio.run.
@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    """One browser for all tests of a file, with a profile of its own."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Open]:
    """``open_page(file, "#kind=color", width=390, …)``: a page in a context of its own."""
    contexts: list[BrowserContext] = []

    def opened(file: Path, hash: str = "", *, width: int = 1280, **options: Any) -> Opened:
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        page, seen = context.new_page(), Seen()
        page.set_default_timeout(10_000)
        page.on("request", lambda request: seen.requests.append(request.url))
        page.on("requestfailed", lambda request: seen.blocked.append(f"{request.url} {request.failure}"))
        page.on("console", lambda message: seen.messages.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: seen.messages.append(f"error: {error}"))

        def dismiss(dialog: Any) -> None:
            seen.dialogs.append(dialog.message)
            dialog.dismiss()

        page.on("dialog", dismiss)
        page.goto(file.as_uri() + hash)
        return Opened(page, seen)

    yield opened
    for context in contexts:
        context.close()


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pages by name: rows of every state, hostile rows, a corpus with boxes."""
    root = tmp_path_factory.mktemp("gallery")
    images = str(root / "corpus")
    boxed = CorpusRow(
        image_id="boxed",
        image=png(3, 200),
        width=200,
        height=200,
        sha256="",
        captions=("A ball beside a cube.", "<script>window.hacked=1</script>"),
        objects=(
            Box(name="ball", box=(20, 40, 120, 140), attributes=("red",)),
            Box(name="beyond", box=(150, 150, 900, 900)),
        ),
        regions=(Region(phrase="the floor", box=(0, 150, 200, 200)),),
        relations=(Relation(subject=0, predicate="beside", object=1), Relation(subject=0, predicate="on", object=9)),
        ocr=("STOP",),
        source="test",
        facts='{"floor": "wood"}',
    )  # fmt: skip
    rows = [row(i) for i in range(6)] + [row(7, b"damaged"), boxed]
    rows[6] = CorpusRow(image_id="img-bad", image=b"damaged", width=32, height=32, sha256="", source="test")
    plan_dataset(images, kind="corpus", name="pictures", shards=1, config={"of": "browser tests"})
    commit_shard(images, 0, {"rows": corpus.to_table(rows)})
    freeze(images)
    sets = {
        "rows": write_rows(str(root / "rows"), images, [every_state()]),
        "hostile": write_rows(
            str(root / "hostile"), images, [hostile()], name="</title><script>window.hacked=1"
        ),
        "corpus": images,
    }
    pages = {}
    for name, uri in sets.items():
        pages[name] = root / f"{name}.html"
        pages[name].write_text(build([uri], Choice(images=None)).html)
    pages["asked"] = root / "asked.html"
    asked = Choice(images=9, state="rejected:gate")
    pages["asked"].write_text(build([sets["rows"]], asked).html)
    return pages
