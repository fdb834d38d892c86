"""The run page, the comparison and the curves on them: what they say is what the files hold."""

from __future__ import annotations

import itertools
import json
import math
import re
import shutil
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster import storage
from cluster.errors import UserError
from tests.cluster import s3_servers
from tests.cluster.conftest import enter
from tests.train.run_folder import HOSTILE, lines_of, write_lines, write_run
from train.pages.comparison import comparison_html, differing, write_comparison
from train.pages.curves import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Curve,
    Mark,
    moving,
    plot,
    short,
    thinned,
)
from train.pages.document import duration
from train.pages.page import run_html, write_page
from train.pages.panels import broken_steps, health, losses, lowest, rates, rejected, token_shares
from train.pages.runlog import RunLog, read_run

LOGS = sorted((Path(__file__).parents[2] / "train/starter/log").glob("*.jsonl"))
FILES = ("log.jsonl", "config.yaml", "templates.json", "rejects.jsonl", "done.json")
finite = st.floats(-1e6, 1e6, allow_nan=False)
points = st.lists(
    st.tuples(st.integers(0, 10**6).map(float), st.one_of(finite, st.just(math.nan))), max_size=60
)


def run_of(lines: list[dict[str, Any]], **files: Any) -> RunLog:
    empty: dict[str, Any] = {"config": {}, "config_text": "", "templates": None, "rejects": [], "done": None}
    return RunLog(uri="/runs/one", lines=lines, **(empty | files))


def text_of(html: str) -> str:
    return re.sub(
        r"\s+", " ", re.sub(r"<[^>]+>", " ", re.sub(r"<(style|script)>.*?</\1>", "", html, flags=re.S))
    )


def svg_of(chart: str) -> ElementTree.Element:
    return ElementTree.fromstring(chart)


def test_the_page_of_a_whole_run(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    html = write_page(run)
    assert (tmp_path / "run/run.html").read_text() == html
    said = text_of(html)
    assert "run finished" in said and "mask l2t" in said and f"{run}/model" in said
    for words in (
        "Steps 400 of 400", "Samples 25 600 3 rejected",
        "Tokens 800 000 20.0 % learned", "Time 3 min",
        "held-out response loss was lowest at step 200", "18.7 % above", "learned: response 15.0 % 120 000",
        "80 learned tokens were cut off", "Answer in one word. 4 000 40.0 %", 
        "2 image tokens for 1 images 2 row-0",
        "connector, language_model", "Workers 2",
    ):  # fmt: skip
        assert words in said, (words, said[:3000])
    for title in (
        "Response loss",
        "Instruction loss",
        "Gradient norm",
        "Learning rate",
        "Tokens per second",
        "MFU",
    ):
        assert title in said
    for title in ("Samples per second", "Shares lost", "Memory", "padding", "waiting for data"):
        assert title in said


def test_the_page_of_a_run_that_ran(make_config: Any) -> None:
    """The trainer's own files, not ours: every field it logs is understood, and its tokens add up."""
    from train.launch import launch

    cfg = make_config(templates={"source": "none"})
    done = launch(cfg)
    run = read_run(cfg.output)
    said = text_of(write_page(cfg.output))
    assert f"Steps {done['steps']} of {cfg.steps}" in said and "finished" in said
    shares = {share.key: share for share in token_shares(run)}
    assert sum(share.share for share in shares.values()) == pytest.approx(1, abs=0.003)
    assert "rest" not in shares and shares["learned_response"].tokens == run.total("tokens_response")
    for title in ("Response loss", "Instruction loss", "Gradient norm", "Learning rate", "Tokens per second"):
        assert title in said
    modules = {name for curve in rates(run) for name in curve.name.split(", ")}
    assert modules == {"vision_tower", "connector", "language_model"}


def test_text_of_files_stays_text(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    shutil.move(run, tmp_path / "<b>run&")
    html = write_page(str(tmp_path / "<b>run&"))
    assert html.count("<script>") == 1 and "<img" not in html and "<b>run" not in html
    assert "&lt;script&gt;window.hacked=1" in html and "U+202E" in html
    assert "style=" not in re.sub(r"<(style|script)>.*?</\1>", "", html, flags=re.S), "the policy forbids it"


@pytest.mark.parametrize("missing", FILES)
@pytest.mark.parametrize("alone", [True, False])
def test_whatever_is_not_there_yet(tmp_path: Path, missing: str, alone: bool) -> None:
    run = write_run(tmp_path / "run")
    for name in FILES:
        if (name != missing) == alone:
            (tmp_path / "run" / name).unlink()
    said = text_of(write_page(run))
    assert ("not finished" in said) == (not (tmp_path / "run/done.json").exists())
    assert ("Nothing was logged yet" in said) == (not (tmp_path / "run/log.jsonl").exists())


@pytest.mark.parametrize("log", LOGS, ids=lambda log: log.stem)
def test_logs_of_older_runs(tmp_path: Path, log: Path) -> None:
    shutil.copy(log, tmp_path / "log.jsonl")
    said = text_of(write_page(str(tmp_path)))
    assert ("Patch loss" in said) == (log.stem == "tower")
    assert ("Response loss" in said) == (log.stem != "tower")


def test_no_run_and_files_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run is there"):
        write_page(str(tmp_path / "nothing"))
    (tmp_path / "log.jsonl").write_text('{"step": 1}\n\n{"step": 2')
    with pytest.raises(UserError, match=r"log\.jsonl, line 3: not readable as JSON"):
        write_page(str(tmp_path))
    (tmp_path / "log.jsonl").write_text('{"loss": 1}\n')
    with pytest.raises(UserError, match="line 1: no step"):
        write_page(str(tmp_path))
    (tmp_path / "log.jsonl").write_text('{"step": 1}\n')
    (tmp_path / "done.json").write_text("[]")
    with pytest.raises(UserError, match=r"done\.json: expected a JSON object"):
        write_page(str(tmp_path))
    (tmp_path / "done.json").unlink()
    (tmp_path / "config.yaml").write_text("a: [")
    with pytest.raises(UserError, match=r"config\.yaml: not readable as YAML"):
        write_page(str(tmp_path))


@pytest.mark.parametrize("odd", [None, "text", [1], {"a": "b"}, True, math.nan, math.inf, -1, 1e30])
def test_fields_of_any_kind(tmp_path: Path, odd: Any) -> None:
    """A newer or damaged log is shown as far as it is understood."""
    write_lines(
        tmp_path / "log.jsonl",
        [{**{key: odd for key in line}, "step": line["step"]} for line in lines_of(steps=200)],
    )
    (tmp_path / "config.yaml").write_text("- not a mapping\n")
    (tmp_path / "templates.json").write_text('{"templates": [{}]}')
    (tmp_path / "rejects.jsonl").write_text("{}\n")
    assert "Training run" in write_page(str(tmp_path))


def test_steps_logged_twice_count_once(tmp_path: Path) -> None:
    lines = lines_of(steps=100)
    write_lines(tmp_path / "log.jsonl", [*lines[:7], *lines[4:]])
    assert read_run(str(tmp_path)).lines == lines


def test_a_run_on_s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    local = write_run(tmp_path / "run")
    with s3_servers.moto() as server:
        run = storage.join(enter(server, "pages", monkeypatch), "checkpoints/run")
        storage.upload_dir(Path(local), run)
        html = write_page(run)
        assert storage.read_bytes(storage.join(run, "run.html")).decode() == html
        out = storage.join(run, "both.html")
        write_comparison([run, local], out)
        assert storage.exists(out)


@pytest.mark.parametrize("overfits", [True, False])
def test_overfitting_is_said(overfits: bool) -> None:
    run = run_of(lines_of(overfits=overfits))
    low = lowest(run.series("holdout_loss_response"))
    assert low is not None and low.overfits == overfits and low.step == (200 if overfits else 400)
    assert ("Overfitting" in text_of(run_html(run))) == overfits
    response, instruction, both = losses(run)
    assert ('class="mark"' in response.chart) == overfits and 'class="mark"' not in instruction.chart
    assert [name for name, _ in response.legend] == ["training", "held out"] and both.title.startswith("Loss")


def test_patches_of_the_tower() -> None:
    lines = [
        {"step": s, "loss": 1 / s, "loss_patch": 1 / s, "holdout_loss_patch": 1.0 + s / 10}
        for s in range(1, 9)
    ]
    said = text_of(run_html(run_of(lines)))
    assert "the held-out patch loss was lowest at step 1 (1.1)" in said
    assert "Patch loss, nats per patch" in said


def test_nothing_held_out_is_said() -> None:
    lines = [{k: v for k, v in line.items() if "holdout" not in k} for line in lines_of()]
    assert "Nothing was held out" in text_of(run_html(run_of(lines)))


def test_a_loss_that_is_no_number_is_said_and_leaves_a_gap() -> None:
    lines = lines_of()
    lines[20]["loss"] = lines[20]["loss_response"] = math.nan
    run = run_of(lines)
    assert broken_steps(run) == [210]
    assert "no number at step 210." in text_of(run_html(run))
    assert len(svg_of(losses(run)[0].chart).findall("polyline[@class='raw c0']")) == 2
    assert broken_steps(run_of(lines_of("vit"))) == [], "null is a part that is not learned"


@given(st.lists(st.tuples(st.integers(0, 99).map(float), st.floats(0.01, 9)), min_size=1, max_size=30))
def test_lowest(found: list[tuple[float, float]]) -> None:
    low = lowest([*found, (100.0, math.nan)])
    assert low is not None
    assert low.value == min(y for _, y in found) and (low.step, low.value) in found
    assert (low.last_step, low.last) == found[-1]
    assert low.risen >= 0 and low.overfits == (low.last > 1.01 * low.value)


@given(points, st.sampled_from([4, 10, 16, 500]))
def test_thinned_curves_keep_their_extremes(found: list[tuple[float, float]], limit: int) -> None:
    kept = thinned(found, limit)
    known = [p for p in found if p[1] == p[1]]
    assert len(kept) <= max(limit * 3 // 2, limit) and [x for x, _ in kept] == sorted(x for x, _ in kept)
    assert all(p in found or p[1] != p[1] for p in kept)
    if known:
        ys = [y for _, y in kept if y == y]
        assert min(ys) == min(y for _, y in known) and max(ys) == max(y for _, y in known)
    if len(known) < len(found):
        assert any(y != y for _, y in kept)


@given(st.lists(finite, min_size=1, max_size=300))
def test_moving_means(values: list[float]) -> None:
    half = len(values) // 50
    wanted = []
    for i in range(len(values)):
        reach = min(half, i, len(values) - 1 - i)
        part = values[i - reach : i + reach + 1]
        wanted.append(math.fsum(part) / len(part))
    assert moving(values) == pytest.approx(wanted, abs=1e-6)


@given(points, st.booleans())
def test_drawn_points_are_the_points(found: list[tuple[float, float]], zero: bool) -> None:
    """The corners of what is drawn, turned back into values, are what was logged, within a pixel."""
    chart = plot(
        [Curve(name=HOSTILE, tone=0, points=found, sparse=True)], label=HOSTILE, x_label="step", zero=zero
    )
    svg = svg_of(chart)
    known = sorted((p for p in found if p[1] == p[1]), key=lambda p: p[0])
    if not known:
        assert "nothing was logged" in chart
        return
    data = json.loads(svg.attrib["data-plot"])
    assert [tuple(p) for p in data["curves"][0]["points"]] == [
        (x, pytest.approx(y, rel=1e-4)) for x, y in known
    ]
    dots = [(float(c.attrib["cx"]), float(c.attrib["cy"])) for c in svg.findall("circle")]
    assert len(dots) == len(known)
    for px, py in dots:
        assert LEFT - 0.1 <= px <= WIDTH - RIGHT + 0.1 and TOP - 0.1 <= py <= HEIGHT - BOTTOM + 0.1
    span = data["to"] - data["from"]
    for (px, _), (x, _) in zip(dots, known, strict=True):
        assert px == pytest.approx(LEFT + (x - data["from"]) / span * (WIDTH - LEFT - RIGHT), abs=0.06)
    heights = [py for _, py in dots]
    by_value = [py for _, py in sorted(zip((y for _, y in known), heights, strict=True), reverse=True)]
    assert by_value == pytest.approx(sorted(heights), abs=0.11), "higher values stand higher"


def test_one_wild_step_does_not_flatten_the_rest() -> None:
    usual = [(float(i), 1.0 + i % 3 / 10) for i in range(100)]
    svg = svg_of(
        plot([Curve(name="a", tone=0, points=[*usual, (100.0, 1e6)], smooth=False)], label="", x_label="")
    )
    (line,) = svg.findall("polyline")
    heights = [float(corner.split(",")[1]) for corner in line.attrib["points"].split()]
    assert max(heights) - sorted(heights)[1] > 15
    assert min(heights) >= TOP - 0.1
    assert "the highest is 1M" in "".join(svg.itertext())


def test_marks_and_labels_are_escaped() -> None:
    mark = Mark(x=1, label="<b>")
    chart = plot([Curve(name="<i>", tone=9, points=[(1.0, 1.0)])], label='"', x_label="<u>", marks=[mark])
    assert not {"<b>", "<i>", "<u>"} & set(re.findall(r"<.>", chart))
    assert svg_of(chart).attrib["aria-label"] == '"'


def test_numbers_on_axes() -> None:
    values = [0, 0.25, -2, 2500, 12_000, 3_500_000, 2e9, 2e-5]
    assert [short(v) for v in values] == ["0", "0.25", "−2", "2500", "12k", "3.5M", "2G", "2e−05"]
    assert [duration(s) for s in (48, 125, 3600, 7421)] == ["48 s", "2 min", "1 h 00 min", "2 h 03 min"]


@pytest.mark.parametrize("mode", ["l2t", "vit"])
def test_token_shares_add_up(mode: str) -> None:
    shares = token_shares(run_of(lines_of(mode)))
    assert sum(s.share for s in shares) == pytest.approx(1)
    assert sum(s.tokens for s in shares) == pytest.approx(800_000, abs=len(shares))
    for one, following in itertools.pairwise(shares):
        assert following.left == pytest.approx(one.left + one.share)
    assert [s.key for s in shares if s.learned] == [f"learned_{p}" for p in ("instruction", "response")][
        mode == "vit" :
    ]
    assert {s.key: round(s.share, 3) for s in shares}["image"] == 0.6


def test_rejects_by_reason() -> None:
    rejects = [{"reason": f"{n} image tokens for 1 images", "row": f"r{n}", "shard": 0} for n in range(5)]
    few, many = sorted(
        rejected(run_of([], rejects=[*rejects, {"reason": "no response"}])), key=lambda r: r.rows
    )
    assert (few.reason, few.rows, few.examples) == ("no response", 1, [("?, shard ?", "?")])
    assert (many.reason, many.rows, len(many.examples)) == ("0 image tokens for 1 images", 5, 3)


def test_equal_rates_share_a_curve_and_charts_without_numbers_are_left_out() -> None:
    run = run_of(lines_of())
    assert [curve.name for curve in rates(run)] == ["connector, language_model", "vision_tower"]
    few = run_of([{"step": 1, "grad_norm": 1.0, "mfu": None}, {"step": 2, "grad_norm": 2.0, "mfu": None}])
    assert [panel.title for panel in health(few)] == ["Gradient norm"]


def test_comparison(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "l2t/run"), write_run(tmp_path / "vit/run", "vit", finished=False)]
    html = write_comparison(runs, str(tmp_path / "out.html"))
    assert (tmp_path / "out.html").read_text() == html
    said = text_of(html)
    for words in (
        "2 training runs", "l2t/run", "vit/run", "(not finished)", "Response loss by step", "mode l2t vit",
        "Response loss by learned response tokens", "Instruction loss by step", "0.8 at 200",
    ):  # fmt: skip
        assert words in said, (words, said[:2000])
    assert "Loss by step" not in said, "the weighted loss is not the same quantity in both"
    assert html.count("<script>") == 1
    last = json.loads(re.findall(r'data-plot="([^"]+)"', html)[1].replace("&#34;", '"'))
    assert {curve["points"][-1][0] for curve in last["curves"]} == {120_000.0}


def test_comparison_of_nothing_and_of_one_twice(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    with pytest.raises(UserError, match="at least one run"):
        write_comparison([], str(tmp_path / "out.html"))
    with pytest.raises(UserError, match="named twice"):
        write_comparison([run, f"{run}/"], str(tmp_path / "out.html"))
    with pytest.raises(UserError, match="no run is there"):
        write_comparison([run, str(tmp_path / "none")], str(tmp_path / "out.html"))
    assert "Nothing was logged yet" in comparison_html([run_of([])])


def test_settings_that_differ() -> None:
    one = {"mode": "l2t", "lr": {"connector": 1}, "data": [{"corpus": "a"}], "model": None}
    two = {"mode": "vit", "lr": {"connector": 1}, "data": [{"corpus": "a"}, {"corpus": "b"}], "model": None}
    assert differing([one, two]) == [("data.1.corpus", ["–", "b"]), ("mode", ["l2t", "vit"])]
    assert differing([one, one]) == [] and differing([{}, one])[0][0] == "data.0.corpus"
