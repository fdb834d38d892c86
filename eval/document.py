"""Pages of eval: one file that loads nothing, with a policy that lets only its own style apply."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from cluster.pages import environment, policy
from datagen.gallery.visible import visible
from eval.charts import tone

TEMPLATES = Path(__file__).parent / "templates"


def document(
    template: str, *, styles: Sequence[str] = ("page.css",), more_style: str = "", **values: Any
) -> str:
    """A whole page; values are escaped unless they are Markup.

    Args:
        styles: names of files in ``eval/templates``, put into the page one after the other, then ``more_style``.
    """
    style = "\n".join([*((TEMPLATES / name).read_text() for name in styles), more_style])
    page = _environment().get_template(template)
    return page.render(policy=policy(style, pictures=True), style=Markup(style), **values)


@lru_cache(maxsize=1)
def _environment() -> Environment:
    return environment(TEMPLATES, {"visible": visible, "tone": tone})
