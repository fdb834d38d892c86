"""The one exception a person is meant to read."""

from __future__ import annotations


class UserError(Exception):
    """Something the user can put right.

    The message says what is wrong, where (file, row, key) and the way out. Command lines catch this class
    only, print ``error: <message>`` on stderr and end with exit code 2; every other exception is a bug and
    shows its traceback.
    """
