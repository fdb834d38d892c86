"""The gallery in a browser: what a reader sees is what the data set holds, and nothing that a row holds runs."""

from __future__ import annotations

import math
from pathlib import Path
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Page

from datagen.programs.draft import outcome
from datagen.records import Record
from tests.browser.conftest import Open, Opened
from tests.datagen.every_state import HOSTILE, every_state, hostile

ROWS = {r.id: r for r in every_state()}


def having(test: object) -> set[str]:
    """Ids of rows that pass, straight from the records."""
    return {name for name, r in ROWS.items() if test(r)}  # type: ignore[operator]


def check(opened: Opened, facet: str, value: str) -> None:
    opened.page.locator(f'fieldset[data-facet="{facet}"] input[value="{value}"]').click()


def quiet(opened: Opened, file: Path) -> None:
    """Nothing was loaded but the page, and nothing complained."""
    assert [r for r in opened.seen.requests if not r.startswith("data:image/")] == [file.as_uri()]
    assert opened.seen.messages == [] and opened.seen.dialogs == []


def text(page: Page, selector: str) -> str:
    """What an element says; also below the fold, where Chromium has not laid it out yet."""
    return " ".join((page.locator(selector).text_content() or "").split())


def test_everything_is_there(world: dict[str, Path], open_page: Open) -> None:
    opened = open_page(world["rows"])
    assert opened.shown() == set(ROWS)
    assert opened.status().startswith(f"{len(ROWS)} of {len(ROWS)} rows")
    quiet(opened, world["rows"])
    page = opened.page
    assert text(page, '[data-id="too-few"] .g-turn-draft').endswith("C. red")
    assert text(page, '[data-id="pick"] .g-options .g-right').startswith("B green")
    assert page.locator('[data-id="talk"] .g-turn').count() == 5
    assert page.locator('[data-id="talk"] ins, [data-id="talk"] del').count() >= 2
    assert page.locator('[data-id="root"] del').all_text_contents() == ["One can see that it", " today"]
    assert text(page, '[data-id="gated"] .g-gate') == "meta talk did not pass: says 'caption'"
    assert not page.locator('[data-id="gated"] .g-folds li').first.is_visible(), "passed gates are folded"
    assert "I see two." in text(page, '[data-id="circle-b"] .g-verdict')
    assert page.locator(".g-card:has([data-id=two-pictures]) img").count() == 2
    assert "not in the corpus" in text(page, ".g-card:has([data-id=lost-picture])")
    assert "cannot decode" in text(page, ".g-card:has([data-id=broken])")
    assert page.locator(".g-card:has([data-id=text]) figure").count() == 0


@pytest.mark.parametrize(
    ("facet", "of"),
    [
        ("state", lambda r: [r.state]),
        ("reason", lambda r: [outcome(r.state, r.reason)]),
        ("kind", lambda r: [r.kind]),
        ("format", lambda r: [r.format]),
        ("verdict", lambda r: [r.verdict.result if r.verdict else "none"]),
        ("gate", lambda r: [g.name for g in r.gates if not g.passed]),
        ("rewrite", lambda r: [r.rewrite] if r.rewrite else []),
    ],
)
def test_each_filter_shows_the_rows_of_the_dataset(
    world: dict[str, Path], open_page: Open, facet: str, of: object
) -> None:
    opened = open_page(world["rows"])
    values = {v for r in ROWS.values() for v in of(r)}  # type: ignore[operator]
    boxes = opened.page.locator(f'fieldset[data-facet="{facet}"] label')
    counts = {}
    for box in boxes.all():
        counts[box.locator("input").get_attribute("value")] = int(box.locator("output").inner_text())
    assert set(counts) == values
    for value in sorted(values):
        expected = having(lambda r, v=value: v in of(r))  # type: ignore[operator]
        assert counts[value] == len(expected)
        check(opened, facet, value)
        assert opened.shown() == expected
        assert opened.status().startswith(f"{len(expected)} of {len(ROWS)} rows")
        check(opened, facet, value)
    assert opened.shown() == set(ROWS)


def test_filters_together(world: dict[str, Path], open_page: Open) -> None:
    opened = open_page(world["rows"])
    for facet, value in (("state", "rejected"), ("state", "failed"), ("kind", "detail"), ("kind", "shape")):
        check(opened, facet, value)
    assert opened.shown() == having(
        lambda r: r.state in ("rejected", "failed") and r.kind in ("detail", "shape")
    )
    assert opened.hash() == "#state=rejected&state=failed&kind=detail&kind=shape"
    truncated = opened.page.locator('fieldset[data-facet="state"] label:has(input[value="truncated"]) output')
    assert truncated.inner_text() == "1", "what this box would show beside the other filters"
    opened.page.get_by_role("button", name="remove filter kind: shape").click()
    assert opened.shown() == having(lambda r: r.state in ("rejected", "failed") and r.kind == "detail")
    opened.page.get_by_role("button", name="remove filter all filters").click()
    assert opened.shown() == set(ROWS) and opened.hash() in ("", "#")


def score(r: Record, name: str) -> float:
    return dict(r.scores).get(name, math.nan)


def test_score_ranges_and_search(world: dict[str, Path], open_page: Open) -> None:
    opened = open_page(world["rows"])
    page = opened.page
    page.locator('[data-score="vc"] input[data-end="min"]').fill("0")
    assert opened.shown() == having(lambda r: score(r, "vc") >= 0)
    page.locator('[data-score="vc"] input[data-end="min"]').fill("-1")
    page.locator('[data-score="vc"] input[data-end="max"]').fill("1")
    assert opened.shown() == having(lambda r: -1 <= score(r, "vc") <= 1) == {"manner"}
    page.keyboard.press("Escape")
    page.keyboard.press("x")
    page.locator("#g-q").fill("colour BALL")
    opened.until("location.hash === '#q=colour+BALL'")
    assert opened.shown() == {"talk"}
    page.locator("#g-q").fill("img-0002")
    opened.until("location.hash === '#q=img-0002'")
    assert opened.shown() == having(lambda r: "img-0002" in r.image_ids)


def test_a_slice_of_the_books_shows_its_rows(world: dict[str, Path], open_page: Open) -> None:
    opened = open_page(world["rows"])
    opened.page.locator(".g-books a", has_text="the verifier said no").click()
    expected = having(lambda r: outcome(r.state, r.reason) == "rejected:unverified")
    assert opened.shown() == expected
    assert opened.page.locator('input[value="rejected:unverified"]').is_checked()
    opened.page.locator(".g-table a", has_text="shape").first.click()
    opened.until("location.hash.includes('shape')")
    assert opened.shown() == having(lambda r: r.kind == "shape")
    opened.page.go_back()
    assert opened.shown() == expected
    books = opened.page.locator(".g-books tbody tr .g-num:nth-child(3)").all_inner_texts()
    assert sum(map(int, books)) == len(ROWS)


def test_the_address_keeps_the_filter(world: dict[str, Path], open_page: Open) -> None:
    asked = [("reason", "rejected:parse"), ("kind", "shape"), ("sort", "-length"), ("q", "rather")]
    opened = open_page(world["rows"], "#" + urlencode(asked))
    assert opened.shown() == {"unread"}, "rejected:parse stands for all that begin so"
    assert opened.page.locator("#g-q").input_value() == "rather"
    assert opened.page.locator("#g-sort").input_value() == "-length"
    opened.page.reload()
    assert opened.shown() == {"unread"}
    odd = open_page(world["rows"], "#kind=unheard&min:vc=abc&__proto__=x&sort=constructor&q=")
    assert odd.shown() == set() and odd.page.locator("#g-nothing").is_visible()
    odd.page.get_by_role("button", name="remove filter kind: unheard").click()
    assert odd.shown() == set(ROWS)
    quiet(odd, world["rows"])


def test_what_was_asked_on_the_command_line_is_the_first_filter(
    world: dict[str, Path], open_page: Open
) -> None:
    opened = open_page(world["asked"])
    assert opened.hash() == "#reason=rejected%3Agate" and opened.shown() == {"gated"}
    opened.page.keyboard.press("x")
    assert opened.shown() == having(lambda r: r.image_ids == ("img-0001",)), "the rest of its image is there"


def test_lineage_of_what_is_found(world: dict[str, Path], open_page: Open) -> None:
    opened = open_page(world["rows"], "#q=asked-no")
    assert opened.shown() == {"asked-no"}
    opened.page.locator("#g-family").check()
    assert opened.shown() == {"root", "harder", "asked-no"}
    assert opened.status().startswith("1 of")
    assert opened.page.locator(".g-context").count() == 2
    order = opened.page.eval_on_selector_all(".g-entry", "rows => rows.map(r => r.dataset.id)")
    assert order.index("root") < order.index("harder") < order.index("asked-yes") < order.index("asked-no")
    steps = opened.page.locator('[data-id="harder"] .g-steps li').all_text_contents()
    assert steps == ["made harder, round 1", "verdict yes", "accepted"]
    circle = open_page(world["rows"], "#q=circle-a&family=1")
    assert circle.shown() == {"circle-a", "circle-b"}, "rows that are each other's parents end the walk too"


def test_order(world: dict[str, Path], open_page: Open) -> None:
    opened = open_page(world["rows"])
    first = opened.cards()
    for sort, value in (("score:vc", "vc"), ("-score:consistency", "consistency")):
        opened.page.locator("#g-sort").select_option(sort)
        sign = -1 if sort.startswith("-") else 1
        best = [
            min([sign * s for n in card if not math.isnan(s := score(ROWS[n], value))], default=math.inf)
            for card in opened.cards()
        ]
        assert best == sorted(best) and best[0] < math.inf
    opened.page.locator("#g-sort").select_option("")
    assert opened.cards() == first


def test_keys(world: dict[str, Path], open_page: Open) -> None:
    opened = open_page(world["rows"])
    page = opened.page
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "g-q"
    page.keyboard.type("jkzx/")
    assert page.locator("#g-q").input_value() == "jkzx/", "keys are letters while one writes"
    page.locator("#g-q").fill("")
    page.keyboard.press("Escape")
    opened.until(
        "[...document.querySelectorAll('.g-card')].some(c => c.offsetParent !== null)"
    )  # searched again
    visited = []
    for key in ("j", "j", "k", "z"):
        page.keyboard.press(key)
        visited.append(
            page.evaluate("[...document.querySelectorAll('.g-card')].indexOf(document.activeElement)")
        )
    assert visited[:3] == [0, 1, 0]
    assert page.locator("#g-dialog").is_visible() and page.locator("#g-large img").count() == 1
    page.keyboard.press("Escape")
    assert not page.locator("#g-dialog").is_visible()
    page.locator('input[value="rejected"]').focus()
    page.keyboard.press("Space")
    assert opened.shown() == having(lambda r: r.state == "rejected")
    page.keyboard.press("x")
    assert opened.shown() == set(ROWS)
    page.locator(".g-zoom").first.click()
    page.get_by_role("button", name="close").click()
    assert not page.locator("#g-dialog").is_visible()


def test_nothing_that_a_row_holds_runs(world: dict[str, Path], open_page: Open) -> None:
    opened = open_page(world["hostile"])
    page = opened.page
    assert len(opened.shown()) == len(HOSTILE)
    opened.unfold()
    for box in page.locator("fieldset[data-facet] input").all():
        box.click()
        box.click()
    page.locator("#g-q").fill(HOSTILE[0])
    opened.until("location.hash.startsWith('#q=')")
    page.locator("#g-q").fill("")
    opened.until("!location.hash.startsWith('#q=')")
    page.locator(".g-zoom").first.click()
    page.keyboard.press("Escape")
    page.mouse.move(600, 400)
    assert page.evaluate("window.hacked") is None
    quiet(opened, world["hostile"])
    found = page.evaluate(
        "[...document.querySelectorAll('script, iframe, base, object, embed, link, meta[http-equiv]')]"
        ".map(e => e.localName)"
    )
    assert sorted(found) == ["meta", "script"], "our script and our policy"
    handlers = (
        "[...document.querySelectorAll('*')].flatMap(e => e.getAttributeNames()).filter(n => /^on/.test(n))"
    )
    assert page.evaluate(handlers) == []
    texts = page.locator(".g-turn-user .g-text").all_text_contents()
    assert HOSTILE[0] in texts and HOSTILE[1] in texts and HOSTILE[2] in texts, "shown as it is"
    shown = "\n".join(texts)
    assert "U+202E" in shown and "U+2028" in shown and "U+E0041" in shown
    assert not set("\u202e\u2066\U000e0041\x1b") & set(page.content())
    assert "50,000 characters in all" in shown


def test_the_policy_is_in_force(world: dict[str, Path], open_page: Open) -> None:
    opened = open_page(world["hostile"])
    opened.page.evaluate(
        """() => {
          const script = document.createElement("script");
          script.textContent = "window.hacked = 1";
          const image = document.createElement("img");
          image.src = "https://example.org/pixel.png";
          const button = document.createElement("button");
          button.setAttribute("onclick", "window.hacked = 1");
          const style = document.createElement("style");
          style.textContent = "body { display: none }";
          document.body.append(script, image, button, style);
          button.click();
          fetch("https://example.org/send").catch(() => {});
        }"""
    )
    opened.page.wait_for_timeout(200)
    assert opened.page.evaluate("window.hacked") is None
    assert opened.page.locator("main").is_visible()
    refused = [m for m in opened.seen.messages if "Content Security Policy" in m]
    assert len(refused) >= 5
    assert opened.seen.blocked == ["https://example.org/pixel.png csp"], (
        "asked for, and refused in the browser"
    )


def test_without_javascript_everything_is_there(world: dict[str, Path], open_page: Open) -> None:
    opened = open_page(world["rows"], java_script_enabled=False)
    assert opened.page.locator(".g-entry:visible").count() == len(ROWS)
    assert not opened.page.locator("#g-filters").is_visible()
    assert opened.page.locator("img:visible").count() >= 6
    opened.page.locator('[data-id="root"] summary', has_text="how it was made").click()
    assert "seed 7, temperature 0.7" in text(opened.page, '[data-id="root"]')


def test_boxes_lie_where_the_annotation_says(world: dict[str, Path], open_page: Open) -> None:
    opened = open_page(world["corpus"])
    page = opened.page
    card = page.locator('.g-card:has([data-id="boxed"])')
    card.scroll_into_view_if_needed()
    for place in (card, page.locator("#g-large")):
        if place is not card:
            card.locator(".g-zoom").click()
        # In one look: Chromium lays out what was below the fold only now, and things move.
        image, ball, beyond = place.first.evaluate(
            """at => ["img", "[data-mark=object-0]", "[data-mark=object-1]"]
              .map((name) => at.querySelector(name).getBoundingClientRect().toJSON())"""
        )
        scale = image["width"] / 200
        for got, want in ((ball["x"] - image["x"], 20), (ball["y"] - image["y"], 40), (ball["width"], 100)):
            assert got == pytest.approx(want * scale, abs=4)
        assert beyond["right"] <= image["right"] + 4, "boxes end with the picture"
        assert image["height"] == pytest.approx(image["width"], abs=2)
    page.keyboard.press("Escape")
    region = card.locator('rect[data-mark="region-0"]')
    assert region.evaluate("r => getComputedStyle(r).opacity") == "0"
    card.locator('li[data-mark="region-0"]').focus()
    opened.until("getComputedStyle(document.querySelector('rect[data-mark=region-0]')).opacity === '1'")
    assert "red ball beside beyond" in card.inner_text() and "red ball on ?" in card.inner_text()
    check(opened, "object", "ball")
    assert opened.shown() == {"boxed"} and opened.status() == "1 of 8 images"
    quiet(opened, world["corpus"])


@pytest.mark.parametrize("name", ["rows", "hostile", "corpus"])
@pytest.mark.parametrize("width", [390, 1280, 2200])
def test_no_sideways_scrolling(world: dict[str, Path], open_page: Open, name: str, width: int) -> None:
    opened = open_page(world[name], width=width)
    opened.unfold()
    widest = "Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)"
    assert opened.page.evaluate(widest) <= width
    if width == 390:
        fresh = open_page(world[name], width=width)
        assert not fresh.page.locator("#g-q").is_visible(), "filters are folded on a telephone"
        fresh.page.locator("#g-filters summary").click()
        assert fresh.page.locator("#g-q").is_visible()


CONTRAST = """() => {
  const rgba = (text) => {
    const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    canvas.fillStyle = text; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      const color = rgba(getComputedStyle(e).backgroundColor);
      if (color[3] === 255) return color;
    }
    return [255, 255, 255];
  };
  const poor = [];
  for (const e of document.querySelectorAll("body *")) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || e.closest("svg, script, option") || !e.checkVisibility()) continue;
    const pair = [light(rgba(getComputedStyle(e).color)), light(behind(e))].sort((a, b) => b - a);
    const ratio = (pair[0] + 0.05) / (pair[1] + 0.05);
    if (ratio < 4.5) poor.push([e.localName, e.className, ratio.toFixed(2), e.textContent.trim()].join(" "));
  }
  return poor;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["rows", "corpus"])
def test_contrast(world: dict[str, Path], open_page: Open, name: str, scheme: str) -> None:
    opened = open_page(world[name], color_scheme=scheme)
    opened.unfold()
    assert opened.page.evaluate(CONTRAST) == []
    back = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (back == "rgb(20, 23, 27)") == (scheme == "dark")


def test_controls_have_names(world: dict[str, Path], open_page: Open) -> None:
    opened = open_page(world["rows"], "#kind=color")
    nameless = opened.page.evaluate(
        """() => [...document.querySelectorAll("a, button, input, select, summary, img, [role=img]")]
          .filter((e) => !(e.ariaLabel || e.title || e.alt || e.textContent.trim()
            || (e.labels && [...e.labels].some((l) => l.textContent.trim())) || e.querySelector("title, img[alt]")))
          .map((e) => e.outerHTML.slice(0, 120))"""
    )
    assert nameless == []
    assert opened.page.evaluate("document.documentElement.lang") == "en"
    headings = opened.page.eval_on_selector_all("h2, h3", "found => found.map(h => h.localName)")
    assert headings[0] == "h2"


def test_hostile_rows_are_all_counted(world: dict[str, Path], open_page: Open) -> None:
    opened = open_page(world["hostile"])
    assert opened.status().startswith(f"{len(hostile())} of {len(hostile())} rows")
