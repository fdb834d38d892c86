"""Templates with everything escaped, and the filters they use."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment
from markupsafe import Markup

from cluster.pages import environment
from datagen.gallery.visible import label, visible

TEMPLATES = Path(__file__).parent.parent / "templates"


def render(name: str, **values: Any) -> Markup:
    """A template of this package; values are escaped unless they are Markup."""
    return Markup(_environment().get_template(name).render(**values))


def percent(share: float) -> str:
    """A share for people; what is there is never 0 and what is missing never 100 per cent."""
    if 0 < share < 0.0005:
        return "< 0.1 %"
    return "> 99.9 %" if 0.9995 <= share < 1 else f"{100 * share:.1f} %"


@lru_cache(maxsize=1)
def _environment() -> Environment:
    filters = {
        "thousands": lambda n: f"{n:,}".replace(",", "\u202f"),
        "percent": percent,
        "number": lambda n: f"{n:.4g}",
        "hash": lambda pairs: "#" + urlencode(pairs),
        "visible": visible,
        "label": label,
    }
    return environment(TEMPLATES, filters)
