"""What scorers by likelihood share: options, their log likelihoods, and which of them are true.

``Answer.meta["loglikelihoods"]`` holds one number per option, the summed log probability of its tokens after
the question. True options are those with a 1 in ``meta["labels"]``, or else those that ``golds`` name, by
their text or by letter. An answer without a usable number per option is no answer: ``unparsed``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from eval.scorers.base import Answer, Array


def loglikelihoods(answer: Answer) -> Array | None:
    """One number per option, shape (options,); None where one is missing or NaN, or none is above -inf."""
    told = answer.meta.get("loglikelihoods")
    if not isinstance(told, Sequence | np.ndarray) or len(told) == 0 or isinstance(told, str):
        return None
    if answer.options and len(told) != len(answer.options):
        return None
    if not all(isinstance(x, int | float | np.floating) for x in told):
        return None
    values = np.asarray(told, dtype=np.float64)
    usable = not np.isnan(values).any() and bool((values > -np.inf).any()) and bool((values < np.inf).all())
    return values if usable else None


def true_options(answer: Answer) -> set[int]:
    """Indices of the true options."""
    labels = answer.meta.get("labels")
    if labels is not None:
        return {i for i, label in enumerate(labels) if label}
    return {i for gold in answer.golds if (i := _index(gold, answer.options)) is not None}


def _index(gold: str, options: Sequence[str]) -> int | None:
    if gold in options:
        return options.index(gold)
    letter = gold.strip()
    return ord(letter) - ord("A") if len(letter) == 1 and "A" <= letter <= "Z" else None


def letter_of(answer: Answer, chosen: int | None) -> str:
    """What is shown as read: the option's letter, its number beyond Z, '' for none."""
    if chosen is None:
        return ""
    return chr(ord("A") + chosen) if chosen < 26 else str(chosen)
