"""The command line: help, dry runs, messages for what a person can put right, object storage."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.cli import main
from cluster.datasets import read_manifest
from datagen.importers.cli import SOURCES
from datagen.importers.importer import NAMES

HEAVY = ("ray", "torch", "vllm", "transformers", "pandas", "datasets", "PIL", "numpy")


@pytest.mark.parametrize("name", NAMES)
def test_help_has_examples_and_loads_nothing_heavy(name: str) -> None:
    program = (
        "import sys\nfrom cluster.cli import main\n"
        f"try: main(['corpus', '{name}', '--help'])\n"
        "except SystemExit: pass\n"
        f"print('LOADED', [m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert f"l2t corpus {name}" in done.stdout.split("examples:")[1]
    assert "LOADED []" in done.stdout


def test_every_importer_has_a_command() -> None:
    assert set(SOURCES) == set(NAMES)


def test_dry_run_writes_nothing(llava: Path, photos: Path, tmp_path: Path, cli: Callable[..., str]) -> None:
    out = tmp_path / "out"
    printed = cli("llava", llava, "--images", photos, "--out", out, "--dry-run", "--shard-images", 4)
    assert "21 rows" in printed and "instruction set" in printed
    assert not out.exists()


def refused(capsys: pytest.CaptureFixture[str], *argv: object) -> str:
    assert main(["corpus", *map(str, argv)]) == 2
    return capsys.readouterr().err


def test_messages(llava: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ("--out", tmp_path / "out")
    assert "no such file or folder" in refused(
        capsys, "llava", tmp_path / "gone.json", "--images", photos, *out
    )
    assert "no such folder" in refused(capsys, "llava", llava, "--images", tmp_path / "gone", *out)
    wrong = refused(capsys, "llava", llava, "--images", tmp_path, *out)
    assert "none of" in wrong and "a/" in wrong and "--images" in wrong
    assert "--images ROOT" in refused(capsys, "llava", llava, *out)
    assert "--limit" in refused(capsys, "llava", llava, "--images", photos, "--limit", 0, *out)
    assert "FIELD=NAME" in refused(capsys, "folder", photos, "--column", "image", *out)
    assert "did you mean 'captions'" in refused(capsys, "folder", photos, "--column", "caption=x", *out)
    (tmp_path / "empty.json").write_text("[]")
    assert "no rows" in refused(capsys, "llava", tmp_path / "empty.json", "--images", photos, *out)
    (tmp_path / "cut.json").write_text(llava.read_text()[:500])
    assert "cut.json: the file breaks off" in refused(
        capsys, "llava", tmp_path / "cut.json", "--images", photos, *out
    )
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    assert "not readable as Parquet" in refused(capsys, "huggingface", tmp_path / "bad.parquet", *out)
    assert "Sentences" in refused(capsys, "flickr30k", tmp_path, "--images", photos, *out)
    assert "region_descriptions" in refused(capsys, "visual-genome", tmp_path, "--images", photos, *out)
    assert not (tmp_path / "out" / "corpora" / "llava_v1_5_mix" / "plan.json").exists()


@pytest.mark.usefixtures("ray")
def test_another_import_of_the_same_name_is_refused(
    llava: Path, photos: Path, tmp_path: Path, cli: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ("llava", llava, "--images", photos, "--out", tmp_path / "out", "--name", "mix")
    cli(*argv, "--limit", 3)
    counts = read_manifest(str(tmp_path / "out/corpora/mix")).totals.counts
    assert sum(counts.values()) <= 12
    assert "limit is 3 there and None now" in refused(capsys, *argv)
    llava.write_text(llava.read_text() + "\n")
    assert "files_hash" in refused(capsys, *argv, "--limit", 3)
