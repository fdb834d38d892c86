"""Captions: CIDEr-D (primary), BLEU-1..4 and ROUGE-L of a task's answers against several references."""

from __future__ import annotations

from collections.abc import Sequence

from eval.scorers.base import Answer, Metric, Scored, Scorer, ratio, table
from eval.scorers.cider import cider_d
from eval.scorers.ngrams import bleu, bleu_counts, rouge_l
from eval.scorers.ptb import tokenize

_COUNTS = tuple(f"{what}_{n}" for what in ("correct", "guess") for n in range(1, 5))
_COLUMNS = (*_COUNTS, "length", "closest", "cider", "rouge_l", "unparsed", "n")


def _score(answers: Sequence[Answer]) -> Scored:
    """All captions of one evaluation at once: CIDEr's idf counts its images."""
    captions = [tokenize(a.prediction) for a in answers]
    references = [[tokenize(g) for g in a.golds] for a in answers]
    cider = cider_d(captions, references)
    rows = [
        (*bleu_counts(caption, refs), float(near), rouge_l(caption, refs), float(not caption), 1.0)
        for caption, refs, near in zip(captions, references, cider, strict=True)
    ]
    return Scored(captions, table(rows, _COLUMNS))


def _bleu_metric(n: int) -> Metric:
    return Metric(value=lambda stats: bleu(stats, n))


CAPTIONS = Scorer(
    name="captions",
    version="captions-official-1",
    columns=_COLUMNS,
    score=_score,
    # CIDEr is kept in [0, 10] per sample; papers print it times 100 (112.96), so do we.
    metrics={
        "cider": ratio(_COLUMNS, "cider", "n", share=False),
        "bleu_4": _bleu_metric(4),
        "bleu_1": _bleu_metric(1),
        "rouge_l": ratio(_COLUMNS, "rouge_l", "n"),
        "unparsed": ratio(_COLUMNS, "unparsed", "n", higher=False),
    },
    primary="cider",
    corpus=True,
)
