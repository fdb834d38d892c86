"""English function words, the words that a writer chooses without thinking of the subject."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import yaml


@lru_cache(maxsize=1)
def function_words() -> tuple[str, ...]:
    """The list of ``function_words.yaml``, whose head says where it comes from."""
    lists = yaml.safe_load((Path(__file__).parent / "function_words.yaml").read_text())
    return tuple(word for name in lists for word in lists[name].split())
