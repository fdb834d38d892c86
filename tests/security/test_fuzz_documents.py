"""Whatever stands in a file that this project reads back: a message for people, never another exception.

Structure-aware: real documents with one place replaced by junk, and bytes with a few of them changed. By default
the run is short; ``HYPOTHESIS_MAX_EXAMPLES=5000`` in the environment makes it long.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.config import load_config
from cluster.datasets import commit_shard, freeze, plan_dataset, read_shard
from cluster.errors import UserError
from cluster.manifest import Manifest, Plan, Pointer, ShardEntry, parse
from datagen import corpus
from datagen.importers import huggingface
from tests.datagen.conftest import row

EXAMPLES = int(os.environ.get("HYPOTHESIS_MAX_EXAMPLES", "60"))
FUZZ = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=EXAMPLES < 1000,
    database=None,
    suppress_health_check=list(HealthCheck),
)
JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from(
        [10**30, 10**400, -1, 1e308, float("nan"), float("inf"), "\ud800", "", "../../etc/passwd"]
    )
    | st.sampled_from(
        ["/etc/passwd", "file:///etc/passwd", "http://169.254.169.254/", "a\0b", "N/A", "[" * 50]
    )
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=5,
)


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths to everything in a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(place for key, item in inner for place in places(item, (*at, key)))]


def replaced(value: Any, place: tuple[Any, ...], new: Any) -> Any:
    """The value with another at one place."""
    if not place:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[place[0]] = replaced(value[place[0]], place[1:], new)
    return copy


@st.composite
def mutated(draw: st.DrawFn, document: Any) -> bytes:
    """The bytes of a document with junk somewhere, cut off or with other bytes in it."""
    value = document
    for _ in range(draw(st.integers(0, 2))):
        value = replaced(value, draw(st.sampled_from(places(value))), draw(JUNK))
    data = bytearray(json.dumps(value).encode())
    for at, byte in draw(st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), max_size=2)):
        data[at % max(1, len(data))] = byte
    return bytes(data[: draw(st.sampled_from([len(data), len(data), len(data) // 2, 0]))])


PART = {"path": "data/00000/rows-0.parquet", "sha256": "0" * 64, "rows": 2, "bytes": 3}
ENTRY = {
    "index": 0,
    "parts": {"rows": PART},
    "counts": {"accepted": 2},
    "tokens": {"a": 1},
    "seconds": 0.1,
    "inputs": 2,
}
PROVENANCE = {
    "schema_version": "1",
    "kind": "corpus",
    "name": "d",
    "parents": [{"uri": "s3://b/x", "sha256": "0"}],
    "config": {"a": [1, {"b": None}]},
    "config_hash": "0",
    "code_version": "0",
    "created": "2026-01-01T00:00:00Z",
    "seeds": {},
    "prompt_versions": {},
    "models": {"generator": "x"},
}
DOCUMENTS: dict[type[Any], Any] = {
    Plan: PROVENANCE | {"shards": 2, "conditional_put": True},
    Manifest: PROVENANCE
    | {"shards": [ENTRY, ENTRY | {"index": 1}], "totals": {"rows": {"rows": 4}, "bytes": 6}},
    ShardEntry: ENTRY,
    Pointer: {"version": 1, "manifest": "manifest/v1.json", "sha256": "0" * 64},
}


@pytest.mark.parametrize("kind", list(DOCUMENTS), ids=lambda kind: kind.__name__)
@FUZZ
@given(data=st.data())
def test_records_of_a_dataset(kind: type[Any], data: st.DataObject) -> None:
    written = data.draw(mutated(DOCUMENTS[kind]))
    try:
        read = parse(kind, written, "here")
    except UserError as error:
        assert str(error).startswith("here: not a ")
        return
    entries = [read] if kind is ShardEntry else read.shards if kind is Manifest else []
    parts = [part for entry in entries for part in entry.parts.values()]
    for path in [part.path for part in parts] + ([read.manifest] if kind is Pointer else []):
        assert ".." not in path.split("/") and not path.startswith("/") and "://" not in path


@pytest.mark.parametrize(
    "path",
    [
        "../x",
        "a/../../x",
        "/etc/passwd",
        "~/x",
        "file:///etc/passwd",
        "s3://other/x",
        "http://169.254.169.254/",
        "a\\..\\x",
        "",
    ],
)
def test_parts_outside_of_their_dataset(path: str) -> None:
    for kind, document in (
        (Pointer, DOCUMENTS[Pointer] | {"manifest": path}),
        (ShardEntry, ENTRY | {"parts": {"rows": PART | {"path": path}}}),
    ):
        with pytest.raises(UserError, match="leads out of the dataset"):
            parse(kind, json.dumps(document).encode(), "here")


def test_a_plan_of_more_shards_than_there_can_be() -> None:
    with pytest.raises(UserError, match="less than or equal to"):
        parse(Plan, json.dumps(DOCUMENTS[Plan] | {"shards": 10**15}).encode(), "here")


def test_a_manifest_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cluster import manifest

    monkeypatch.setattr(manifest, "MAX_BYTES", 1 << 20)
    (tmp_path / "plan.json").write_bytes(b" " * (2 << 20))
    with pytest.raises(UserError, match="more than 1,048,576 bytes"):
        manifest.read_plan(str(tmp_path))


@FUZZ
@given(
    text=st.lists(
        st.sampled_from(
            [
                "a",
                "engines",
                "extends",
                ": ",
                ":",
                "\n",
                "  ",
                "- ",
                "{",
                "}",
                "[",
                "]",
                "&x ",
                "*x",
                "<<: ",
                "!!",
                "!",
                "python/name:os.system",
                "0x",
                "1e9",
                "2001-01-01",
                "12:30:45",
                "|",
                ">",
                "'",
                '"',
                "#",
                "%",
                "---",
                "~",
                "\t",
                "\ufeff",
                "corpus",
                "drafts_per_image",
                "\x00",
                "? ",
                "=",
                ".inf",
            ]
        ),
        max_size=25,
    ).map("".join),
    overrides=st.lists(st.text(alphabet="ab.=[]{}&*!:- 0'", max_size=12), max_size=2),
)
def test_configs(text: str, overrides: list[str]) -> None:
    from datagen.config import DatagenConfig

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "x.yaml").write_text(text)
        try:
            load_config(DatagenConfig, Path(folder), "x", overrides)
        except UserError as error:
            assert str(error)


LATEST = {"step": 3, "states": [{"name": "step-00000003-a", "step": 3, "holdout": None}]}
STATE = {"step": 3, "used": 1, "rejected": 0, "rejects": {}, "seconds": 1.0, "moved": 0, "holdout": None}


@FUZZ
@given(
    latest=mutated(LATEST), state=mutated(STATE), part=st.binary(max_size=40) | st.just(b"\xff" * 8 + b"{}")
)
def test_checkpoints(latest: bytes, state: bytes, part: bytes) -> None:
    from train.checkpoint import StoredState, entries

    with tempfile.TemporaryDirectory() as run:
        folder = Path(run) / "state/step-00000003-a"
        folder.mkdir(parents=True)
        (Path(run) / "state/latest.json").write_bytes(latest)
        for name, data in (("state.json", state), ("log.jsonl", b""), ("part-00000.safetensors", part)):
            (folder / name).write_bytes(data)
        try:
            for entry in entries(run):
                StoredState(run, entry, Path(run) / "local")
        except UserError as error:
            assert str(error)


RESULTS = {
    "results": {"mme": {"mme_perception_score,none": 1.0}, "pope": {"pope_accuracy,none": 0.5}},
    "n-samples": {"pope": {"effective": 3}},
}
SAMPLE = {
    "doc_id": 1,
    "doc": {"question": "?"},
    "target": "yes",
    "arguments": [["?"]],
    "resps": [["yes"]],
    "filtered_resps": ["yes"],
    "pope_accuracy": {"score": 1.0},
    "token_counts": [{"output_tokens": 3}],
}


@FUZZ
@given(results=mutated(RESULTS), sample=mutated(SAMPLE))
def test_logs_of_lmms_eval(results: bytes, sample: bytes) -> None:
    from eval.interop.lmms_log import read_samples, reported, sample_files

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "d_results.json").write_bytes(results)
        (Path(folder) / "d_samples_pope.jsonl").write_bytes(sample)
        for read in (
            lambda: reported(folder),
            lambda: [list(read_samples(f, t)) for t, f in sample_files(folder).items()],
        ):
            try:
                read()
            except UserError as error:
                assert str(error)


WORDS = [
    "Question:",
    "Answer:",
    "Evidence:",
    "Verdict:",
    " yes",
    " no",
    "\n",
    "A.",
    "(B)",
    "C)",
    " ",
    "1",
    "10",
    "Score:",
    "/",
    "Options:",
    "\u2028",
    "\x00",
    "```",
    "{",
    "}",
    '"',
    "é",
    "**",
    "<image>",
    "</s>",
    "-",
    "a" * 50,
    " " * 50,
]


@FUZZ
@given(text=st.lists(st.sampled_from(WORDS), max_size=40).map("".join) | st.text(max_size=200))
def test_what_engines_write(text: str) -> None:
    """Parsers tell a bad form by `ValueError`, which the desk counts; none hangs on runs of spaces."""
    from datagen import parsing

    for reader in (
        parsing.parse_pair,
        parsing.parse_pairs,
        parsing.parse_verdict,
        parsing.parse_options,
        parsing.parse_yes_no,
        parsing.parse_score,
        parsing.parse_text,
        parsing.choice_options,
    ):
        long: Callable[[str], Any] = reader
        for given_text in (text, text * 50):
            try:
                long(given_text)
            except ValueError as error:
                assert str(error)


@pytest.fixture(scope="module")
def parquet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shard of five pictures in a published corpus."""
    uri = str(tmp_path_factory.mktemp("fuzz") / "corpus")
    plan_dataset(uri, kind="corpus", name="c", shards=1, config={})
    commit_shard(uri, 0, {"rows": corpus.to_table([row(number) for number in range(5)])})
    freeze(uri)
    (file,) = Path(uri).rglob("*.parquet")
    return file


@FUZZ
@given(
    changes=st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), min_size=1, max_size=4),
    cut=st.floats(0, 1) | st.none(),
)
def test_bytes_of_parquet(parquet: Path, changes: list[tuple[int, int]], cut: float | None) -> None:
    """Changed anywhere, most often in the last bytes, which say what all others are. A shard of ours is known by its
    hash; a file to import is not, and what can be read of it is taken."""
    whole = parquet.read_bytes()
    data = bytearray(whole)
    for at, byte in changes:
        data[-1 - at % min(len(data), 3000)] = byte
    damaged = bytes(data[: len(data) if cut is None else int(cut * len(data))])
    parquet.write_bytes(damaged)
    try:
        if damaged != whole:
            with pytest.raises(UserError):
                read_shard(str(parquet.parents[2]), 0)
        try:
            with huggingface.open_parquet(str(parquet)) as file:
                for group in range(file.metadata.num_row_groups):
                    for batch in huggingface._batches(file, group, "here"):
                        batch.to_pylist()
        except UserError as error:
            assert "Parquet" in str(error) or "damaged" in str(error)
    finally:
        parquet.write_bytes(whole)
