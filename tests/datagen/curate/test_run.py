"""``l2t curate`` as people run it: on Ray, stopped and continued, with mistakes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from cluster.cli import main as l2t
from cluster.datasets import commit_shard, plan_dataset, read_manifest
from cluster.errors import UserError
from cluster.storage import exists
from datagen.curate import cli
from datagen.curate.run import begin, check, run
from datagen.curate.signatures import FINDING_SCHEMA, scratch, signing, write_table
from tests.datagen.curate.conftest import Write, image, photo, record
from tests.datagen.curate.test_passes import config_for, curate, planted, rows_of


@pytest.fixture
def mix(write_set: Write) -> str:
    """Three shards with planted collisions within and between them."""
    pictures, rows = planted()
    twins = [record(f"t{n}", [f"p{n}"]) for n in range(3)] + [
        record("z01", [], "Tell me a story.", rows[7].answer)
    ]
    others = [image(f"p{n}", photo(1 if n == 1 else 20 + n)) for n in range(3)]
    return write_set("mix", [pictures, others, []], [rows, twins, []])


def test_on_ray(mix: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = mix + "-ray"
    options = ["--near-duplicate", "--image-duplicate", "--language", "en", "--length", "--workers", "2"]
    assert cli.main([mix, "--out", out, *options]) == 0
    said = capsys.readouterr().out
    config = config_for(mix, near_duplicate=0.8, image_duplicate=4, language=("en",), length=(1, 300))
    expected = curate(config)
    assert rows_of(out) == rows_of(expected) and rows_of(out, "rejects") == rows_of(expected, "rejects")
    dropped = len(rows_of(mix)) - len(rows_of(out))
    assert f"{len(rows_of(out))} of {len(rows_of(mix))} rows stay, {dropped} dropped" in said
    assert "near_duplicate            4        4" in said
    assert not any(
        exists(scratch(out, 0, s)) for s in ("rows", "pictures", "findings", "dropped-near_duplicate")
    )
    assert cli.main([mix, "--out", out, *options]) == 0, "a second time there is nothing to do"


def test_a_stopped_run_continues(mix: str) -> None:
    """Stopped after a part of the first and of the third pass; what was done is not done again."""
    config = config_for(mix, near_duplicate=0.8, image_duplicate=4)
    begin(config, check(config))
    signing(config.model_dump(mode="json"))(1)
    mark = pa.Table.from_pylist([{"row": 0, "gate": "mark", "detail": "of the first run"}], FINDING_SCHEMA)
    write_table(scratch(config.output, 1, "findings"), mark)
    commit_shard(config.output, 2, {})
    manifest = run(config, workers=1)
    assert manifest.shards[2].parts == {}
    found = rows_of(config.output)
    assert [g.detail for g in found["t0"].gates] == ["of the first run"]
    expected = rows_of(curate(config.model_copy(update={"output": mix + "-whole"})))
    assert found.keys() == expected.keys()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "no gate is on"),
        (["--near-duplicate", "1.5"], "--near-duplicate 1.5: out of range"),
        (["--image-duplicate", "40"], "--image-duplicate 40: out of range"),
        (["--language", "english"], "--language english: not known"),
        (["--length", "--workers", "0"], "--workers 0: at least one"),
        (["--length", "9"], "--length 9: give least and most"),
        (["--length", "--keep", "lenght"], "--keep lenght: no such gate; there are length"),
        (["--decontaminate", "nowhere"], "nowhere is not a published dataset"),
    ],
)
def test_mistakes(mix: str, options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert l2t(["curate", mix, "--out", mix + "-out", *options]) == 2
    assert message in capsys.readouterr().err
    assert not exists(mix + "-out")


def test_wrong_inputs(mix: str, tmp_path: Path) -> None:
    corpus = read_manifest(mix).parents[0].uri
    for argv, message in (
        ([corpus, "--out", "x", "--corpus", corpus], "is a dataset of kind corpus, not instructions"),
        ([mix, "--out", mix], "that is the input"),
        ([mix, "--out", "x", "--decontaminate", mix], "that is the data set to curate"),
        ([mix, "--out", "x", "--corpus", mix], "not corpus"),
    ):
        with pytest.raises(UserError, match=message):
            cli.main([*argv, "--length"])
    lonely = str(tmp_path / "lonely")
    plan_dataset(lonely, kind="instructions", name="lonely", shards=1, config={})
    with pytest.raises(UserError, match="is not a published dataset yet"):
        cli.main([lonely, "--out", "x", "--length"])


def test_another_run_under_the_same_name(mix: str) -> None:
    config = config_for(mix, near_duplicate=0.8)
    begin(config, check(config))
    with pytest.raises(UserError, match=r"curate\.near_duplicate is 0\.8 there and 0\.9 now"):
        begin(config.model_copy(update={"near_duplicate": 0.9}), check(config))


def test_help_is_there_at_once() -> None:
    code = (
        "import sys\nfrom datagen.curate import cli\n"
        "try: cli.main(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'ray', 'torch', 'vllm', 'transformers', 'pandas', 'datasets', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "examples:" in done.stdout and "--near-duplicate" in done.stdout
