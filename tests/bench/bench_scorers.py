"""Scorers: CIDEr against pycocoevalcap on 5,000 pictures with 5 references each, and rows/s of every scorer.

    python tests/bench/bench_scorers.py --repeats 3

Captions are drawn from a language-like word distribution, tokenised beforehand for both sides of the comparison; both
run in this process, in turns, and must agree to 1e-9. Rows/s are of one core, with text of the length each rule sees,
the best of the repeats: from the second on, what a rule remembers (normalised answers, tokens) is remembered.
Without pycocoevalcap only rows/s are printed. ``--json PATH`` keeps all numbers.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine, spread

from eval.scorers import SCORERS, Answer
from eval.scorers.cider import cider_d
from eval.scorers.ngrams import bleu_counts, rouge_l

OBJECTS = ["dog", "cat", "bus", "orange", "hot dog", "teddy bear", "wine glass", "people", "chair", "bicycle"]


def words(rng: random.Random, least: int, most: int) -> str:
    """A sentence whose words are as unequally frequent as those of a language."""
    return " ".join(f"w{int(8000 ** rng.random())}" for _ in range(rng.randrange(least, most)))


def seconds(run: Callable[[], Any]) -> tuple[float, Any]:
    """(time, result) of one call."""
    start = time.perf_counter()
    result = run()
    return time.perf_counter() - start, result


def against_package(images: int, repeats: int) -> dict[str, Any]:
    """CIDEr, and CIDEr, BLEU and ROUGE-L together, ours and theirs on the same token strings."""
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    rng = random.Random(0)
    references = [[words(rng, 8, 14) for _ in range(5)] for _ in range(images)]
    captions = [words(rng, 8, 14) for _ in range(images)]
    golds, said = dict(enumerate(references)), {i: [c] for i, c in enumerate(captions)}

    def our_rest() -> float:
        for caption, refs in zip(captions, references, strict=True):
            bleu_counts(caption, refs)
            rouge_l(caption, refs)
        return 0.0

    def their_rest() -> float:
        Bleu(4).compute_score(golds, said, verbose=0)
        Rouge().compute_score(golds, said)
        return 0.0

    times: dict[str, list[float]] = {"ours": [], "theirs": [], "ours_rest": [], "theirs_rest": []}
    for _ in range(repeats):
        ours, mine = seconds(lambda: cider_d(captions, references))
        theirs, other = seconds(lambda: Cider().compute_score(golds, said)[1])
        assert np.allclose(mine, other, atol=1e-9)
        times["ours"].append(ours)
        times["theirs"].append(theirs)
        times["ours_rest"].append(seconds(our_rest)[0])
        times["theirs_rest"].append(seconds(their_rest)[0])
    return times


def rows_of(name: str, rng: random.Random, n: int) -> list[Answer]:
    """Answers as the scorer's task has them: long for descriptions, short else, a tenth unreadable."""
    long = name.startswith(("chair", "captions", "hallusion", "mmhal", "mt_bench"))
    made = []
    for i in range(n):
        text = rng.choice(
            ["Yes, it is.", "No", "B", "B. the second", "12.5", words(rng, 1, 4), "[0.1, 0.2, 0.5, 0.9]"]
        )
        if long:
            text = f"{words(rng, 30, 90)} {rng.choice(OBJECTS)}. {words(rng, 10, 20)}."
        captions = name in ("captions", "chair_coco", "chair_coco_clean")
        golds = tuple(words(rng, 8, 14) for _ in range(5)) if captions else ("B",) if i % 2 else ("yes",)
        if name.startswith("vqa"):
            golds = tuple(words(rng, 1, 2) for _ in range(10))
        meta = {
            "loglikelihoods": [rng.gauss(-20, 5) for _ in range(4)], "labels": [1, 0, 0, 0], "p_true": rng.random(),
            "judgement": f"{text} Rating: 3 [[7]] correct", "incorrect": [words(rng, 5, 12)] * 3, "group": str(i // 4),
            "category": "VD", "set_id": i // 20, "figure_id": i % 4, "question_id": i % 5, "turn": 1 + i % 2,
        }  # fmt: skip
        made.append(
            Answer(
                prediction=text, golds=golds, options=("x", "y y", "z", "w"), objects=("dog", "chair"),
                group=str(i // 2), category=f"c{i % 14}", meta=meta,
            )
        )  # fmt: skip
    return made


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--rows", type=int, default=5000, help="rows for rows/s of each scorer")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found: dict[str, Any] = {}
    if find_spec("pycocoevalcap"):
        print(machine("numpy", "pycocoevalcap"))
        times = found["cider"] = against_package(options.images, options.repeats)
        for what, ours, theirs in (
            ("CIDEr", "ours", "theirs"),
            ("BLEU and ROUGE-L", "ours_rest", "theirs_rest"),
        ):
            factor = [b / a for a, b in zip(times[ours], times[theirs], strict=True)]
            print(
                f"{what}, {options.images:,} x 5: ours {spread(times[ours], 2)} s, pycocoevalcap "
                f"{spread(times[theirs], 2)} s, ratio {spread(factor, 1)}"
            )
    else:
        print(machine("numpy"), "— pycocoevalcap is not installed: no comparison")
    found["rows_per_s"] = {}
    for name, rule in SCORERS.items():
        answers = rows_of(name, random.Random(1), options.rows)
        fastest = min(seconds(partial(rule.score, answers))[0] for _ in range(options.repeats))
        found["rows_per_s"][name] = round(options.rows / fastest)
        print(f"{name:18} {options.rows / fastest:>10,.0f} rows/s")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
