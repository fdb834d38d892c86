"""Pages of eval: one file that loads nothing, with a policy that lets only its own style apply."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from datagen.gallery.visible import visible

TEMPLATES = Path(__file__).parent / "templates"


def document(
    template: str, *, styles: Sequence[str] = ("page.css",), more_style: str = "", **values: Any
) -> str:
    """A whole page; values are escaped unless they are Markup.

    Args:
        styles: names of files in ``eval/templates``, put into the page one after the other, then ``more_style``.
    """
    style = "\n".join([*((TEMPLATES / name).read_text() for name in styles), more_style])
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"
    )
    return _environment().get_template(template).render(policy=policy, style=Markup(style), **values)


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["visible"] = visible
    return environment
