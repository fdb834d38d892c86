"""The one exception a person is meant to read."""

from __future__ import annotations

from collections.abc import Iterable


class UserError(Exception):
    """Something the user can put right.

    The message says what is wrong, where (file, row, key) and the way out. Command lines catch this class
    only, print ``error: <message>`` on stderr and end with exit code 2; every other exception is a bug and
    shows its traceback.
    """


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """End of a sentence about an unknown word: names the nearest known one where there is one."""
    import difflib

    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else "."
