"""Pages of train: one file that loads nothing, with a policy that lets only its own style and script run."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from cluster.pages import environment, policy
from datagen.gallery.render import percent
from datagen.gallery.visible import label, visible

FOLDER = Path(__file__).parent


def document(template: str, *, styles: Sequence[str], scripts: Sequence[str], **values: Any) -> str:
    """A whole page; values are escaped unless they are Markup.

    Args:
        styles, scripts: names of files in ``train/pages``, put into the page one after the other.
    """
    style, script = ("\n".join((FOLDER / name).read_text() for name in names) for names in (styles, scripts))
    return (
        _environment()
        .get_template(template)
        .render(policy=policy(style, script), style=Markup(style), script=Markup(script), **values)
    )


def thousands(number: float) -> str:
    """``12 345``, with thin spaces."""
    return f"{number:,.0f}".replace(",", "\u202f")


def duration(seconds: float) -> str:
    """``2 h 05 min``, ``12 min`` or ``48 s``."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{round(seconds / 60)} min" if whole >= 120 else f"{whole} s"


@lru_cache(maxsize=1)
def _environment() -> Environment:
    filters = {
        "thousands": thousands,
        "duration": duration,
        "percent": percent,
        "visible": visible,
        "label": label,
    }
    return environment(FOLDER, filters)
