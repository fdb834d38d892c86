"""Scenes: valid by construction, and no two splits share one."""

import random

from hypothesis import given
from hypothesis import strategies as st

from datagen.starter.scene import GRID, SIDE, SPLITS, Scene, sample_scene, split_of


@given(st.integers(0, 10**9), st.sampled_from(SPLITS))
def test_scene_is_valid_and_of_its_split(seed, split):
    scene = sample_scene(random.Random(seed), split)
    assert split_of(scene) == split
    assert bool(scene.things) != bool(scene.bars)
    cells = [(t.row, t.column) for t in scene.things]
    assert len(set(cells)) == len(cells) and cells == sorted(cells)
    assert all(0 <= v < GRID for cell in cells for v in cell)
    for box in [t.box for t in scene.things] + [b.box for b in scene.bars]:
        assert 0 <= box[0] < box[2] <= SIDE and 0 <= box[1] < box[3] <= SIDE
    assert sum(t.shape == "sign" for t in scene.things) <= 1


@given(st.integers(0, 10**9))
def test_json_round_trip(seed):
    scene = sample_scene(random.Random(seed), "train")
    assert Scene.from_json(scene.to_json()) == scene


def test_same_seed_same_scene():
    assert sample_scene(random.Random(3), "test") == sample_scene(random.Random(3), "test")
