"""The page from synthetic results: every number is on it, nothing is loaded from elsewhere, text is escaped."""

from __future__ import annotations

import json
import random
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from cluster.datasets import commit_shard, freeze, manifest_hash, plan_dataset
from cluster.errors import UserError
from eval import charts, differences
from eval.cli import main
from eval.config import GoldSet
from eval.curves import read_log
from eval.interop.lmms_log import reported_from
from eval.judge_pairs_stage import PAIR_SCHEMA
from eval.judge_stage import JUDGEMENT_SCHEMA
from eval.likelihood import LIKELIHOOD_SCHEMA
from eval.page import write_page, write_summary
from eval.recipes import from_texts
from eval.report import read, summarise, text, write
from eval.results import RESULT_SCHEMA, answer_of, shard_scores
from eval.samples import load, select
from eval.tasks import TASKS

NASTY = '<script>alert("x")</script> & co'


def publish(uri: str, name: str, what: str, gold: GoldSet, table: pa.Table) -> str:
    plan_dataset(
        uri, kind="eval", name=name, shards=1, config={"what": what}, parents=[gold.corpus, gold.instructions],
        models={name: "0" * 64},
    )  # fmt: skip
    commit_shard(uri, 0, {"rows": table})
    freeze(uri)
    return uri


def make_run(root: Path, gold: GoldSet, name: str, skill: float) -> list[str]:
    """Answers and likelihoods of a model that is right with probability ``skill``."""
    answers, likelihoods = [], []
    for chunk in select(gold, list(TASKS.values()), None, 1000):
        for item in load(gold, chunk):
            sample, rng = item.sample, random.Random(f"{name}-{item.sample.id}")
            row = dict.fromkeys(RESULT_SCHEMA.names) | {
                "sample_id": sample.id, "model": name, "task": sample.task, "image_id": sample.image_id,
                "prompt": f"USER: <image>\n{sample.question} ASSISTANT:", "golds": list(sample.golds),
                "options": list(sample.options), "objects": list(sample.objects), "state": "accepted",
                "finish_reason": "stop", "prediction": sample.golds[0] if rng.random() < skill else NASTY,
            }  # fmt: skip
            row["score"] = shard_scores(TASKS[sample.task], [answer_of(row)])[1][0]
            answers.append(row)
            gain = rng.gauss(skill, 0.1)
            likelihoods.append(dict.fromkeys(LIKELIHOOD_SCHEMA.names) | {
                "sample_id": sample.id, "model": name, "set": "test", "task": sample.task, "image_id": sample.image_id,
                "response_tokens": 4, "loss": 1 - gain / 2, "vc": 4 * gain, "vc_per_token": gain, "state": "accepted",
            })  # fmt: skip
    return [
        publish(str(root / f"{name}-{what}"), name, what, gold, pa.Table.from_pylist(rows, schema=schema))
        for what, rows, schema in (
            ("answers", answers, RESULT_SCHEMA), ("likelihood", likelihoods, LIKELIHOOD_SCHEMA),
        )
    ]  # fmt: skip


@pytest.fixture(scope="module")
def runs(gold: GoldSet, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    root = tmp_path_factory.mktemp("runs")
    return [uri for name, skill in (("base", 0.4), ("l2t", 0.9)) for uri in make_run(root, gold, name, skill)]


@pytest.fixture
def log(tmp_path: Path) -> str:
    lines = [
        {
            "step": s,
            "loss_instruction": 3 / s,
            "loss_response": 2 / s,
            "tokens_response": 5,
            "samples_per_s": 100,
        }
        for s in range(1, 40)
    ]
    (tmp_path / "run").mkdir()
    text = "\n".join(map(json.dumps, lines)) + '\n{"step": 40, "lo'
    (tmp_path / "run/log.jsonl").write_text(text)
    return str(tmp_path / "run")


class _Page(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data.strip())


def test_the_page_holds_the_numbers_and_loads_nothing(
    runs: list[str], log: str, gold: GoldSet, tmp_path: Path
) -> None:
    out = tmp_path / "page.html"
    html = write_page(
        str(out), evals=runs, trains={"l2t": log}, instructions=[gold.instructions], title=f"Test {NASTY}"
    )
    assert out.read_text() == html
    page, summary = _Page(html), summarise(runs)
    for task in summary["tasks"]:
        for entry in task["models"].values():
            if entry["value"] is not None:
                assert f"{entry['value']:.1f}" in page.texts
    assert any(
        f"{summary['diagnostics']['test']['vc_per_token']['models']['l2t']['value']:.3f}" in t
        for t in page.texts
    )
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "link", "iframe", "object"} and "svg" in names
    assert "alert(" in html and "<script>alert" not in html
    sources = [a for _, attrs in page.tags for k, a in attrs.items() if k in ("src", "href") and a]
    assert sources and all(s.startswith(("data:image/", "#")) for s in sources)
    assert not re.search(r"url\(|@import|https?://", html)
    anchors = {s[1:] for s in sources if s.startswith("#")}
    assert anchors == {str(a.get("id")) for t, a in page.tags if t == "section"} & anchors
    assert {"result", "mechanism", "training", "samples", "data", "sources"} <= anchors
    shown = " ".join(page.texts)
    assert "NaN" not in shown and "None" not in shown and "nan" not in shown.split()
    assert not any("style" in attrs for _, attrs in page.tags)
    [policy] = [a["content"] for t, a in page.tags if t == "meta" and a.get("http-equiv")]
    assert policy and policy.startswith("default-src 'none'") and "unsafe" not in policy
    assert {f"{summary['averages']['all']['overall']['models']['l2t']['value']:+.1f}"} <= {
        t.split(" ±")[0] for t in page.texts
    }
    assert len(html) < 4_000_000


def test_page_from_a_stored_summary(
    runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = str(tmp_path / "summary.json")
    assert main(["compare", *runs, "--baseline", "l2t", "--json", summary]) == 0
    assert "vs l2t" in capsys.readouterr().out
    assert main(["page", "--summary", summary, "--out", str(tmp_path / "p.html")]) == 0
    assert "Paired differences to l2t" in (tmp_path / "p.html").read_text()


def test_seeds_and_reported_numbers_on_the_page(runs: list[str], gold: GoldSet, tmp_path: Path) -> None:
    third = make_run(tmp_path, gold, "l2t-s1", 0.8) + make_run(tmp_path, gold, "l2t-s2", 0.85)
    results = tmp_path / "results.json"
    results.write_text(json.dumps({"results": {"gqa": {"exact_match,none": 0.62}}}))
    recipes = from_texts(["l2t=l2t,l2t-s1, l2t-s2", "vit=base"])
    html = write_page(
        str(tmp_path / "p.html"), evals=[*runs, *third], recipes=recipes, baseline="base",
        reported=reported_from([f"paper={results}"]),
    )  # fmt: skip
    page = _Page(html)
    assert "Training seeds" in page.texts and "paper" in page.texts and "62.0" in page.texts
    assert "l2t (3)" in page.texts and any(re.fullmatch(r"[+-]\d+\.\d \[.*\] %", t) for t in page.texts)
    stored = str(tmp_path / "summary.json")
    write(summarise([*runs, *third], "base", draws=100), stored)
    assert "l2t (3)" in write_page(str(tmp_path / "q.html"), summary=stored, recipes=recipes)
    write_summary(str(tmp_path / "r.html"), read(stored), "Two recipes")
    assert "Two recipes" in (tmp_path / "r.html").read_text()
    for texts, message in ((["l2t"], "write RECIPE=RUN"), (["a=x", "a=y"], "given twice")):
        with pytest.raises(UserError, match=message):
            from_texts(texts)
    with pytest.raises(UserError, match="write NAME=FILE"):
        reported_from(["paper"])


def test_a_page_outlives_its_data_sets_and_not_its_format(
    runs: list[str], gold: GoldSet, tmp_path: Path
) -> None:
    gone = make_run(tmp_path, gold, "gone", 0.5)
    stored = tmp_path / "summary.json"
    write(summarise([*runs, *gone], "base", draws=100), str(stored))
    shutil.rmtree(gone[0])
    assert "Samples are not shown" in write_page(str(tmp_path / "p.html"), summary=str(stored))
    old = json.loads(stored.read_text())
    del old["averages"]
    stored.write_text(json.dumps(old))
    with pytest.raises(UserError, match="from an older version"):
        write_page(str(tmp_path / "p.html"), summary=str(stored))


def test_samples_that_differ(runs: list[str]) -> None:
    found = differences.find("l2t", runs[2], "base", runs[0], show=4)
    assert {t.task for t in found.tasks} >= {"color", "existence", "caption"}
    for task in found.tasks:
        assert 1 <= len(task.samples) <= 4 and task.wins + task.losses > 0
        for sample in task.samples:
            better = sample.mine_score > sample.their_score
            higher = TASKS[task.task].rule.metrics[TASKS[task.task].rule.primary].higher
            assert sample.win == (better == higher) and sample.image.startswith("data:image/jpeg;base64,")
        sides = {s.win for s in task.samples}
        assert sides == {w for w, n in ((True, task.wins), (False, task.losses)) if n}
    assert found.wins > found.losses
    assert differences.find("l2t", runs[2], "l2t", runs[2]).tasks == []
    again = differences.find("base", runs[0], "l2t", runs[2], show=4)
    assert (again.wins, again.losses) == (found.losses, found.wins)


def test_better_models_come_out_better(runs: list[str], tmp_path: Path) -> None:
    summary = summarise(runs, "base")
    assert summary["mean"]["l2t"]["value"]["value"] > summary["mean"]["base"]["value"]["value"]
    loss = summary["diagnostics"]["test"]["loss"]["models"]["l2t"]["difference"]
    assert loss["value"] < 0 and loss["high"] < 0
    color = next(t for t in summary["tasks"] if t["task"] == "color")
    a, b = (color["models"][m]["value"] for m in ("l2t", "base"))
    assert color["differences"]["l2t"]["value"] == pytest.approx(a - b)
    write(summary, str(tmp_path / "summary.json"))  # nothing in it that JSON cannot say


def test_bad_input_ends_in_one_message(runs: list[str], gold: GoldSet, log: str, tmp_path: Path) -> None:
    for arguments, message in (
        (["compare", gold.corpus], "is a data set of kind 'corpus'"),
        (["compare", runs[0], runs[0]], "same name"),
        (["compare", runs[1]], "none of the data sets holds answers"),
        (["compare", *runs, "--baseline", "vit"], "'vit' is not among the runs"),
        (["page", "--trains", log, "--out", "x"], "write name=URI"),
        (["page", "--trains", "a=/nowhere", "--out", "x"], "no log.jsonl there"),
        (["page", "--summary", f"{log}/log.jsonl", "--out", "x"], "not JSON"),
        (["page", "--instructions", gold.corpus, "--out", "x"], "the gallery shows instructions"),
    ):
        with pytest.raises(UserError, match=re.escape(message)):
            main(arguments)


def test_a_log_cut_short_is_read_and_a_damaged_one_named(log: str) -> None:
    assert [r["step"] for r in read_log(log)] == list(range(1, 40))
    place = Path(log, "log.jsonl")
    place.write_text('{"step": 1}\nrubbish\n{"step": 2}\n')
    with pytest.raises(UserError, match="line 2"):
        read_log(log)


def test_twelve_series_are_told_apart() -> None:
    assert len({charts.tone(number) for number in range(2 * charts.COLORS)}) == 2 * charts.COLORS
    drawn = charts.points(
        [("a", [charts.Point(series=7, value=1.0, low=0.5, high=2.0)])], label="x", low=0, high=2
    )
    assert 'class="c1 ring"' in drawn and 'class="bar c1"' in drawn


def test_charts_survive_odd_values() -> None:
    assert "nothing was logged" in charts.lines([], label="x", x_label="s")
    constant = charts.Series(name="<b>", color=9, x=[1, 2, 3], y=[1.0, float("nan"), 1.0])
    assert "&lt;b&gt;" in charts.lines([constant], label="x", x_label="s")
    assert "no values" in charts.densities([], label="x", x_label="v")
    one = charts.densities([(constant, [0.5])], label="x", x_label="v")
    assert "nan" not in one
    assert charts.ticks(0, 100) == [0, 20, 40, 60, 80, 100] and charts.ticks(3, 3) == [3]
    for low, high in ((0, 0.003), (-7, 12), (1e6, 3e6)):
        steps = charts.ticks(low, high)
        assert (
            len(steps) in range(3, 9) and np.all(np.diff(steps) > 0) and low <= steps[0] and steps[-1] <= high
        )


def test_answers_wait_for_their_judge(runs: list[str], gold: GoldSet, tmp_path: Path) -> None:
    """MMHal-Bench says nothing before it is judged, and what the judge said after."""
    rows = [
        dict.fromkeys(RESULT_SCHEMA.names)
        | {"sample_id": f"{task}:{k}", "task": task, "model": "m", "image_id": f"i{k}", "golds": ["a cat"]}
        | {"prompt": "What?", "prediction": "A cat.", "category": "attribute", "state": "accepted"}
        for task in ("mmhal", "textvqa")
        for k in range(4)
    ]
    answers = publish(
        str(tmp_path / "a"), "m", "answers", gold, pa.Table.from_pylist(rows, schema=RESULT_SCHEMA)
    )
    before = summarise([answers], draws=50)
    assert [t["task"] for t in before["tasks"]] == ["textvqa"] and before["models"][0]["unjudged"] == [
        "mmhal"
    ]
    assert "not judged yet, so left out: mmhal" in text(before)
    assert "not judged yet" in write_page(str(tmp_path / "p.html"), evals=[answers])
    verdicts = str(tmp_path / "v")
    plan_dataset(
        verdicts, kind="eval", name="v", shards=1, config={"what": "judgements", "answers": manifest_hash(answers)},
        parents=[answers], models={"judge": "j"},
    )  # fmt: skip
    said = [
        dict.fromkeys(JUDGEMENT_SCHEMA.names)
        | {"sample_id": f"mmhal:{k}", "task": "mmhal", "judgement": f"Rating: {k + 1}"}
        for k in range(4)
    ]
    commit_shard(verdicts, 0, {"rows": pa.Table.from_pylist(said, schema=JUDGEMENT_SCHEMA)})
    freeze(verdicts)
    after = summarise([verdicts, answers], draws=50)
    mmhal = next(t for t in after["tasks"] if t["task"] == "mmhal")
    assert mmhal["models"]["m"]["value"] == 2.5 and after["models"][0]["unjudged"] == []
    assert [t.task for t in differences.find("m", answers, "n", answers, verdicts=(verdicts, "")).tasks] == []
    with pytest.raises(UserError, match="give these answers too"):
        summarise([verdicts, runs[0]])


def test_pairs_of_a_judge_are_on_the_page(tmp_path: Path, runs: list[str]) -> None:
    rows = [
        dict.fromkeys(PAIR_SCHEMA.names)
        | {
            "task": "mmhal",
            "image_id": f"i{k}",
            "left": "l2t",
            "right": NASTY,
            "judge": "j",
            "outcome": outcome,
        }
        for k, outcome in enumerate(("left", "left", "tie", "unparsed"))
    ]
    uri = str(tmp_path / "pairs")
    plan_dataset(uri, kind="eval", name="pairs", shards=1, config={"what": "pairs"})
    commit_shard(uri, 0, {"rows": pa.Table.from_pylist(rows, schema=PAIR_SCHEMA)})
    freeze(uri)
    summary = summarise([*runs, uri], "base")
    assert "mmhal: l2t better 2" in text(summary)
    write_summary(str(tmp_path / "page.html"), summary)
    page = (tmp_path / "page.html").read_text()
    assert "Pairs before a judge" in page and "83.3" in page and NASTY not in page
