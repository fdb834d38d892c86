"""Table 1 of L2T from its own numbers, and what a mean over tasks must not depend on."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.improvement import CATEGORIES, REFCOCO, Change, averages, category_of, mean, relative
from eval.tasks import SUITES, TASKS

# LLaVA-1.5-7B, visual instruction tuning and L2T, as printed; MME is its perception score.
TABLE_1 = {
    "vqav2": (76.64, 77.35), "gqa": (61.97, 62.32), "scienceqa_img": (69.46, 68.96), "vizwiz": (54.39, 55.56),
    "mme": (1508, 1531), "mmmu": (36.33, 37.11), "mmstar": (33.65, 34.63), "chartqa": (18.24, 18.96),
    "textvqa": (46.09, 47.58), "docvqa": (21.43, 23.99), "ocrbench": (31.3, 32.3), "coco2017": (110.38, 112.96),
    "flickr30k": (74.85, 77.64), "nocaps": (105.54, 108.09), "refcoco": (29.76, 42.24), "textcaps": (98.15, 105.14),
}  # fmt: skip


def changes(numbers: dict[str, tuple[float, float]]) -> dict[str, Change]:
    return {task: Change(value=relative(new, old)) for task, (old, new) in numbers.items()}


def test_table_1_of_the_paper() -> None:
    assert set(TABLE_1) == set(SUITES["l2t"])
    found = averages(changes(TABLE_1))
    printed = {"vqa": 0.7, "multimodal": 2.2, "ocr": 5.6, "captions": 11.5, "overall": 5.6}
    assert {name: round(a.change.value, 1) for name, a in found.items()} == printed
    assert [len(found[name].tasks) for name in printed] == [4, 3, 4, 5, 16]


def test_without_refcoco_half_of_it_is_gone() -> None:
    found = averages(changes(TABLE_1), without=REFCOCO)
    assert round(found["overall"].change.value, 1) == 3.2
    assert (
        found["captions"].change.value == pytest.approx(3.9, abs=0.05) and len(found["overall"].tasks) == 15
    )


def test_table_7_without_refcoco() -> None:
    numbers = {
        "vqav2": (56.68, 60.80), "vizwiz": (23.20, 24.22), "mmmu": (31.78, 32.33), "mmstar": (33.46, 34.75),
        "chartqa": (11.96, 12.44), "ocrbench": (23.40, 24.50), "flickr30k": (68.55, 68.32), "refcoco": (17.42, 24.53),
    }  # fmt: skip
    assert averages(changes(numbers))["overall"].change.value == pytest.approx(8.3, abs=0.05)
    assert averages(changes(numbers), REFCOCO)["overall"].change.value == pytest.approx(3.7, abs=0.05)


def test_every_task_has_one_category() -> None:
    placed = [task for tasks in CATEGORIES.values() for task in tasks]
    assert len(set(placed)) == len(placed)
    assert [name for name in TASKS if category_of(name) == "other"] == []
    assert set(placed) <= set(TASKS)


@pytest.mark.parametrize(
    ("mine", "theirs", "higher", "expected"),
    [(11.8, 13.4, False, 11.94), (110, 100, True, 10), (-6.27, -9.40, True, 33.30), (0, 5, True, -100)],
)
def test_the_sign_says_better(mine: float, theirs: float, higher: bool, expected: float) -> None:
    assert relative(mine, theirs, higher=higher) == pytest.approx(expected, abs=0.01)


def test_nothing_to_divide_by_is_left_out() -> None:
    assert (
        math.isnan(relative(3, 0)) and math.isnan(relative(math.nan, 3)) and math.isnan(relative(1, math.inf))
    )
    found = averages({"vqav2": Change(value=math.nan), "gqa": Change(value=2.0)})
    assert found["overall"].tasks == ("gqa",)
    assert averages({}) == {}


residuals = st.dictionaries(st.sampled_from("abcdef"), st.floats(-5, 5), max_size=6)
some = st.lists(
    st.builds(lambda v, r: Change(value=v, residual=r), st.floats(-50, 50), residuals), min_size=1, max_size=6
)


@given(some, st.randoms(use_true_random=False))
def test_order_does_not_matter_and_errors_of_own_images_add_up(
    found: list[Change], rng: random.Random
) -> None:
    whole = mean(found)
    shuffled = found.copy()
    rng.shuffle(shuffled)
    again = mean(shuffled)
    assert again.value == pytest.approx(whole.value) and again.se == pytest.approx(whole.se, abs=1e-9)
    assert min(c.value for c in found) - 1e-9 <= whole.value <= max(c.value for c in found) + 1e-9
    # Never more than if all errors went the same way.
    assert whole.se is not None and whole.se <= sum(c.se or 0 for c in found) / len(found) + 1e-9
    apart = [
        Change(value=c.value, residual={f"{i}{k}": v for k, v in (c.residual or {}).items()})
        for i, c in enumerate(found)
    ]
    expected = math.sqrt(sum((c.se or 0) ** 2 for c in found)) / len(found)
    assert mean(apart).se == pytest.approx(expected, abs=1e-9)


def test_an_unknown_error_makes_the_mean_s_unknown() -> None:
    assert mean([Change(value=1.0), Change(value=3.0, residual={"a": 1.0})]) == Change(value=2.0)
