"""The world as data sets: complete, reproducible from its seed, continued after a stop, in the importers' layout."""

import pytest

from cluster import datasets
from cluster.cli import main as l2t
from datagen import corpus, records
from datagen.starter import manner
from datagen.starter.oracle import judge
from datagen.starter.scene import Scene
from datagen.starter.world import WorldConfig, gold_records, scene_at, world_paths, write_world

CONFIG = WorldConfig(images=30, seed=4, split="test", gold=("questions", "tasks"), shard_images=8)


def rows_of(uri):
    return [row for table in datasets.iter_tables(uri) for row in table.to_pylist()]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return write_world(str(tmp_path_factory.mktemp("world")), CONFIG)


def test_corpus_rows_hold_what_the_scene_says(world):
    rows = [corpus.from_row(r) for r in rows_of(world.corpus)]
    assert len(rows) == 30 and len({r.image_id for r in rows}) == 30
    for row in rows:
        scene = Scene.from_json(row.facts)
        assert corpus.sha256(row.image) == row.sha256
        assert corpus.decode_image(row.image).size == (row.width, row.height)
        assert len(row.captions) == 5
        assert len(row.objects) == len(scene.things) + len(scene.bars)
        assert row.ocr == tuple(t.word for t in scene.things if t.word)
        for relation in row.relations:
            assert relation.subject != relation.object and relation.object < len(row.objects)


def test_gold_is_right_and_co_sharded(world):
    scenes = {r["image_id"]: Scene.from_json(r["facts"]) for r in rows_of(world.corpus)}
    for shard in range(len(datasets.read_manifest(world.corpus).shards)):
        ids = set(datasets.read_shard(world.corpus, shard).column("image_id").to_pylist())
        for record in records.from_table(datasets.read_shard(world.gold["questions"], shard)):
            assert set(record.image_ids) <= ids
            assert judge(record.question, record.answer, scenes[record.image_ids[0]]).correct


def test_the_same_seed_gives_the_same_rows(world, tmp_path):
    again = write_world(str(tmp_path), CONFIG)
    assert rows_of(again.corpus) == rows_of(world.corpus)
    assert rows_of(again.gold["tasks"]) == rows_of(world.gold["tasks"])
    other = WorldConfig(images=30, seed=5, split="test", gold=(), shard_images=8)
    assert scene_at(other, 0) != scene_at(CONFIG, 0)


def test_text_only_roles_have_no_image():
    made = [r for i in range(40) for r in gold_records("tasks", scene_at(CONFIG, i), f"image-{i}")]
    assert {r.kind for r in made if not r.image_ids} == {"rewrite", "review"}
    assert {"synthesize", "complicate", "verify", "reformulate", "choice"} <= {r.kind for r in made}
    assert len({r.id for r in made}) == len(made)


def test_a_stranger_rewrites_in_one_manner_and_keeps_the_facts():
    kept = set(judged := [])
    for i in range(40):
        for row in gold_records("foreign", scene_at(CONFIG, i), f"image-{i}"):
            assert not row.image_ids
            if row.kind == "rewrite":
                assert row.answer == manner.stranger(manner.own(row.answer)) and row.answer.startswith("Upon")
                kept.add(row.question.partition("Answer: ")[2].split(" ")[-1] in row.answer)
            else:
                assert "Rewrite: Upon inspection, " in row.question
                judged.append(row.answer)
    assert kept == {True} and {"yes", "no"} == set(judged)


def test_a_stopped_run_continues(tmp_path, monkeypatch):
    real, calls = datasets.commit_shard, []

    def stops(uri, k, *args, **kwargs):
        calls.append((uri, k))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(uri, k, *args, **kwargs)

    monkeypatch.setattr("datagen.starter.world.commit_shard", stops)
    with pytest.raises(KeyboardInterrupt):
        write_world(str(tmp_path), CONFIG)
    before = set(calls[:2])
    calls.clear()
    monkeypatch.setattr(
        "datagen.starter.world.commit_shard", lambda *a, **k: (calls.append(a[:2]), real(*a, **k))
    )
    write_world(str(tmp_path), CONFIG)
    assert not before & set(calls)
    assert datasets.read_manifest(world_paths(str(tmp_path), CONFIG).corpus).totals.rows["rows"] == 30


def test_command_line(tmp_path, capsys):
    root = str(tmp_path / "w")
    assert l2t(["corpus", "starter", "--images", "5", "--seed", "9", "--out", root]) == 0
    assert "starter-train-questions" in capsys.readouterr().out
    assert l2t(["corpus", "starter", "--images", "6", "--seed", "9", "--out", root]) == 2
    assert "another run" in capsys.readouterr().err
    assert l2t(["corpus", "starter", "--images", "5", "--gold", "nonsense", "--out", root]) == 2
    assert "dense, tasks, drill, judging, evolving, questions, foreign, rating" in capsys.readouterr().err
