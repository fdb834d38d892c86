"""cluster <- datagen <- train <- eval: a package imports only itself and those to its left."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = ("cluster", "datagen", "train", "eval")


def imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and full module name of every import, also of those inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, "." * node.level + (node.module or "")


def violations(package: str, source: str) -> list[str]:
    """What in ``source``, a file of ``package``, breaks the rule."""
    tree, found = ast.parse(source), []
    forbidden = LAYERS[LAYERS.index(package) + 1 :]
    for line, name in imported(tree):
        if name.split(".")[0] in forbidden:
            found.append(f"line {line}: {package} imports {name}")
        if name.startswith("."):
            found.append(f"line {line}: relative import; write the package's name")
    for node in ast.walk(tree):
        if isinstance(node, ast.Import) and any(alias.name.split(".")[0] == "eval" for alias in node.names):
            found.append(f"line {node.lineno}: `import eval…` shadows the builtin; write `from eval… import`")
    return found


@pytest.mark.parametrize("package", LAYERS)
def test_layers(package: str) -> None:
    found = {
        str(path.relative_to(ROOT)): broken
        for path in sorted((ROOT / package).rglob("*.py"))
        if (broken := violations(package, path.read_text()))
    }
    assert not found


def test_nothing_else_at_the_top() -> None:
    code = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert code == set(LAYERS), "the four packages are the whole code; tests have no __init__.py"
    assert not list(ROOT.glob("tests/**/__init__.py"))


def test_the_rule_itself() -> None:
    assert violations("datagen", "from cluster.config import Config\nimport datagen.records") == []
    assert violations("datagen", "def f():\n    from train.mask.labels import x") == [
        "line 2: datagen imports train.mask.labels"
    ]
    assert len(violations("eval", "import eval.tasks")) == 1
    assert len(violations("cluster", "import eval")) == 2
