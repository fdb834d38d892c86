"""Counting sentences over whole data sets, beside the definition in plain Python."""

from __future__ import annotations

import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cluster import datasets
from cluster.errors import UserError
from datagen import records
from datagen.records import Record, Turn
from train.config import DataSource
from train.feed.mixture import Mixture
from train.mask import mining
from train.mask.mining import TURN, count_turns, mine_dataset
from train.mask.templates import fold, sentences

# What could go wrong: every kind of whitespace and mark, plain and wide; what folds to one of them, to several
# characters or to none; the placeholder, whole, cut and wide.
ATOMS = [
    *".?!:'\",aBéß語ﬁ½…‥。．？！：﹖︰；\u037e’‘“”„‟′″Ａｂ\ufeff\u200b\u0301\x00", "\U0001f600",
    *"\t\n\r\v\f\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2003\u2028\u2029\u202f\u205f\u3000",
    "\r\n", "\n\n", "  ", "<image>", "<ima", "ge>", "＜image＞", "0.5", "Answer shortly.", "Is it 3.14?",
]  # fmt: skip
HOSTILE = st.lists(st.sampled_from(ATOMS), max_size=14).map("".join) | st.text(max_size=30)


def expected(texts: list[str]) -> dict[str, int]:
    """The definition: sentences of each turn, once per turn, and the number of turns."""
    counter = Counter(sentence for text in texts for sentence in set(sentences(text)))
    return {**counter, TURN: len(texts)}


def as_dict(counts: pa.Table) -> dict[str, int]:
    assert counts["turns"].type == pa.int64()
    found = dict(zip(counts["text"].to_pylist(), counts["turns"].to_pylist(), strict=True))
    assert len(found) == counts.num_rows
    return found


@settings(max_examples=600, deadline=None)
@given(st.lists(HOSTILE, max_size=8))
@example(["ends with <ima", "ge> and a mark.", " begins with a space"])
@example(["", "", " "])
@example(["A.\u3000B．\u00a0C\u2028D。 E"])
@example(["Say.  Say. say.\nSay.", "“Say.”\u2003‘Say.’"])
def test_counting_a_column_is_counting_sentences(texts: list[str]) -> None:
    assert as_dict(count_turns(pa.array(texts, pa.string()))) == expected(texts)


@settings(max_examples=100, deadline=None)
@given(st.lists(HOSTILE, min_size=2, max_size=8), st.data())
def test_slices_of_a_column(texts: list[str], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(texts)))
    length = data.draw(st.integers(0, len(texts) - start))
    part = pa.array(texts, pa.string()).slice(start, length)
    assert as_dict(count_turns(part)) == expected(texts[start : start + length])


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.lists(st.sampled_from(["Ask.", "Be. Ask.", "Come.", "Do? Come.", "Eat?"]), max_size=12),
        max_size=12,
    ),
    st.floats(0, 1),
)
@example([["Ask."] * 7 + ["Come."] * 93] * 5, 0.07)  # 0.07 * 100 > 7, but 0.07 * 500 == 35
def test_what_is_frequent_in_the_whole_is_so_in_some_part(parts: list[list[str]], min_share: float) -> None:
    """The cluster's way to the same templates: only what some part marks is looked up in all."""
    marked = [mining._marked(count_turns(pa.array(part, pa.string())), min_share) for part in parts]
    texts = pa.array(
        [t for part in marked for t in mining._frequent(part)["text"].to_pylist()], pa.large_string()
    )
    few = mining._sum(mining._only(texts, part) for part in marked)
    whole = mining._sum(count_turns(pa.array(part, pa.string())) for part in parts)
    assert mining._choose(few, min_share, None) == mining._choose(whole, min_share, None)


def test_a_share_that_is_met_exactly_is_met() -> None:
    turns = count_turns(pa.array(["Ask."] * 7 + ["Come."] * 93, pa.string()))
    assert [text for text, _ in mining._choose(turns, 0.07, None).counts] == ["Come.", "Ask."]


def test_every_character_folds_as_in_python() -> None:
    characters = [chr(c) for c in range(sys.maxunicode + 1) if not 0xD800 <= c < 0xE000]
    folding = [c for c in characters if fold(c) != c or c.isspace()]
    texts = [f"x{c}y.{c}z" for c in [*folding, *characters[::23]]]
    assert len(folding) > 3000
    assert as_dict(count_turns(pa.array(texts, pa.string()))) == expected(texts)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.sampled_from(["A.", "B.", "C.", "D?", "E?"]), max_size=6), max_size=30))
def test_sums_do_not_depend_on_the_cut(parts: list[list[str]]) -> None:
    tables = [count_turns(pa.array(part, pa.string())) for part in parts]
    whole = [text for part in parts for text in part]
    assert as_dict(mining._sum(tables)).items() >= {**expected(whole), TURN: len(whole)}.items() - {(TURN, 0)}


def write(place: Path, shards: list[list[Record]]) -> str:
    """A published set of instructions."""
    uri = str(place)
    datasets.plan_dataset(uri, kind="instructions", name=place.name, shards=len(shards), config={})
    for index, rows in enumerate(shards):
        datasets.commit_shard(uri, index, {"rows": records.to_table(rows)})
    datasets.freeze(uri)
    return uri


def talk(name: str, questions: list[str], kind: str = "a") -> Record:
    turns = [
        t for q in questions for t in (Turn(role="user", text=q), Turn(role="assistant", text="Answer. Yes."))
    ]
    return Record(
        id=name, image_ids=(), kind=kind, format="open", conversation=tuple(turns), state="accepted"
    )


def questions(seed: int) -> list[str]:
    rng = random.Random(seed)
    ends = ["Answer shortly.", "Use the option’s letter.", "Reference:\u3000token", "Answer  shortly."]
    return [
        f"<image>\nWhat is {rng.randrange(9)}.5?{rng.choice([' ', chr(10)])}{rng.choice(ends)}"
        for _ in range(rng.randrange(4))
    ]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[DataSource]:
    root = tmp_path_factory.mktemp("mining")
    made = [
        write(
            root / name,
            [
                [talk(f"{s}-{r}", questions(1000 * k + 100 * s + r), kind="ab"[r % 2]) for r in range(40)]
                for s in range(3)
            ],
        )
        for k, name in enumerate(("first", "second"))
    ]
    return [
        DataSource(instructions=made[0], weight=0.5),
        DataSource(instructions=made[1], kinds=("a",)),
        DataSource(corpus="/nowhere", instructions=None),
    ]


def by_hand(sources: list[DataSource]) -> dict[str, int]:
    texts = []
    for source in sources:
        if source.instructions is None:
            continue
        for table in datasets.iter_tables(source.instructions):
            for row in table.to_pylist():
                if source.kinds is None or row["kind"] in source.kinds:
                    texts += [t["text"] for t in row["conversation"] if t["role"] == "user"]
    return expected(texts)


def test_whole_data_set(sources: list[DataSource]) -> None:
    counts = by_hand(sources)
    turns = counts.pop(TURN)
    for share in (0.0, 0.02, 0.2, 1.0):
        found = mine_dataset(sources, min_share=share)
        kept = {text: n for text, n in counts.items() if n >= max(3, share * turns)}
        assert found.turns == turns and found.source == "mined"
        assert dict(found.counts) == kept
        assert list(found.counts) == sorted(kept.items(), key=lambda item: (-item[1], item[0]))
    assert len(mine_dataset(sources, min_share=0.02).counts) > 3


def test_top_k_takes_the_most_frequent(sources: list[DataSource]) -> None:
    everything = mine_dataset(sources, min_share=0.0).counts
    assert mine_dataset(sources, min_share=0.0, top_k=2).counts == everything[:2]
    assert mine_dataset(sources, min_share=0.0, top_k=10_000).counts == everything


def test_the_cut_into_pieces_changes_nothing(
    sources: list[DataSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = mine_dataset(sources, min_share=0.0)
    for name, size in (("ROWS", 7), ("HELD_ROWS", 20), ("GROUP_ROWS", 3)):
        monkeypatch.setattr(mining, name, size)
    assert mine_dataset(sources, min_share=0.0) == whole


def test_frequent_in_the_whole_though_rare_in_every_shard(tmp_path: Path) -> None:
    shards = [[talk(f"{s}-{r}", [f"Question {s} {r}?"]) for r in range(5)] for s in range(6)]
    for s, rows in enumerate(shards):
        rows[0] = talk(f"{s}-0", [f"Question {s}? Be short."])
    found = mine_dataset([DataSource(instructions=write(tmp_path / "spread", shards))], min_share=0.15)
    assert found.counts == (("Be short.", 6),)


def test_odd_rows_and_empty_sets(tmp_path: Path) -> None:
    turn = pa.struct([("role", pa.string()), ("text", pa.string())])
    rows = [
        None,
        [],
        [None, {"role": "user", "text": None}],
        [{"role": None, "text": "Not. Human."}],
        *[[{"role": "user", "text": "Be short."}, {"role": "assistant", "text": "Be short."}]] * 3,
    ]
    table = pa.table(
        {
            "kind": pa.array([None, *"abcdef"]),
            "conversation": pa.array(rows, pa.list_(turn)),
            "id": [*"abcdefg"],
        }
    )
    uri = str(tmp_path / "odd")
    datasets.plan_dataset(uri, kind="instructions", name="odd", shards=2, config={})
    datasets.commit_shard(uri, 0, {"rows": table})
    datasets.commit_shard(uri, 1, {"rows": table.slice(0, 0)})
    datasets.freeze(uri)
    found = mine_dataset([DataSource(instructions=uri)], min_share=0.5)
    assert (found.counts, found.turns) == ((("Be short.", 3),), 4)
    nothing = mine_dataset([DataSource(instructions=uri, kinds=("none",))], min_share=0.0)
    assert (nothing.counts, nothing.turns) == ((), 0)
    assert mine_dataset([DataSource(corpus="/nowhere", instructions=None)], min_share=0.1).counts == ()


def test_a_missing_data_set_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere"):
        mine_dataset([DataSource(instructions=str(tmp_path / "nowhere"))], min_share=0.1)


IN_A_PROCESS = """
import sys
from pathlib import Path
from cluster.errors import UserError
from cluster.runtime import init_ray
from train.mask import mining
from train.config import DataSource
from train.mask.mining import mine_dataset
mining.FEW_SHARDS = 5  # there are six
sources = [DataSource.model_validate_json(text) for text in sys.argv[2:]]
with init_ray(num_cpus=8):
    Path(sys.argv[1], "found").write_text(mine_dataset(sources[:-1], min_share=0.02).to_json())
    try:
        mine_dataset(sources, min_share=0.02)
    except UserError as error:
        Path(sys.argv[1], "error").write_text(str(error))
assert "ray.data" in sys.modules
"""
ALONE = """
import sys
from train.config import DataSource
from train.mask.mining import mine_dataset
print(mine_dataset([DataSource.model_validate_json(text) for text in sys.argv[1:]], min_share=0.02).to_json())
assert not {"ray", "torch", "transformers"} & set(sys.modules)
"""


def test_ray_data_counts_the_same(sources: list[DataSource], tmp_path: Path) -> None:
    """In a process of its own, so that no other test finds Ray running."""
    broken = write(tmp_path / "broken", [[talk("a", ["Be short."])]])
    next(Path(broken, "data").glob("*/*.parquet")).unlink()
    command = [sys.executable, "-c", IN_A_PROCESS, str(tmp_path)]
    command += [source.model_dump_json() for source in [*sources, DataSource(instructions=broken)]]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=150)
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert (tmp_path / "found").read_text() == mine_dataset(sources, min_share=0.02).to_json()
    assert str(tmp_path / "broken" / "data") in (tmp_path / "error").read_text()


def test_a_laptop_run_loads_no_ray(sources: list[DataSource]) -> None:
    command = [sys.executable, "-c", ALONE, *(source.model_dump_json() for source in sources)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert ran.stdout.strip() == mine_dataset(sources, min_share=0.02).to_json().strip()


def test_letters_of_options_are_no_templates(tmp_path: Path) -> None:
    options = "Which?\nA. red\nB. blue\n(C) green\n1. none"
    source = DataSource(instructions=write(tmp_path / "set", [[talk(f"r{i}", [options]) for i in range(5)]]))
    found = {text for text, _ in mine_dataset([source], min_share=0.5).counts}
    assert found == {"Which?", "red", "blue", "(C) green", "none"}


def test_rows_that_a_share_leaves_out_do_not_count(tmp_path: Path) -> None:
    talks = [talk(f"r{i}", ["Say it."]) for i in range(100)]
    source = DataSource(instructions=write(tmp_path / "set", [talks]), share=0.3)
    assert mine_dataset([source], min_share=0.5).turns == Mixture([source]).row_counts()[0][0] < 60
