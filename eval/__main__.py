"""``python -m eval``."""

from eval.cli import entry

raise SystemExit(entry())
