"""Pages of train in a browser: nothing is loaded, nothing of the data runs, curves can be read and tokens asked."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import Open, Opened
from tests.train.run_folder import HOSTILE, lines_of, write_run
from train.mask.templates import TemplateSet
from train.pages.comparison import write_comparison
from train.pages.maskpage import mask_html
from train.pages.masktokens import MaskRow, MaskToken
from train.pages.page import write_page

LEGEND = {"response": "response", "instruction": "instruction", "template": "task template", "image": "image"}
PAGES = ("run", "comparison", "mask")


def mask_row(title: str, *, template: bool) -> MaskRow:
    """Role, image, instruction, maybe a template, answer."""
    tokens = [
        MaskToken("USER: ", 5, "role", False),
        *[MaskToken("<image>", 9, "image", False)] * 20,
        MaskToken("\n", 4, "space", False),
        MaskToken(HOSTILE, 100, "instruction", True),
        MaskToken("東", 70, "instruction", True),
        MaskToken("", 71, "instruction", True, True),
        *([MaskToken(" Answer in one word.", 30, "template", False)] if template else []),
        MaskToken(" ASSISTANT:", 6, "role", False),
        MaskToken(" red", 40, "response", True),
        MaskToken("</s>", 2, "response", True),
    ]
    return MaskRow(title=title, tokens=tokens)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("pages")
    runs = [write_run(root / "l2t"), write_run(root / "vit", "vit", finished=False, overfits=False)]
    for run in runs:
        write_page(run)
    write_comparison(runs, str(root / "comparison.html"))
    rows = [
        mask_row("row 0", template=True),
        mask_row("row 1", template=False),
        MaskRow(title="row 2", tokens=(), note=f"rejected: {HOSTILE}"),
    ]
    templates = TemplateSet(counts=(("Answer in one word.", 40), (HOSTILE, 3)), turns=100, source="mined")
    (root / "mask.html").write_text(mask_html(rows, LEGEND, templates, mode="l2t", title=HOSTILE))
    return {"run": root / "l2t/run.html", "comparison": root / "comparison.html", "mask": root / "mask.html"}


def readout(opened: Opened, chart: int = 0) -> list[str]:
    return opened.page.locator("figure").nth(chart).locator(".readout span").all_inner_texts()


@pytest.mark.parametrize("name", PAGES)
def test_nothing_is_loaded_and_nothing_of_the_data_runs(
    pages: dict[str, Path], open_page: Open, name: str
) -> None:
    opened = open_page(pages[name])
    opened.unfold()
    opened.page.wait_for_timeout(100)
    assert opened.seen.requests == [pages[name].as_uri()]
    assert opened.seen.messages == [] and opened.seen.dialogs == [] and opened.seen.blocked == []
    assert opened.page.evaluate("window.hacked") is None
    assert opened.page.locator("script").count() == 1 and opened.page.locator("img").count() == 0


@pytest.mark.parametrize("name", PAGES)
def test_what_the_policy_forbids_does_not_happen(pages: dict[str, Path], open_page: Open, name: str) -> None:
    opened = open_page(pages[name])
    opened.page.evaluate(
        "for (const [tag, set] of [['script', e => e.textContent = 'window.hacked = 1'], "
        "['img', e => e.src = 'https://example.invalid/a.png'], ['style', e => e.textContent = 'body{color:red}']]) "
        "{ const e = document.createElement(tag); set(e); document.body.append(e); }"
    )
    opened.page.wait_for_timeout(100)
    assert opened.page.evaluate("window.hacked") is None
    assert sum("Content Security Policy" in m for m in opened.seen.messages) == 3


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("width", [320, 390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_fits_and_can_be_read(
    pages: dict[str, Path], open_page: Open, name: str, width: int, scheme: Any
) -> None:
    opened = open_page(pages[name], width=width, color_scheme=scheme)
    opened.unfold()
    page = opened.page
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    contrasts = page.evaluate(CONTRASTS)
    assert contrasts and min(c for _, c in contrasts) >= 4.5, sorted(contrasts, key=lambda c: c[1])[:5]
    sizes = page.eval_on_selector_all(
        "svg.plot text", "all => all.map(t => parseFloat(getComputedStyle(t).fontSize) * t.getScreenCTM().a)"
    )
    assert all(7.5 <= size <= 15 for size in sizes), (min(sizes), max(sizes))


# [text, contrast with what is behind it] of every text; a background may be half transparent.
CONTRASTS = """() => {
  const probe = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const pixel = (colors) => {
    for (const color of colors) { probe.fillStyle = color; probe.fillRect(0, 0, 1, 1); }
    return [...probe.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const light = (rgb) => {
    const [r, g, b] = rgb.map((v) => v / 255).map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; (node = walker.nextNode()); ) {
    const element = node.parentElement;
    if (!node.data.trim() || element.closest("script, title, .blank") || !element.getClientRects().length) continue;
    const behind = [];
    for (let at = element; at; at = at.parentElement) behind.unshift(getComputedStyle(at).backgroundColor);
    const style = getComputedStyle(element);
    const back = pixel(["#fff", ...behind]);
    const ink = pixel(["#fff", ...behind, element instanceof SVGElement ? style.fill : style.color]);
    const [high, low] = [light(back), light(ink)].sort((a, b) => b - a);
    found.push([node.data.trim().slice(0, 40), (high + 0.05) / (low + 0.05)]);
  }
  return found;
}"""


def test_pointing_at_a_chart_reads_it(pages: dict[str, Path], open_page: Open) -> None:
    opened = open_page(pages["run"])
    chart = opened.page.locator("svg.plot").first
    assert readout(opened) == []
    box = chart.bounding_box()
    assert box is not None
    lines = {line["step"]: line for line in lines_of()}
    for share in (0.2, 0.55, 0.93):
        chart.hover(position={"x": box["width"] * share, "y": box["height"] / 2})
        step, training, held_out = readout(opened)
        at = int(step.removeprefix("step "))
        assert at == pytest.approx(400 * (share * 400 - 46) / 344, abs=6)
        assert float(training.removeprefix("training ")) == pytest.approx(
            lines[at]["loss_response"], rel=1e-3
        )
        value, where = re.fullmatch(r"held out (\S+)(?: \(at (\d+)\))?", held_out).groups()  # type: ignore[union-attr]
        there = lines[int(where or at)]
        assert abs(there["step"] - at) == min(abs(s - at) for s in range(100, 401, 100))
        assert float(value) == pytest.approx(there["holdout_loss_response"], rel=1e-3)
        cross = opened.page.locator("svg.plot .cross").first.bounding_box()
        assert cross is not None and cross["x"] == pytest.approx(box["x"] + box["width"] * share, abs=12)
    opened.page.mouse.move(1, 1)
    assert readout(opened) == []


def test_keys_step_through_a_chart(pages: dict[str, Path], open_page: Open) -> None:
    opened = open_page(pages["run"])
    chart = opened.page.locator("svg.plot").first
    chart.focus()
    said = []
    for key in ("Home", "ArrowRight", "ArrowRight", "ArrowLeft", "End", "ArrowRight"):
        chart.press(key)
        said.append(readout(opened)[0])
    assert said == ["step 10", "step 20", "step 30", "step 20", "step 400", "step 400"]
    chart.press("Escape")
    assert readout(opened) == []


def test_percent_is_said_as_percent(pages: dict[str, Path], open_page: Open) -> None:
    opened = open_page(pages["run"])
    titles = opened.page.locator("figure h3").all_inner_texts()
    place = titles.index("Shares lost")
    opened.page.locator("svg.plot").nth(place).hover()
    assert readout(opened, place)[1:] == ["padding 2.1 %", "waiting for data 0.8 %"]


def test_the_comparison_reads_both_runs(pages: dict[str, Path], open_page: Open) -> None:
    opened = open_page(pages["comparison"])
    page = opened.page
    titles = page.locator("figure h3").all_inner_texts()
    assert titles == [
        f"{part} loss by {along}"
        for part in ("Response", "Instruction")
        for along in ("step", "learned response tokens")
    ]
    page.locator("svg.plot").nth(1).hover()
    said = readout(opened, 1)
    assert said[0].startswith("learned response tokens ")
    assert [re.match(r"\w+(, held out)?", one)[0] for one in said[1:]] == [  # type: ignore[index]
        "l2t", "l2t, held out", "vit", "vit, held out",
    ]  # fmt: skip
    colors = page.eval_on_selector_all(
        "figure:nth-of-type(2) polyline.line", "a => a.map(l => getComputedStyle(l).stroke)"
    )
    assert len(set(colors)) == 2


@pytest.mark.parametrize("name", PAGES)
def test_without_javascript_everything_is_there(pages: dict[str, Path], open_page: Open, name: str) -> None:
    opened = open_page(pages[name], java_script_enabled=False)
    body = opened.page.locator("body").inner_text()
    assert ("Learning" in body and opened.page.locator("svg.plot polyline").count() > 3) or "×20" in body


def shown(opened: Opened) -> list[str]:
    rows = opened.page.locator(".row").all()
    return [row.locator("h3").inner_text() for row in rows if row.is_visible()]


def clear(opened: Opened) -> list[str]:
    """Texts of tokens that are not faded."""
    return opened.page.eval_on_selector_all(".t:not(.faded)", "all => all.map(t => t.innerText)")


def test_tokens_say_their_reason(pages: dict[str, Path], open_page: Open) -> None:
    opened = open_page(pages["mask"])
    page, says = opened.page, opened.page.locator("#says")
    first = page.locator("#row-0 .t")
    wanted = {
        "USER:": "role, not learned; token 5",
        "<image> ×20": "image, not learned; 20 tokens 9",
        "東": "instruction, learned; one character of 2 tokens 70 71",
        "red": "response, learned; token 40",
    }
    for token in first.all():
        if (text := token.inner_text().strip()) in wanted:
            token.hover()
            assert says.inner_text() == wanted.pop(text)
    assert not wanted
    assert (
        HOSTILE.split("\u202e")[0].strip() in first.nth(3).inner_text()
        and "U+202E" in first.nth(3).inner_text()
    )


def test_learned_is_marked_not_by_colour_alone(pages: dict[str, Path], open_page: Open) -> None:
    opened = open_page(pages["mask"])
    looks = opened.page.eval_on_selector_all(
        ".t",
        "all => all.map(t => [t.classList.contains('learned'), getComputedStyle(t).boxShadow !== 'none'])",
    )
    assert {tuple(look) for look in looks} == {(True, True), (False, False)}


def test_filter_by_reason(pages: dict[str, Path], open_page: Open) -> None:
    opened = open_page(pages["mask"])
    everything = clear(opened)
    assert shown(opened) == ["row 0", "row 1", "row 2"]
    opened.page.locator("#filter input[value='template']").check()
    assert shown(opened) == ["row 0"]
    assert [text.strip() for text in clear(opened)] == ["Answer in one word."]
    assert opened.page.locator("#status").inner_text() == "1 of 3 conversations have these"
    opened.page.locator("#filter input[value='response+']").check()
    assert shown(opened) == ["row 0", "row 1"] and len(clear(opened)) == 5
    for value in ("template", "response+"):
        opened.page.locator(f"#filter input[value='{value}']").uncheck()
    assert clear(opened) == everything and shown(opened) == ["row 0", "row 1", "row 2"]


def test_tapping_a_token_on_a_phone(pages: dict[str, Path], open_page: Open) -> None:
    opened = open_page(pages["mask"], width=390, has_touch=True, is_mobile=True)
    opened.page.locator("#row-1 .t").last.tap()
    assert opened.page.locator("#says").inner_text() == "response, learned; token 2"
    assert opened.page.locator("#says").is_visible()


def test_stored_points_are_json(pages: dict[str, Path], open_page: Open) -> None:
    opened = open_page(pages["run"])
    for text in opened.page.eval_on_selector_all("svg[data-plot]", "all => all.map(s => s.dataset.plot)"):
        assert json.loads(text)["curves"]
