"""Repairs an installed environment where the package index hands out builds that do not fit each other.

``make setup`` runs ``python -m cluster.environment --fix`` after every installation; run again, it finds
nothing to do. Two repairs, each only where a real import shows the need:

* torchaudio and torchcodec come with the CPU distribution of vLLM, cannot load beside CPU torch, and then
  break ``import transformers``. Nothing here uses them, so they are uninstalled.
* torchvision beside a torch it was not built for gets the import hook of `cluster.torchvision_hook`.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

from cluster.errors import UserError

HOOK_MODULE = "_l2t_torchvision_hook"
HOOK_OFF = {"L2T_TORCHVISION_HOOK": "0"}
UNLOADABLE = ("torchaudio", "torchcodec")


def why_import_fails(statement: str, env: dict[str, str] | None = None) -> str:
    """Run ``statement`` in a fresh interpreter; "" when it works, else the last line of what it said."""
    done = subprocess.run(
        [sys.executable, "-c", statement], env={**os.environ, **(env or {})}, capture_output=True, text=True
    )
    if done.returncode == 0:
        return ""
    return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]


def remove_unloadable() -> list[str]:
    """Uninstall torchaudio and torchcodec where they cannot load; returns what was removed."""
    broken = [
        name for name in UNLOADABLE if importlib.util.find_spec(name) and why_import_fails(f"import {name}")
    ]
    if broken:
        done = subprocess.run(
            [sys.executable, "-m", "pip", "uninstall", "-y", "-q", *broken], capture_output=True, text=True
        )
        if done.returncode:
            raise UserError(
                f"{' and '.join(broken)} cannot load beside the installed torch and could not be removed:\n"
                f"{done.stderr.strip()}\nUninstall them by hand: pip uninstall {' '.join(broken)}"
            )
    return broken


def fit_torchvision(site_packages: Path) -> str:
    """Install the hook in ``site_packages`` where plain ``import torchvision`` fails, else remove it.

    Returns one line that says what is there now.
    """
    module, pth = site_packages / f"{HOOK_MODULE}.py", site_packages / f"{HOOK_MODULE}.pth"
    if importlib.util.find_spec("torchvision") is None:
        return "torchvision: not installed"
    if not why_import_fails("import torchvision", HOOK_OFF):
        module.unlink(missing_ok=True)
        pth.unlink(missing_ok=True)
        return "torchvision: fits torch"
    source = (Path(__file__).parent / "torchvision_hook.py").read_text()
    # The module first: a .pth that names a missing module prints an error at every start of Python.
    _write(module, source)
    _write(pth, f"import {HOOK_MODULE}\n")
    reason = why_import_fails("import torchvision")
    if reason:
        raise UserError(
            "torchvision does not import beside the installed torch, even with its operators declared: "
            f"{reason}\n"
            "Install the pair that pyproject.toml names: pip install -e '.[cpu]' (or '.[gpu]')"
        )
    return f"torchvision: built for another torch, import hook in {module}"


def _write(path: Path, text: str) -> None:
    temporary = path.with_suffix(f"{path.suffix}.{os.getpid()}.tmp")
    temporary.write_text(text)
    os.replace(temporary, path)


def fix() -> list[str]:
    """Do every repair; returns one line each for the person who watches.

    Raises:
        UserError: the pipeline still cannot be imported; the message says what to install.
    """
    if sys.prefix == sys.base_prefix:
        raise UserError(
            "this Python is not a virtual environment and its packages are left alone.\n"
            "Run `make setup`, or create one: python3.11 -m venv .venv"
        )
    removed = remove_unloadable()
    lines = [f"removed {' and '.join(removed)} (cannot load beside this torch)"] if removed else []
    lines.append(fit_torchvision(Path(sysconfig.get_path("purelib"))))
    reason = why_import_fails("from transformers import LlavaForConditionalGeneration")
    if reason:
        raise UserError(
            f"transformers cannot load its Llava model: {reason}\n"
            "Install the versions that pyproject.toml pins: pip install -e '.[cpu]' (or '.[gpu]')"
        )
    return [*lines, "transformers: loads Llava"]


def main(argv: list[str]) -> int:
    """``python -m cluster.environment --fix``."""
    parser = argparse.ArgumentParser(prog="python -m cluster.environment", description=__doc__.split("\n")[0])
    parser.add_argument("--fix", action="store_true", required=True, help="repair this virtual environment")
    parser.parse_args(argv)
    try:
        for line in fix():
            print(line)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
