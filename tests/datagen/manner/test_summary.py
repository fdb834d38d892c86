"""From rows to the result and the page: by hand, symmetric, and whole where there is nothing to show."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from cluster.errors import UserError
from datagen.manner.cli import summary
from datagen.manner.config import MannerConfig
from datagen.manner.page import findings, marked, render, segments
from datagen.manner.result import Manner
from datagen.manner.summary import Source, summarise
from datagen.manner.survey import Survey

CONFIG = MannerConfig(instructions="some/set", resamples=100)
SOURCE = Source(
    instructions="some/set",
    before="",
    models={"inner": "sha256:1", "judge": "sha256:2"},
    names={"inner": "inner-llm", "judge": "judge-llm"},
    prompts="full 1 abc",
)
FOREIGN = ("It appears that", "One can see that", "Upon inspection,")


def row(i: int, **changed: Any) -> dict[str, Any]:
    thing = ("dog", "cat", "house", "tree")[i % 4]
    values: dict[str, Any] = {
        "id": f"r{i:03d}", "turn": 1, "image": f"img{i // 2}", "question": f"What is {i}?",
        "before": f"{FOREIGN[i % 3]} the {thing} is outside.", "after": f"The {thing} is outside.",
        "own": f"The {thing} is small.", "own_cut": False, "own_refused": False,
        "nll_before": 12.0 + i % 3, "nll_after": 4.0 + i % 2, "nll_own": 2.0,
        "tokens_before": 8, "tokens_after": 5, "tokens_own": 4,
        "said_after_second": "[[B]]", "said_after_first": "[[A]]", "first_shown": 1,
        "verdict": "after", "failure": "",
    }  # fmt: skip
    return {**values, **changed}


def survey(rows: list[dict[str, Any]]) -> Survey:
    n = len(rows)
    return Survey(answers=n, hard=0, unpaired=0, soft=n, changed=n, measured=n, cutoff="f" * 16)


def of(rows: list[dict[str, Any]], config: MannerConfig = CONFIG) -> Manner:
    return summarise(rows, survey(rows), SOURCE, config)


def test_by_hand() -> None:
    rows = [row(0), row(1)]
    found = of(rows).likelihood
    assert found.per_token.before.value == pytest.approx((12 + 13) / 16)
    assert found.per_token.after.value == pytest.approx((4 + 5) / 10)
    assert found.perplexity.after.value == pytest.approx(np.exp(0.9))
    assert found.per_answer.before.value == pytest.approx((12 / 8 + 13 / 8) / 2)
    assert found.total.difference.value == pytest.approx(-8.0)
    assert found.per_answer.own is not None and found.per_answer.own.value == 0.5
    assert found.closed == pytest.approx((1.5625 - 0.9) / (1.5625 - 0.5))
    assert found.per_answer.difference.se is None and found.per_answer.difference.low is None, (
        "one image only"
    )


def test_a_rewrite_into_the_manner() -> None:
    rows = [row(i) for i in range(60)]
    result = of(rows)
    function = next(d for d in result.divergences if d.name == "function words")
    assert function.before.value > 0.2 and function.after.value == pytest.approx(0.0, abs=1e-12)
    assert function.difference.high is not None and function.difference.high < 0
    assert result.words is not None and {"inspection", "appears", "see"} <= {
        w.word for w in result.words.over
    }
    assert {w.word: (w.after, w.own) for w in result.words.over}["appears"] == (0.0, 0.0)
    assert result.images == 30 and result.changed == 60
    said = findings(result)
    assert said[0].startswith("The model finds the answers more likely") and "closer to its own" in said[1]
    style = {s.name: s.change for s in result.styles}
    assert style["words_per_sentence"].after.value == 4.0 and style["words_per_sentence"].difference.value < 0


def test_the_order_of_rows_does_not_matter() -> None:
    rows = [row(i) for i in range(24)]
    mixed = random.Random(3).sample(rows, len(rows))
    assert of(mixed) == of(rows)


def test_swapping_the_sides_turns_every_sign() -> None:
    rows = [row(i) for i in range(24)]
    swapped = [
        row(
            i, before=r["after"], after=r["before"], nll_before=r["nll_after"], nll_after=r["nll_before"],
            tokens_before=5, tokens_after=8, verdict="before",
        )
        for i, r in enumerate(rows)
    ]  # fmt: skip
    one, two = of(rows), of(swapped)
    assert two.likelihood.per_answer.difference.value == pytest.approx(
        -one.likelihood.per_answer.difference.value
    )
    assert two.likelihood.per_answer.difference.se == pytest.approx(one.likelihood.per_answer.difference.se)
    for a, b in zip(one.divergences, two.divergences, strict=True):
        assert (a.before.value, a.floor) == (b.after.value, b.floor)
    assert one.judgement is not None and two.judgement is not None
    assert (one.judgement.after, two.judgement.before) == (24, 24)
    assert one.judgement.preferred is not None and one.judgement.preferred.value == 1.0
    assert two.judgement.preferred is not None and two.judgement.preferred.value == 0.0


def test_the_judges_books() -> None:
    verdicts = ["after"] * 3 + ["before"] + ["tie", "inconsistent", "unparsed", "no_reference", "refused", ""]
    rows = [row(i, verdict=v, first_shown=None if v == "" else 1) for i, v in enumerate(verdicts)]
    judgement = of(rows).judgement
    assert judgement is not None and judgement.pairs == 9
    assert judgement.preferred is not None and judgement.preferred.value == 0.75
    assert judgement.can_judge and judgement.first_shown == 0.5
    bar = segments(judgement)
    assert sum(s.pairs for s in bar) == 9 and bar[-1].left + bar[-1].share == pytest.approx(100)
    unable = of([row(i, verdict="inconsistent", first_shown=0) for i in range(5)]).judgement
    assert (
        unable is not None and not unable.can_judge and unable.preferred is None and unable.first_shown == 0.0
    )


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param([row(0)], id="one answer"),
        pytest.param([row(i, after=row(i)["before"], verdict="") for i in range(6)], id="never rewritten"),
        pytest.param(
            [row(i, own="I cannot see it.", own_refused=True, verdict="no_reference") for i in range(6)],
            id="no reference",
        ),
        pytest.param(
            [row(i, own="", nll_own=None, tokens_own=None, verdict="no_reference") for i in range(6)],
            id="nothing said",
        ),
        pytest.param([row(i, own="…", verdict="unparsed") for i in range(6)], id="no words"),
        pytest.param(
            [row(i, before="Wow!", after="Well!", own="Yes!") for i in range(6)], id="no function words"
        ),
        pytest.param([row(0), row(1, failure="too long", nll_before=None)], id="one failed"),
        pytest.param(
            [row(i, question="<script>x</script>", own="</style><b>") for i in range(6)], id="hostile"
        ),
    ],
)
def test_page_and_lines_of_odd_results(rows: list[dict[str, Any]]) -> None:
    result = of(rows)
    assert Manner.model_validate_json(result.model_dump_json()) == result
    page = render(result, rows)
    assert page.count("<script") == page.count("</style><b>") == 0
    assert ">nan" not in page.lower() and "none" not in summary(result, "out").lower().replace("none of", "")
    assert "some/set" in summary(result, "out/") and summary(result, "out/").endswith("out/manner.html")


def test_every_answer_refused() -> None:
    with pytest.raises(UserError, match=r"all 2 answers.*too long.*max_model_len"):
        of([row(i, failure="too long") for i in range(2)])


def test_marked() -> None:
    assert marked("It appears that a <b> is red.", "A <b> is red.") == (
        "<del>It appears that a</del> <ins>A</ins> &lt;b&gt; is red."
    )
    assert marked("same text", "same  text") == "same text"
    assert marked("", "new") == "<ins>new</ins>"
