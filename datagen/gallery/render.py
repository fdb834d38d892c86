"""Templates with everything escaped, and the filters they use."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from datagen.gallery.visible import label, visible

TEMPLATES = Path(__file__).parent.parent / "templates"


def render(name: str, **values: Any) -> Markup:
    """A template of this package; values are escaped unless they are Markup."""
    return Markup(_environment().get_template(name).render(**values))


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["thousands"] = lambda n: f"{n:,}".replace(",", "\u202f")
    environment.filters["percent"] = lambda share: f"{100 * share:.1f} %"
    environment.filters["number"] = lambda n: f"{n:.4g}"
    environment.filters["hash"] = lambda pairs: "#" + urlencode(pairs)
    environment.filters["visible"] = visible
    environment.filters["label"] = label
    return environment
