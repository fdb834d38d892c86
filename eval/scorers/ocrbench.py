"""OCRBench: right where any gold stands somewhere inside the answer; the score is out of 1000.

Both sides lower case, stripped, line breaks as spaces. Samples of the data set HME100k
(``Answer.meta["dataset"]``: handwritten formulas) keep their case and lose all spaces instead.
``ocrbench_lmms`` first turns full-width ASCII (U+FF01 to U+FF5E, U+3000) into plain, as lmms-eval does and
VLMEvalKit does not. ``Answer.category`` is the question type.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from eval.scorers.base import Answer, Scored, Scorer, ratio, table

_HALF_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0x3000: 0x20}
_COLUMNS = ("correct", "unparsed", "n")


def _words(text: str) -> str:
    return text.lower().strip().replace("\n", " ")


def _formula(text: str) -> str:
    return text.strip().replace("\n", " ").replace(" ", "")


def _make(name: str, version: str, fold: Callable[[str], str]) -> Scorer:
    def score(answers: Sequence[Answer]) -> Scored:
        parsed, rows = [], []
        for answer in answers:
            read = _formula if answer.meta.get("dataset") == "HME100k" else _words
            said = read(fold(answer.prediction))
            parsed.append(said)
            rows.append((float(any(read(fold(g)) in said for g in answer.golds)), float(not said), 1.0))
        return Scored(parsed, table(rows, _COLUMNS))

    metrics = {
        # 1000 questions: the share of right ones times 1000 is the published sum.
        "score": ratio(_COLUMNS, "correct", "n", scale=1000.0),
        "unparsed": ratio(_COLUMNS, "unparsed", "n", higher=False),
    }
    return Scorer(name=name, version=version, columns=_COLUMNS, score=score, metrics=metrics, primary="score")


OCRBENCH = _make("ocrbench", "ocrbench-official-1", str)
OCRBENCH_LMMS = _make("ocrbench_lmms", "ocrbench-lmms-1", lambda text: text.translate(_HALF_WIDTH))
