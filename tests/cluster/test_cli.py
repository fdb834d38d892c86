"""`l2t`: fast help, dispatch by name, messages instead of tracebacks."""

from __future__ import annotations

import subprocess
import sys
import time
import types
from pathlib import Path

import pytest

from cluster import cli
from cluster.errors import UserError

ROOT = Path(__file__).parents[2]
HEAVY = ("ray", "torch", "vllm", "transformers", "pyarrow", "boto3", "numpy")


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)


def test_help_is_there_at_once() -> None:
    best = 9.0
    for _ in range(3):  # the machine may be busy with something else
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "cluster", "--help"], cwd=ROOT, capture_output=True, text=True
        )
        best = min(best, time.monotonic() - began)
    assert done.returncode == 0 and best < 0.5
    assert all(f"  {name} " in done.stdout for name in cli.COMMANDS) and "examples:" in done.stdout


def test_help_imports_nothing_heavy() -> None:
    done = python(
        f"import sys; from cluster.cli import main; main(['--help']); print([m for m in {HEAVY} if m in "
        "sys.modules])"
    )
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_of_each_command(name: str) -> None:
    heavy = HEAVY[:4]
    done = python(
        "import sys, contextlib\nfrom cluster.cli import main\n"
        f"with contextlib.suppress(SystemExit): main([{name!r}, '--help'])\n"
        f"print([m for m in {heavy} if m in sys.modules])"
    )
    assert "usage:" in done.stdout, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def command(monkeypatch: pytest.MonkeyPatch, raises: BaseException | None) -> None:
    module = types.ModuleType("cluster.fake")

    def main(argv: list[str]) -> int:
        if raises:
            raise raises
        return len(argv)

    module.main = main  # type: ignore[attr-defined]
    module.__spec__ = types.SimpleNamespace()  # type: ignore[assignment]
    monkeypatch.setitem(sys.modules, "cluster.fake", module)
    monkeypatch.setitem(cli.COMMANDS, "fake", cli.Command("cluster.fake", "for tests"))


def test_dispatch_and_exit_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command(monkeypatch, None)
    assert cli.main(["fake", "a", "b", "c"]) == 3
    command(monkeypatch, UserError("the file x is missing. Make it."))
    assert cli.main(["fake"]) == 2
    assert capsys.readouterr().err == "error: the file x is missing. Make it.\n"
    command(monkeypatch, KeyboardInterrupt())
    assert cli.main(["fake", "--n", "3"]) == 130
    assert "It continues when run again: l2t fake --n 3" in capsys.readouterr().err
    command(monkeypatch, ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        cli.main(["fake"])


def test_unknown_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["trian"]) == 2
    assert "unknown command 'trian'; did you mean 'train'?" in capsys.readouterr().err
    monkeypatch.setitem(cli.COMMANDS, "later", cli.Command("cluster.not_there", ""))
    assert cli.main(["later"]) == 2
    assert "not part of this version" in capsys.readouterr().err
    assert cli.main([]) == 2


def test_a_reader_that_has_seen_enough() -> None:
    done = subprocess.run(
        f"{sys.executable} -m cluster --help | true", shell=True, cwd=ROOT, capture_output=True, text=True
    )
    assert done.stderr == ""
