"""Corruptions beside imagecorruptions-imaug: its pictures where nothing is random, its distribution where something is.

What it gave is in golden_corruptions.npz (``bench_corruptions.py --golden`` writes it); where it is installed, it is
also asked directly.
"""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import poisson

from cluster.datasets import commit_shard, freeze, pending_shards, plan_dataset, read_manifest, read_shard
from cluster.errors import UserError
from datagen import corpus
from datagen.corpus import CorpusRow, decode_image
from eval.benchmarks.importing import ImportJob, run_import
from eval.config import GoldSet
from eval.corruptions import blur, cli, ice, noise
from eval.corruptions.arrays import Pixels
from eval.corruptions.corrupt import CORRUPTIONS, corrupt, seed_of
from eval.corruptions.dataset import CorruptionJob, corrupt_corpora, corrupt_shard
from eval.corruptions.severities import LEVELS, MAIN, NAMES, SEVERITIES
from eval.samples import load, select
from eval.tasks import TASKS
from tests.eval.benchmarks.layouts import parquet
from tests.eval.corruption_reference import DETERMINISTIC, DRAWS, RANDOM, measures, picture

GOLDEN = np.load(Path(__file__).with_name("golden_corruptions.npz"))


def draws(name: str, severity: int, pixels: Pixels, number: int = DRAWS) -> np.ndarray:
    """[number, 3] measures of a corruption drawn again and again."""
    level = SEVERITIES[name][severity - 1]
    return np.array(
        [measures(pixels, CORRUPTIONS[name](pixels, level, np.random.default_rng(k))) for k in range(number)]
    )


@pytest.mark.parametrize("severity", LEVELS)
@pytest.mark.parametrize("name", DETERMINISTIC)
def test_pictures_are_the_reference_ones(name: str, severity: int) -> None:
    difference = np.abs(corrupt(GOLDEN["small"], name, severity).astype(int) - GOLDEN[f"{name}-{severity}"])
    # They compute in doubles and cut off, so a value next to an integer may fall on its other side.
    assert difference.max() <= 1 and difference.mean() < 0.2


@pytest.mark.parametrize("severity", LEVELS)
@pytest.mark.parametrize("name", [name for name in RANDOM if name != "frost"])
def test_random_ones_have_the_reference_distribution(name: str, severity: int) -> None:
    theirs, ours = GOLDEN[f"{name}-{severity}"], draws(name, severity, GOLDEN["large"])
    error = np.sqrt((theirs.var(axis=0, ddof=1) + ours.var(axis=0, ddof=1)) / DRAWS)
    assert (np.abs(theirs.mean(axis=0) - ours.mean(axis=0)) < 4 * error + 0.1).all()
    # As variable from picture to picture as the reference is, within what 40 draws can tell.
    spread = ours.std(axis=0, ddof=1), theirs.std(axis=0, ddof=1)
    assert (spread[0] < 2 * spread[1] + 0.1).all() and (spread[1] < 2 * spread[0] + 0.1).all()


@pytest.mark.parametrize("severity", LEVELS)
def test_drawn_frost_is_as_strong_as_the_photographed(severity: int) -> None:
    theirs = GOLDEN[f"frost-{severity}"].mean(axis=0)
    ours = draws("frost", severity, GOLDEN["large"], 120).mean(axis=0)
    # Which of six panes is drawn decides most, so 40 draws of theirs are known to a tenth.
    assert ours[:2] == pytest.approx(theirs[:2], rel=0.2)


def test_the_package_itself_where_it_is_installed() -> None:
    reference = pytest.importorskip("imagecorruptions")
    folder = str(Path(reference.__file__).parent / "frost")
    photographs, _ = ice.read_photographs(folder)
    pixels = picture(120, 90, 5)
    for severity in (1, 5):
        for name in (*DETERMINISTIC, "jpeg_compression"):
            theirs = reference.corrupt(pixels, severity=severity, corruption_name=name)
            assert np.abs(theirs.astype(int) - corrupt(pixels, name, severity)).max() <= 1, name
        theirs_all = np.array(
            [measures(pixels, reference.corrupt(pixels, severity=severity, corruption_name="frost"))
             for _ in range(80)]
        )  # fmt: skip
        level = SEVERITIES["frost"][severity - 1]
        ours = np.array([
            measures(pixels, CORRUPTIONS["frost"](pixels, level, np.random.default_rng(k), photographs))  # type: ignore[call-arg]
            for k in range(80)
        ])  # fmt: skip
        error = np.sqrt((theirs_all.var(axis=0) + ours.var(axis=0)) / 80)
        assert (np.abs(theirs_all.mean(axis=0) - ours.mean(axis=0)) < 4 * error).all()


def test_jpeg_is_pillows_own() -> None:
    import io

    pixels, data = picture(40, 56), io.BytesIO()
    Image.fromarray(pixels).save(data, "JPEG", quality=10)
    assert np.array_equal(corrupt(pixels, "jpeg_compression", 4), np.asarray(Image.open(data)))


@given(st.integers(0, 2**32), st.integers(1, 14), st.integers(1, 14), st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_strewing_is_the_loop_of_the_reference(seed: int, height: int, width: int, reach: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    ours = blur._strew(pixels, reach, np.random.default_rng(seed))
    rows, columns = range(reach + 1, height - reach + 1), range(reach + 1, width - reach + 1)
    slow = pixels.copy()
    if len(rows) and len(columns):
        moves = np.random.default_rng(seed).integers(
            -reach, reach, (2, len(rows), len(columns)), dtype=np.int32
        )
        for row in reversed(rows):
            for column in reversed(columns):
                down, right = moves[:, row - rows[0], column - columns[0]]
                slow[row, column] = slow[row + down, column + right]
    assert np.array_equal(ours, slow)


@pytest.mark.parametrize("full", [60, 25, 12, 5, 3])
def test_photon_tables_are_poisson(full: int) -> None:
    chance, first, second = noise._photons(full)
    slots = first.shape[1]
    for value in (0, 1, 77, 254, 255):
        shares = np.zeros(256)
        own = chance[value] / 2**24
        np.add.at(shares, first[value], own / slots)
        np.add.at(shares, second[value], (1 - own) / slots)
        wanted = np.zeros(256)
        counts = np.arange(200)
        pixels = np.clip(counts / full * 255, 0, 255).astype(np.uint8)
        np.add.at(wanted, pixels, poisson.pmf(counts, value / 255 * full))
        assert shares == pytest.approx(wanted, abs=1e-6)


@given(
    st.sampled_from(NAMES), st.sampled_from(LEVELS), st.integers(1, 40), st.integers(1, 40), st.integers(0, 3)
)
@settings(max_examples=150, deadline=None)
def test_any_size_and_any_flat_picture(name: str, severity: int, height: int, width: int, flat: int) -> None:
    pixels = (
        np.full((height, width, 3), (flat - 1) * 127 + (flat == 3), dtype=np.uint8)
        if flat
        else picture(max(height, 8), max(width, 8))[:height, :width]
    )
    before = pixels.copy()
    after = corrupt(pixels, name, severity)
    assert after.shape == pixels.shape and after.dtype == np.uint8
    assert np.array_equal(pixels, before)
    assert np.array_equal(after, corrupt(Image.fromarray(pixels), name, severity))


# Not those whose change does not grow in the reference either.
@pytest.mark.parametrize("name", sorted({*NAMES} - {"saturate", "fog", "frost", "glass_blur", "snow"}))
def test_more_severe_is_further_away(name: str) -> None:
    pixels = picture(96, 128)
    changes = [measures(pixels, corrupt(pixels, name, level))[0] for level in LEVELS]
    assert changes[0] < changes[2] < changes[4]


def test_threads_and_global_seeds_change_nothing() -> None:
    pictures = [picture(24, 32, seed) for seed in range(4)]
    work = [(p, name, 3) for p in pictures for name in NAMES] * 2
    one = [corrupt(*item) for item in work]
    np.random.seed(0)
    with ThreadPoolExecutor(8) as pool:
        many = list(pool.map(lambda item: corrupt(*item), work))
    assert all(np.array_equal(a, b) for a, b in zip(one, many, strict=True))
    state = np.random.get_state()[1].copy()  # type: ignore[index, union-attr]
    corrupt(*work[0])
    assert np.array_equal(state, np.random.get_state()[1])  # type: ignore[index]


def test_seeds_follow_from_all_that_they_should() -> None:
    base = picture(24, 32)
    other = base.copy()
    other[3, 3, 1] ^= 1
    seeds = {seed_of(p, name, level) for p in (base, other) for name in NAMES for level in LEVELS} | {
        seed_of(base.reshape(32, 24, 3), NAMES[0], 1)
    }
    assert len(seeds) == 2 * len(NAMES) * len(LEVELS) + 1


def test_there_are_fifteen_and_four() -> None:
    assert len(MAIN) == 15 and len(set(NAMES)) == 19
    assert all(len(SEVERITIES[name]) == 5 for name in NAMES) and set(SEVERITIES) == set(NAMES)
    assert sum(len(n) * len(s) for n, s in [cli.PAPER]) == 12


@pytest.mark.parametrize(("name", "severity"), [("gausian_noise", 1), ("fog", 0), ("fog", 6)])
def test_unknown_ones_are_named(name: str, severity: int) -> None:
    with pytest.raises(UserError, match="unknown"):
        corrupt(picture(8, 8), name, severity)
    assert cli.main(["c", "o", "--corruptions", name, "--severities", str(severity)]) == 2


def test_what_is_no_picture_is_refused() -> None:
    for wrong in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), float), np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(ValueError, match="not an RGB picture"):
            corrupt(wrong, "fog", 1)


def broken_corpus(uri: str) -> str:
    """Two shards of two pictures, the last one damaged."""
    rows = [
        CorpusRow(
            image_id=f"i{k}", image=_png(picture(30, 40, k)), width=40, height=30, sha256="x", captions=("a",)
        )
        for k in range(3)
    ]
    rows.append(CorpusRow(image_id="i3", image=b"damaged", width=1, height=1, sha256="x"))
    plan_dataset(uri, kind="corpus", name="pictures", shards=2, config={})
    for k in range(2):
        commit_shard(uri, k, {"rows": corpus.to_table(rows[2 * k : 2 * k + 2])})
    freeze(uri)
    return uri


def _png(pixels: Pixels) -> bytes:
    import io

    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    return data.getvalue()


def test_a_corpus_is_made_once_continues_and_counts_the_damaged(tmp_path: Path) -> None:
    source = broken_corpus(str(tmp_path / "corpus"))
    jobs = [
        CorruptionJob(corpus=source, output=str(tmp_path / f"out/{name}"), corruption=name, severity=4)
        for name in ("shot_noise", "frost")
    ]
    from eval.corruptions.dataset import _plan

    _plan(jobs[0], 2)
    corrupt_shard(jobs[0], 0)  # as if a run had been killed after it
    first = (tmp_path / "out/shot_noise/commits/00000.json").read_bytes()
    assert pending_shards(jobs[0].output) == [1]
    assert corrupt_corpora(jobs) == [job.output for job in jobs]
    assert (tmp_path / "out/shot_noise/commits/00000.json").read_bytes() == first
    for job in jobs:
        manifest = read_manifest(job.output)
        assert manifest.kind == "corpus" and manifest.parents[0].uri == source
        assert manifest.totals.counts == {"accepted": 3, "rejected": 1}
        assert manifest.config["level"] == list(SEVERITIES[job.corruption][3]) and manifest.seeds
        before, after = (read_shard(uri, 0).to_pylist() for uri in (source, job.output))
        for old, new in zip(before, after, strict=True):
            wanted = corrupt(decode_image(old["image"]["bytes"]), job.corruption, 4)
            assert np.array_equal(np.asarray(decode_image(new["image"]["bytes"])), wanted)
            assert new["sha256"] == corpus.sha256(new["image"]["bytes"])
            assert {k: old[k] for k in old if k not in ("image", "sha256")} == {
                k: new[k] for k in new if k not in ("image", "sha256")
            }
        reject = read_shard(job.output, 1, "rejects").to_pylist()
        assert [r["image_id"] for r in reject] == ["i3"] and "shard 1 row 1" in reject[0]["where"]
    with pytest.raises(UserError, match="another run"):
        corrupt_corpora([CorruptionJob(corpus=source, output=jobs[0].output, corruption="fog", severity=4)])


def test_gold_questions_go_with_the_corrupted_corpus(gold: Any, tmp_path: Path) -> None:
    job = CorruptionJob(
        corpus=gold.corpus, output=str(tmp_path / "c"), corruption="contrast", severity=5, encoding="jpeg"
    )
    from eval.corruptions.dataset import _plan

    shards = len(read_manifest(gold.corpus).shards)
    _plan(job, shards)
    for shard in range(shards):
        corrupt_shard(job, shard)
    freeze(job.output)
    there = gold.model_copy(update={"corpus": job.output})
    tasks = list(TASKS.values())
    clean, damaged = (load(g, select(g, tasks, 2, 100)[0]) for g in (gold, there))
    assert [c.sample for c in clean] == [d.sample for d in damaged]
    for c, d in zip(clean, damaged, strict=True):
        assert c.image and d.image and c.image.size == d.image.size
        assert np.asarray(d.image).std() < np.asarray(c.image).std()


@pytest.mark.parametrize("module", ["eval.corruptions.cli", "eval.attention_cli"])
def test_help_is_there_at_once(module: str) -> None:
    """With examples, and without loading what only the work needs."""
    code = (
        f"import sys\nfrom {module} import main\ntry:\n    main(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'ray', 'torch', 'transformers', 'pyarrow', 'numpy', 'cv2', 'vllm'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "examples:" in done.stdout and "l2t eval" in done.stdout


def test_the_presets_and_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--list"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 19
    for wrong in ([], ["c"], ["c", "o"], ["c", "o", "--preset", "paper", "--severities", "1"]):
        with pytest.raises(SystemExit):
            cli.main(wrong)


def test_imported_benchmarks_get_roots_of_their_own(tmp_path: Path) -> None:
    rows = [
        {"id": str(k), "question_id": str(k), "question": f"Is there a {k}?", "category": "random", "answer": "yes",
         "image_source": f"i{k}", "image": {"bytes": b"damaged" if k == 3 else _png(picture(24, 32, k)), "path": None}}
        for k in range(5)
    ]  # fmt: skip
    parquet(tmp_path / "pope/data/test-00000-of-00001.parquet", rows)
    root = str(tmp_path / "b")
    run_import(ImportJob(benchmark="pope", sources=(str(tmp_path / "pope"),), output=root, shard_images=2))
    options = ["--names", "pope", "--corruptions", "contrast", "--severities", "5"]
    assert cli.main([root, str(tmp_path / "c"), *options]) == 0
    there = str(tmp_path / "c/contrast/5")
    clean, damaged = (GoldSet(benchmarks=r, names=("pope",)) for r in (root, there))
    tasks = [TASKS["pope_random"]]
    before, after = (
        [item for chunk in select(g, tasks, None, 100) for item in load(g, chunk)] for g in (clean, damaged)
    )
    assert [b.sample for b in before] == [a.sample for a in after] and len(before) == 4
    for b, a in zip(before, after, strict=True):
        assert b.image and a.image and np.array_equal(corrupt(b.image, "contrast", 5), np.asarray(a.image))
    gold = read_manifest(f"{there}/gold/pope")
    assert gold.totals.counts == read_manifest(f"{root}/gold/pope").totals.counts
    assert [parent.uri for parent in gold.parents] == [f"{root}/gold/pope", f"{there}/corpora/pope"]
    assert cli.main([root, str(tmp_path / "c"), *options[2:], "--names", "vqav2"]) == 2
