"""Restart, limits, mistakes, secrets."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cluster.cli import main as l2t
from cluster.datasets import read_manifest
from datagen.exporters import cli
from datagen.exporters.card import public
from datagen.exporters.config import ExportConfig, check, plan
from datagen.exporters.run import exporting, settings_of
from tests.datagen.curate.conftest import image, publish, record


@pytest.fixture
def sized(tmp_path: Path) -> str:
    """Five shards of 1 MB: with --part-mb 1 five units."""

    def noise(seed: int) -> bytes:
        buffer = io.BytesIO()
        pixels = np.random.default_rng(seed).integers(0, 256, (600, 600, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(buffer, "PNG")
        return buffer.getvalue()

    pictures = [[image(f"p{n}", noise(n))] for n in range(5)]
    return publish(tmp_path, "sized", pictures, [[record(f"r{n}", [f"p{n}"])] for n in range(5)])


@pytest.mark.parametrize("layout", ["llava", "huggingface", "webdataset"])
def test_a_stopped_export_continues(sized: str, tmp_path: Path, layout: str) -> None:
    out, whole = tmp_path / "out", tmp_path / "whole"
    config = ExportConfig(
        layout=layout,  # type: ignore[arg-type]
        source=sized,
        corpus=read_manifest(sized).parents[0].uri,
        output=str(out),
        part_mb=1,
    )
    fixed = plan(config, check(config), many_images=False)
    assert len(fixed.units) == 5
    work = exporting(settings_of(config), fixed.model_dump(mode="json"))
    for index in (1, 3):
        work(index)
    done = {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file() and "rows-" not in p.name}
    assert cli.main([layout, sized, "--out", str(out), "--part-mb", "1"]) == 0
    assert all(p.stat().st_mtime_ns == when for p, when in done.items()), "finished units are not done again"
    cli.main([layout, sized, "--out", str(whole), "--part-mb", "1"])
    names = [{p.relative_to(f) for p in f.rglob("*") if p.is_file()} for f in (out, whole)]
    assert names[0] == names[1]
    assert all((out / n).read_bytes() == (whole / n).read_bytes() for n in names[0] if n.name != "README.md")
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    assert cli.main([layout, sized, "--out", str(out), "--part-mb", "1"]) == 0
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before


def test_several_at_once(sized: str, tmp_path: Path) -> None:
    cli.main(["webdataset", sized, "--out", str(tmp_path / "one"), "--part-mb", "1"])
    cli.main(["webdataset", sized, "--out", str(tmp_path / "two"), "--part-mb", "1", "--workers", "2"])
    for place in sorted((tmp_path / "one").glob("*.tar")):
        assert (tmp_path / "two" / place.name).read_bytes() == place.read_bytes()


@pytest.mark.parametrize(("rows", "expected"), [(1, 1), (7, 7), (100, 13)])
def test_max_rows(instructions: str, tmp_path: Path, rows: int, expected: int) -> None:
    """Rows that cannot be exported count among those looked at."""
    out = tmp_path / "out"
    cli.main(["webdataset", instructions, "--out", str(out), "--max-rows", str(rows)])
    unit = json.loads((out / ".export/train/unit-00000.json").read_text())
    assert unit["rows"] + len(unit["unexported"]) == min(rows, 16)
    assert unit["rows"] == expected - len(unit["unexported"]) * (rows < 16)


def test_states(instructions: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    cli.main(["llava", instructions, "--out", str(out), "--states", "rejected,kept_original"])
    assert [row["id"] for row in json.loads((out / "train.json").read_text())] == ["kept", "rejected"]


def test_nothing_to_export(instructions: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert cli.main(["llava", instructions, "--out", str(out), "--states", "truncated"]) == 0
    assert json.loads((out / "train.json").read_text()) == []
    assert (
        cli.main(["huggingface", instructions, "--out", str(tmp_path / "hub"), "--states", "truncated"]) == 0
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--states", "acepted"], "--states acepted: no such state"),
        (["--max-rows", "0"], "--max-rows 0"),
        (["--split", "../up"], "--split ../up"),
        (["--part-mb", "0"], "--part-mb 0"),
        (["--workers", "0"], "--workers 0"),
        (["--corpus", "nowhere"], "nowhere is not a published dataset"),
    ],
)
def test_mistakes(
    instructions: str, tmp_path: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert l2t(["export", "llava", instructions, "--out", str(tmp_path / "out"), *options]) == 2
    assert message in capsys.readouterr().err


def test_another_export_in_the_same_place(
    instructions: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["export", "llava", instructions, "--out", str(tmp_path / "out")]
    assert l2t(argv) == 0 and l2t([*argv, "--license", "mit"]) == 0
    assert "license: mit" in (tmp_path / "out/README.md").read_text()
    assert l2t([*argv, "--max-rows", "2"]) == 2
    assert "holds another export of split 'train' (different: max_rows, units)" in capsys.readouterr().err
    corpus = read_manifest(instructions).parents[0].uri
    assert l2t(["export", "llava", corpus, "--out", str(tmp_path / "x")]) == 2
    assert "an export needs instructions" in capsys.readouterr().err


def test_no_secrets() -> None:
    config: dict[str, Any] = {
        "engines": {
            "judge": {"base_url": "https://me:hunter2@api.host/v1?key=hunter2", "api_key": "hunter2"}
        },
        "headers": {"Authorization": "Bearer hunter2"},
        "HF_TOKEN": "hunter2",
        "password": "hunter2",
        "output": "/home/someone/runs/mix",
        "max_tokens": 64,
        "corpus": "s3://bucket/private/corpora/world",
        "rounds": [1, 2],
    }
    shown = public(config)
    text = json.dumps(shown)
    assert "hunter2" not in text and "someone" not in text and "private" not in text
    assert shown["max_tokens"] == 64 and shown["rounds"] == [1, 2] and shown["output"] == ".../mix"


@given(
    st.recursive(st.none() | st.integers() | st.text(), lambda v: st.lists(v) | st.dictionaries(st.text(), v))
)
def test_a_card_takes_any_setting(value: Any) -> None:
    json.dumps(public(value))


def test_help_is_there_at_once() -> None:
    code = (
        "import sys\nfrom datagen.exporters import cli\n"
        "try: cli.main(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'ray', 'torch', 'vllm', 'transformers', 'pandas', 'datasets', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "examples:" in done.stdout and "webdataset" in done.stdout
