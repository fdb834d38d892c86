"""The policy in a browser is tested in tests/browser, on every page."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import pytest
from jinja2 import UndefinedError
from markupsafe import Markup

from cluster.pages import environment, policy


def test_values_are_text_and_a_missing_one_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "page.jinja").write_text("{% if True %}\n  <p>{{ text|twice }}</p>\n{% endif %}\n")
    template = environment(tmp_path, {"twice": lambda text: text * 2}).get_template("page.jinja")
    assert template.render(text="<b>") == "  <p>&lt;b&gt;&lt;b&gt;</p>\n"
    assert template.render(text=Markup("<b>")) == "  <p><b><b></p>\n"
    with pytest.raises(UndefinedError, match="text"):
        template.render()


def test_the_policy_names_what_may_apply_and_nothing_else() -> None:
    digest = base64.b64encode(hashlib.sha256(b"p { color: red }").digest()).decode()
    plain = policy("p { color: red }")
    assert plain.split("; ") == [
        "default-src 'none'", f"style-src 'sha256-{digest}'", "base-uri 'none'", "form-action 'none'",
    ]  # fmt: skip
    rules = dict(rule.split(" ", 1) for rule in policy("", "p { color: red }", pictures=True).split("; "))
    assert rules["script-src"] == f"'sha256-{digest}'" and rules["img-src"] == "data:"
