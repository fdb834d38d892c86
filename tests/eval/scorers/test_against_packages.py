"""The same numbers from independent packages, where they are installed."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eval.scorers import SCORERS, Answer
from eval.scorers.chair_coco import _names, _singulars
from eval.scorers.cider import cider_d
from eval.scorers.coco_objects import PHRASES
from eval.scorers.ngrams import bleu, bleu_counts, rouge_l
from eval.scorers.ptb import tokenize
from eval.scorers.rouge import rouge_lsum
from eval.scorers.vsr import influence

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parents[1] / "golden_captions.json").read_text())
PREDICTIONS = [tokenize(c["prediction"]) for c in GOLDEN["captions"]]
REFERENCES = [[tokenize(r) for r in c["references"]] for c in GOLDEN["captions"]]
WORDS = [*"abcdefg", "Dog", "cat,", "red.", "IT'S", "12", "naïve", "\n", " . "]


def texts(rng: random.Random, most: int = 12) -> str:
    return " ".join(rng.choices(WORDS, k=rng.randrange(0, most)))


def test_captions_agree_with_pycocoevalcap() -> None:
    cider = pytest.importorskip("pycocoevalcap.cider.cider")
    bleus = pytest.importorskip("pycocoevalcap.bleu.bleu")
    rouge = pytest.importorskip("pycocoevalcap.rouge.rouge")
    golds, said = dict(enumerate(REFERENCES)), {i: [p] for i, p in enumerate(PREDICTIONS)}
    rule = SCORERS["captions"]
    scored = rule.score(
        [Answer(prediction=c["prediction"], golds=tuple(c["references"])) for c in GOLDEN["captions"]]
    )
    total = scored.stats.sum(axis=0)
    corpus, each = cider.Cider().compute_score(golds, said)
    assert float(rule.metrics["cider"].value(total)) == pytest.approx(corpus, abs=1e-10)
    assert np.allclose(scored.stats[:, rule.columns.index("cider")], each, atol=1e-10)
    assert float(rule.metrics["rouge_l"].value(total)) == pytest.approx(
        rouge.Rouge().compute_score(golds, said)[0], abs=1e-10
    )
    four = bleus.Bleu(4).compute_score(golds, said, verbose=0)[0]
    assert [float(bleu(total[:10], n)) for n in range(1, 5)] == pytest.approx(four, abs=1e-10)


@pytest.mark.parametrize("seed", range(5))
def test_cider_agrees_on_odd_corpora(seed: int) -> None:
    cider = pytest.importorskip("pycocoevalcap.cider.cider")
    rng = random.Random(seed)

    def caption() -> str:
        return " ".join(rng.choices("abcdefgh", k=rng.choice([1, 1, 2, 3, 5, 30])))

    references = [[caption() for _ in range(rng.randrange(1, 7))] for _ in range(rng.choice([2, 3, 40]))]
    said = [caption() for _ in references]
    theirs = cider.Cider().compute_score(dict(enumerate(references)), {i: [s] for i, s in enumerate(said)})[1]
    assert np.allclose(cider_d(said, references), theirs, atol=1e-10)


def test_bleu_agrees_with_sacrebleu() -> None:
    sacrebleu = pytest.importorskip("sacrebleu")
    number = min(map(len, REFERENCES))
    references = [r[:number] for r in REFERENCES]
    counts = np.sum([bleu_counts(p, r) for p, r in zip(PREDICTIONS, references, strict=True)], axis=0)
    streams = [[r[i] for r in references] for i in range(number)]
    theirs = sacrebleu.corpus_bleu(PREDICTIONS, streams, tokenize="none", smooth_method="none", force=True)
    assert float(bleu(counts)) * 100 == pytest.approx(theirs.score, abs=1e-4)


def test_anls_agrees_with_anls_star_and_anls() -> None:
    star = pytest.importorskip("anls_star")
    old = pytest.importorskip("anls")
    rng = random.Random(0)
    for _ in range(300):
        said, golds = texts(rng, 5), tuple(texts(rng, 5) for _ in range(rng.randrange(1, 4)))
        near = _anls("anls_clean", said, golds)
        assert near == pytest.approx(star.anls_score(golds, said))
        # The old package drops exactly one half, of each gold before the best is taken.
        assert old.anls_score(said, list(golds)) == pytest.approx(near if near > 0.5 else 0.0)


def _anls(scorer: str, said: str, golds: tuple[str, ...]) -> float:
    rule = SCORERS[scorer]
    stats = rule.score([Answer(prediction=said, golds=golds)]).stats
    return float(rule.metrics["anls"].value(stats.sum(axis=0)))


def test_rouge_agrees_with_rouge_score() -> None:
    package = pytest.importorskip("rouge_score.rouge_scorer")
    scorer = package.RougeScorer(["rougeLsum"])
    rng = random.Random(0)
    for _ in range(400):
        gold, said = texts(rng), texts(rng, 20)
        theirs = scorer.score(gold.replace(" . ", ".\n"), said.replace(" . ", ".\n"))["rougeLsum"].fmeasure
        assert rouge_lsum(gold, said) == pytest.approx(theirs), (gold, said)


def test_caption_rouge_has_the_longest_common_subsequence_of_rouge_score() -> None:
    # Other weights of precision and recall, so F1 is compared: rebuilt from beta 1.2 at equal lengths.
    package = pytest.importorskip("rouge_score.rouge_scorer")
    scorer = package.RougeScorer(["rougeL"])
    rng = random.Random(0)
    for _ in range(200):
        gold, said = (" ".join(rng.choices("abcde", k=8)) for _ in range(2))
        assert rouge_l(said, [gold]) == pytest.approx(scorer.score(gold, said)["rougeL"].fmeasure)


def test_rates_agree_with_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    true, said = rng.random(300) < 0.5, rng.random(300) < 0.6
    word = {True: "Yes", False: "No"}
    pope = SCORERS["pope"]
    answers = [
        Answer(prediction=word[bool(s)], golds=(word[bool(t)],)) for s, t in zip(said, true, strict=True)
    ]
    total = pope.score(answers).stats.sum(axis=0)
    for name, theirs in (
        ("accuracy", metrics.accuracy_score), ("precision", metrics.precision_score),
        ("recall", metrics.recall_score), ("f1", metrics.f1_score),
    ):  # fmt: skip
        assert float(pope.metrics[name].value(total)) == pytest.approx(theirs(true, said)), name
    # Mean over categories of the right share is balanced accuracy when the category is the truth.
    star = SCORERS["mmstar"]
    drawn = [rng.choice(["A", "B"], p=[0.7, 0.3]) for _ in range(200)]
    golds = [rng.choice(["A", "B"], p=[0.2, 0.8]) for _ in range(200)]
    answers = [Answer(prediction=d, golds=(g,), category=g) for d, g in zip(drawn, golds, strict=True)]
    average = float(star.metrics["average"].value(star.score(answers).stats.sum(axis=0)))
    assert average == pytest.approx(metrics.balanced_accuracy_score(golds, drawn))


def test_area_agrees_with_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    for _ in range(20):
        true = rng.random(60) < 0.4
        sure = rng.integers(0, 8, size=60) / 8.0  # many ties
        top, bottom = influence(sure, true)
        assert top.sum() / bottom.sum() == pytest.approx(metrics.roc_auc_score(true, sure))


def test_singulars_name_what_a_general_inflector_makes_them_name() -> None:
    inflect = pytest.importorskip("textblob.en.inflect")
    names = _names(clean=False)
    singular = _singulars([*_names(clean=True), *PHRASES], clean=False)
    words = {*singular, *singular.values(), *(w for name in names for w in name.split())}
    found = {w: (names.get(singular.get(w, w)), names.get(inflect.singularize(w))) for w in words}
    assert {w: f for w, f in found.items() if f[0] != f[1]} == {}
