"""The repairs of an installed environment, and that this one needs no more of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cluster import environment
from cluster.errors import UserError


def failing(monkeypatch: pytest.MonkeyPatch, *answers: str) -> list[str]:
    """Let the imports that `cluster.environment` tries end in ``answers``, one after the other."""
    asked: list[str] = []
    left = list(answers)

    def why_import_fails(statement: str, env: dict[str, str] | None = None) -> str:
        asked.append(statement)
        return left.pop(0)

    monkeypatch.setattr(environment, "why_import_fails", why_import_fails)
    return asked


def test_hook_comes_and_goes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("torchvision")
    failing(monkeypatch, "operator torchvision::nms does not exist", "")
    assert "import hook" in environment.fit_torchvision(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {
        "_l2t_torchvision_hook.py",
        "_l2t_torchvision_hook.pth",
    }
    failing(monkeypatch, "")  # now a matching build is installed
    assert environment.fit_torchvision(tmp_path) == "torchvision: fits torch"
    assert list(tmp_path.iterdir()) == []
    failing(monkeypatch, "no", "still no")
    with pytest.raises(UserError, match=r"still no\nInstall the pair"):
        environment.fit_torchvision(tmp_path)


def test_unloadable_packages_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment.importlib.util, "find_spec", lambda name: object())
    failing(monkeypatch, "cannot load", "")
    commands: list[list[str]] = []

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        return subprocess.CompletedProcess(command, returncode, "", "not allowed")

    monkeypatch.setattr(environment.subprocess, "run", run)
    returncode = 0
    assert environment.remove_unloadable() == ["torchaudio"]
    assert commands[0][1:] == ["-m", "pip", "uninstall", "-y", "-q", "torchaudio"]
    returncode = 1
    failing(monkeypatch, "cannot load", "")
    with pytest.raises(UserError, match=r"not allowed\nUninstall them by hand: pip uninstall torchaudio"):
        environment.remove_unloadable()


def test_a_shared_python_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    with pytest.raises(UserError, match="make setup"):
        environment.fix()


def test_this_environment_loads() -> None:
    """torchvision in a fresh process, and the hook costs nothing before."""
    code = (
        "import sys, importlib.util\n"
        "importlib.util.find_spec('torchvision')\n"
        "assert 'torch' not in sys.modules\n"
        "import torchvision.transforms\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
