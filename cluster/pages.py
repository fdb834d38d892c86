"""What all pages share: templates in which everything is escaped, and a policy under which a page loads and sends
nothing, and only its own style and script apply."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def environment(folder: Path, filters: Mapping[str, Callable[..., Any]] | None = None) -> Environment:
    """The templates of a folder; values are escaped unless they are Markup, and a missing one is an error."""
    made = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= filters or {}
    return made


def policy(style: str, script: str = "", *, pictures: bool = False) -> str:
    """The content security policy of a page with exactly this style and script; ``pictures``: those within the page."""
    allowed = ["default-src 'none'", f"style-src {_digest(style)}"]
    if script:
        allowed.append(f"script-src {_digest(script)}")
    if pictures:
        allowed.append("img-src data:")
    return "; ".join([*allowed, "base-uri 'none'", "form-action 'none'"])


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
