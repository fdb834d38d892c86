"""Caption scores against golden values of the reference program, and against the package where it is installed."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.scorers import SCORERS, Answer
from eval.scorers.cider import cider_d
from eval.scorers.ngrams import bleu, bleu_counts, lcs, rouge_l
from eval.scorers.ptb import scan, tokenize

GOLDEN: dict[str, Any] = json.loads(Path(__file__).with_name("golden_captions.json").read_text())


def answers() -> list[Answer]:
    return [Answer(prediction=c["prediction"], golds=tuple(c["references"])) for c in GOLDEN["captions"]]


@pytest.mark.parametrize(("text", "tokens"), GOLDEN["tokens"])
def test_tokens_equal_the_java_tokeniser(text: str, tokens: str) -> None:
    assert tokenize(text) == tokens


def test_scores_equal_the_reference() -> None:
    rule = SCORERS["captions"]
    stats = rule.score(answers()).stats
    total = stats.sum(axis=0)
    assert rule.metrics["cider"].value(total) == pytest.approx(GOLDEN["cider"], abs=1e-10)
    assert rule.metrics["rouge_l"].value(total) == pytest.approx(GOLDEN["rouge_l"], abs=1e-10)
    for n in range(1, 5):
        assert bleu(total[:10], n) == pytest.approx(GOLDEN["bleu"][n - 1], abs=1e-10)
    cider, rouge = (stats[:, rule.columns.index(c)] for c in ("cider", "rouge_l"))
    assert np.allclose(cider, GOLDEN["cider_each"], atol=1e-10)
    assert np.allclose(rouge, GOLDEN["rouge_each"], atol=1e-10)


def test_scores_equal_the_package_on_random_token_strings() -> None:
    cider_module = pytest.importorskip("pycocoevalcap.cider.cider")
    bleu_module = pytest.importorskip("pycocoevalcap.bleu.bleu")
    rouge_module = pytest.importorskip("pycocoevalcap.rouge.rouge")
    rng = random.Random(0)

    def caption() -> str:
        return " ".join(rng.choices([*"abcdefg", "dog", "cat", "red"], k=rng.randrange(1, 12)))

    references = {i: [caption() for _ in range(rng.randrange(1, 6))] for i in range(50)}
    predictions = {i: [caption()] for i in references}
    each = cider_d([predictions[i][0] for i in references], list(references.values()))
    assert np.allclose(cider_module.Cider().compute_score(references, predictions)[1], each)
    rouges = [rouge_l(predictions[i][0], references[i]) for i in references]
    assert np.allclose(rouge_module.Rouge().compute_score(references, predictions)[1], rouges)
    counts = np.sum([bleu_counts(predictions[i][0], references[i]) for i in references], axis=0)
    theirs = bleu_module.Bleu(4).compute_score(references, predictions, verbose=0)[0]
    assert np.allclose([bleu(counts, n) for n in range(1, 5)], theirs)


def test_a_line_break_inside_a_caption_stays_in_that_caption() -> None:
    # The reference's Java tokeniser emits another line for these and scores all later captions against wrong images.
    assert tokenize("a cat\u2028on\x0ba\rmat\n.") == "a cat on a mat"


def test_perfect_captions_score_ten_and_one_image_alone_zero() -> None:
    several = [Answer(prediction=t, golds=(t,)) for t in ("a b c d e", "f g h i j", "k l m n o")]
    rule = SCORERS["captions"]
    assert rule.metrics["cider"].value(rule.score(several).stats.sum(axis=0)) == pytest.approx(10)
    assert rule.metrics["bleu_4"].value(rule.score(several).stats.sum(axis=0)) == pytest.approx(1)
    assert rule.metrics["cider"].value(rule.score(several[:1]).stats.sum(axis=0)) == 0


WORDS = st.lists(st.sampled_from("abcd"), max_size=12)


@settings(max_examples=200, deadline=None)
@given(WORDS, WORDS)
def test_bit_parallel_lcs_equals_the_textbook(a: list[str], b: list[str]) -> None:
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            table[i + 1][j + 1] = table[i][j] + 1 if x == y else max(table[i][j + 1], table[i + 1][j])
    assert lcs(a, b) == table[-1][-1]


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=80))
def test_tokens_never_hold_spaces_or_crash(text: str) -> None:
    tokens = tokenize(text)
    assert tokens == " ".join(tokens.split(" ")).strip() and "\n" not in tokens


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from([*"aB", "cannot", "St", "La", "la", "dog", "Gonna", "wash", "no"]), max_size=6),
    st.randoms(),
)
def test_plain_captions_need_no_scanner(words: list[str], rng: random.Random) -> None:
    text = "".join(word + rng.choice([" ", ", ", " ", ""]) for word in words).strip(", ") + rng.choice(
        ["", "."]
    )
    assert tokenize(text) == scan(text)
