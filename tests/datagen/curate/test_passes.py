"""The three passes in one process: what is dropped does not depend on shards, order or partitions."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.datasets import freeze, iter_tables, pending_shards, read_manifest
from datagen.corpus import CorpusRow
from datagen.curate import collisions
from datagen.curate.config import CurateConfig
from datagen.curate.evaluation import store_index
from datagen.curate.run import begin, check
from datagen.curate.signatures import signing
from datagen.curate.writing import write
from datagen.records import Record, from_table
from tests.datagen.curate.conftest import Write, image, photo, publish, record

LONG = "The old lighthouse at the end of the pier was painted white and red by the people of the village in the spring"
GERMAN = "Das ist ein alter Leuchtturm, den die Leute im Dorf im Frühling gestrichen haben."


def curate(config: CurateConfig, partitions: int = 1) -> str:
    """What `run` does, with the shuffle done by hand."""
    source = check(config)
    begin(config, source)
    shards = len(source.shards)
    if config.decontaminate:
        store_index(config.output, config.decontaminate, config.picture_distance)
    sign = signing(config.model_dump(mode="json"))
    for k in pending_shards(config.output):
        sign(k)
    for gate in config.gates:
        if gate in collisions.STREAM_OF:
            entries = pa.concat_tables([collisions.entries(config, gate, k) for k in reversed(range(shards))])
            part = entries["key"].to_numpy() % np.uint64(partitions)
            found = [
                collisions.compare(config, gate, entries.filter(pa.array(part == p)))
                for p in range(partitions)
            ]
            collisions.settle(config, gate, shards, pa.concat_tables(found))
    for k in pending_shards(config.output):
        write(config, k)
    freeze(config.output)
    return config.output


def rows_of(uri: str, stream: str = "rows") -> dict[str, Record]:
    return {r.id: r for table in iter_tables(uri, stream) for r in from_table(table)}


def config_for(uri: str, name: str = "out", **gates: object) -> CurateConfig:
    corpus = read_manifest(uri).parents[0].uri
    return CurateConfig(source=uri, corpus=corpus, output=f"{uri}-{name}", **gates)  # type: ignore[arg-type]


def planted() -> tuple[list[CorpusRow], list[Record]]:
    """Pictures a, b (another file of a), c; rows that collide in every way, and rows that must stay."""
    pictures = [
        image("a", photo(1)),
        image("b", photo(1, "JPEG")),
        image("c", photo(2)),
        image("bad", b"no picture"),
    ]
    rows = [
        record("r01", ["a"], "Describe the picture.", LONG),
        record("r02", ["a"], "describe the picture", LONG + "."),
        record("r03", ["a"], "Describe the picture.", LONG.replace("spring", "summer")),
        record("r04", ["c"], "Describe the picture.", LONG),
        record("r05", ["c"], "Is the lighthouse in the picture painted white and red by the people?", "yes"),
        record("r06", ["c"], "Is the lighthouse in the picture painted white and red by the people?", "no"),
        record("r07", ["b"]),
        record("r08", [], "Tell me a story.", LONG),
        record("r09", [], "Tell me a story.", LONG.replace("white and red", "red and white")),
        record("r10", [], "Tell me a story.", LONG.replace("spring", "autumn")),
        record("r11", ["bad"]),
        record("r12", ["c"], state="rejected", reason="unverified"),
        record("r13", ["a", "c"], "Describe the picture.", LONG),
        record("r14", ["c"], "What is it?", "word " * 400),
        record("r15", ["c"], "Was ist das?", GERMAN),
    ]  # fmt: skip
    return pictures, rows


def test_what_is_dropped_and_why(write_set: Write) -> None:
    pictures, rows = planted()
    uri = write_set("mix", [pictures], [rows])
    out = curate(config_for(uri, near_duplicate=0.8, image_duplicate=4, language=("en",), length=(1, 300)))
    rejects = rows_of(out, "rejects")
    reasons = {r.id: r.reason for r in rejects.values()}
    assert reasons == {
        "r02": "gate:near_duplicate",
        "r03": "gate:near_duplicate",
        "r07": "gate:image_duplicate",
        "r10": "gate:near_duplicate",
        "r12": "unverified",
        "r14": "gate:length",
        "r15": "gate:language",
    }
    details = {r.id: r.gates[-1].detail for r in rejects.values() if r.gates}
    assert details["r02"] == "same words as r01"
    assert details["r03"].startswith("similarity 0.") and details["r03"].endswith("with r01")
    assert details["r07"].startswith("b shows the same as a (at distance ")
    assert details["r14"] == "answer of 400 words, allowed 1 to 300"
    source = rows_of(uri)
    assert all(row == source[row.id] for row in rows_of(out).values()), "what stays is unchanged"


def test_books_and_lineage(write_set: Write) -> None:
    pictures, rows = planted()
    uri = write_set("mix", [pictures, []], [rows, []])
    config = config_for(uri, near_duplicate=0.8, image_duplicate=4)
    manifest = read_manifest(curate(config))
    assert [p.uri for p in manifest.parents] == [config.corpus, uri]
    assert manifest.shards[0].inputs == len(rows) == sum(manifest.totals.rows.values())
    assert manifest.totals.counts["rejected:unverified"] == 1
    tokens = manifest.totals.tokens
    assert tokens["calls"] == 6, "what the rows cost is carried over"
    assert tokens["found.image_duplicate"] == tokens["dropped.image_duplicate"] == 1
    assert tokens["dropped.near_duplicate"] == manifest.totals.counts["rejected:gate:near_duplicate"]
    again = curate(config.model_copy(update={"source": config.output, "output": uri + "-again"}))
    assert read_manifest(again).totals.tokens["dropped.near_duplicate"] == 0
    assert read_manifest(again).totals.counts == manifest.totals.counts, "curating twice drops nothing more"
    assert rows_of(again) == rows_of(config.output) and rows_of(again, "rejects") == rows_of(
        config.output, "rejects"
    )


def test_across_pictures_and_same_words_only(write_set: Write) -> None:
    pictures, rows = planted()
    uri = write_set("mix", [pictures], [rows])
    across = curate(config_for(uri, "across", near_duplicate=0.8, across_pictures=True))
    assert {"r03", "r04", "r13"} <= rows_of(across, "rejects").keys()
    exact = curate(config_for(uri, "exact", near_duplicate=1.0))
    assert rows_of(exact, "rejects").keys() == {"r02", "r12"}


def test_gates_that_only_write_down(write_set: Write) -> None:
    pictures, rows = planted()
    uri = write_set("mix", [pictures], [rows])
    out = curate(
        config_for(uri, near_duplicate=0.8, image_duplicate=4, keep=("image_duplicate", "near_duplicate"))
    )
    kept = rows_of(out)
    assert rows_of(out, "rejects").keys() == {"r12"}
    assert {i for i, r in kept.items() if r.gates} == {"r02", "r03", "r07", "r10"}
    assert all(not r.gates[-1].passed and r.state == "accepted" for r in kept.values() if r.gates)
    tokens = read_manifest(out).totals.tokens
    assert (tokens["found.near_duplicate"], tokens["dropped.near_duplicate"]) == (3, 0)
    again = curate(
        config_for(out, near_duplicate=0.8, image_duplicate=4, keep=("image_duplicate", "near_duplicate"))
    )
    assert rows_of(again) == kept, "a finding replaces the older one"


def test_rows_of_dropped_pictures_win_no_cluster(write_set: Write) -> None:
    rows = [record("r1", ["b"], "Go.", LONG), record("r2", [], "Go.", LONG), record("r0", ["a"])]
    uri = write_set("mix", [[image("a", photo(1)), image("b", photo(1, "JPEG"))]], [rows])
    out = curate(config_for(uri, near_duplicate=0.8, image_duplicate=4, across_pictures=True))
    assert rows_of(out).keys() == {"r0", "r2"}


def test_evaluation_sets(write_set: Write) -> None:
    question = "What is the man in the blue coat near the old harbour holding in his left hand?"
    told = "He is holding a black umbrella with a wooden handle."
    bench = write_set("bench", [[image("x", photo(9))]], [[record("e1", ["x"], question, told)]])
    rows = [
        record("r1", ["c"], question, told),
        record("r2", ["leak"]),
        record("r3", ["c"], "Another question about something else?", told),
        record("r4", [], "Hello! " + question, told),
        record("r5", ["broken"], question, told),
    ]
    pictures = [image("c", photo(3)), image("leak", photo(9, "JPEG", 60)), image("broken", b"no picture")]
    uri = write_set("mix", [pictures], [rows])
    out = curate(config_for(uri, decontaminate=(bench,)))
    found = {i: r.gates[-1].detail for i, r in rows_of(out, "rejects").items()}
    assert found["r2"].startswith("shows the same as bench, picture x") and set(rows_of(out)) == {"r3"}
    assert {found[i] for i in ("r1", "r4", "r5")} == {"100% of the 8-grams of bench, example e1"}
    images_only = curate(config_for(uri, "images", decontaminate=(read_manifest(bench).parents[0].uri,)))
    assert rows_of(images_only, "rejects").keys() == {"r2"}


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**16), st.integers(1, 4), st.integers(1, 5))
def test_shards_order_and_partitions_do_not_matter(seed: int, shards: int, partitions: int) -> None:
    rng = random.Random(seed)
    pictures, rows = planted()
    rows += [
        record(f"s{n}", [rng.choice("abc")], "Go.", LONG.replace("spring", rng.choice("xyz")))
        for n in range(8)
    ]
    expected = outcomes([pictures], [rows], 1)
    by_shard: list[list[Record]] = [[] for _ in range(shards)]
    rng.shuffle(rows)
    for row in rows:
        rng.choice(by_shard).append(row)
    # Every shard holds the pictures of its rows, in an order of its own.
    images = [[p for p in pictures if any(p.image_id in r.image_ids for r in shard)] for shard in by_shard]
    for shard in images:
        rng.shuffle(shard)
    assert outcomes(images, by_shard, partitions) == expected


def outcomes(
    pictures: list[list[CorpusRow]], rows: list[list[Record]], partitions: int
) -> dict[str, tuple[str, str]]:
    """Reason and detail of every row."""
    with tempfile.TemporaryDirectory() as folder:
        uri = publish(Path(folder), "mix", pictures, rows)
        out = curate(config_for(uri, near_duplicate=0.8, image_duplicate=4), partitions)
        found = {**rows_of(out), **rows_of(out, "rejects")}
        return {i: (r.reason, r.gates[-1].detail if r.gates else "") for i, r in found.items()}
