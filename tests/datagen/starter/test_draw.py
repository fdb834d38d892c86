"""Pictures: deterministic, and showing what the scene says."""

import random

import numpy as np
import pytest

from datagen.corpus import decode_image
from datagen.starter.draw import RGB, png, render
from datagen.starter.scene import COLORS, SHAPES, SIDE, WORDS, Bar, Scene, Thing, sample_scene


def test_same_bytes_for_same_seed_and_others_for_another():
    scene = sample_scene(random.Random(1), "train")
    assert png(scene, 5) == png(scene, 5)
    assert png(scene, 5) != png(scene, 6)
    assert decode_image(png(scene, 5)).size == (SIDE, SIDE)


@pytest.mark.parametrize("color", COLORS)
@pytest.mark.parametrize("shape", SHAPES)
def test_thing_has_its_color_at_its_place_and_nothing_outside_its_box(color, shape):
    thing = Thing(row=2, column=1, shape=shape, color=color, size="large")
    with_thing = np.asarray(render(Scene(things=(thing,)), 0)).astype(int)
    without = np.asarray(render(Scene(), 0)).astype(int)
    x1, y1, x2, y2 = thing.box
    center = with_thing[(y1 + y2) // 2, (x1 + x2) // 2]
    assert np.abs(center - RGB[color]).max() <= 12
    changed = np.argwhere((with_thing != without).any(-1))
    assert changed[:, 1].min() >= x1 and changed[:, 1].max() < x2
    assert changed[:, 0].min() >= y1 and changed[:, 0].max() < y2


def test_bars_reach_their_height():
    picture = np.asarray(render(Scene(bars=(Bar(column=0, color="red", value=3),)), 0)).astype(int)
    assert np.abs(picture[SIDE - 3 * 16 + 2, 8] - RGB["red"]).max() <= 12
    assert np.abs(picture[4, 8] - RGB["red"]).max() > 50


def test_every_word_is_printed_differently():
    pictures = {
        png(Scene(things=(Thing(row=0, column=0, shape="sign", color="white", size="large", word=w),)), 0)
        for w in WORDS
    }
    assert len(pictures) == len(WORDS)
