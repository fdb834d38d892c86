"""The page: books that add up, families of rows, samples that leave no state out, and texts that stay texts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.datasets import commit_shard, freeze, plan_dataset, read_manifest
from cluster.errors import UserError
from datagen import gallery
from datagen.corpus import CorpusRow
from datagen.corpus import to_table as to_corpus
from datagen.gallery import facts, sample
from datagen.gallery.lineage import entries
from datagen.gallery.look import worth_a_look
from datagen.gallery.page import build
from datagen.gallery.sample import Choice
from datagen.gallery.visible import _HIDDEN, label, visible, word_diff
from datagen.importers import rejects
from datagen.records import GateResult, Record, Turn, Verdict, to_table
from tests.datagen.conftest import row
from tests.datagen.every_state import every_state, record, write_rows

HOSTILE = '<script>alert(1)</script> & "quotes" {{ 7 * 7 }}'


def said(name: str, state: str = "accepted", reason: str = "", **more: object) -> Record:
    """A row whose answer is an attack."""
    turns = (Turn(role="user", text=f"{name}?"), Turn(role="assistant", text=HOSTILE))
    return record(name, state, reason, **{"conversation": turns, **more})


@pytest.fixture
def instructions(tmp_path: Path, write_corpus: Callable[[list[list[CorpusRow]]], str]) -> str:
    """One shard with a family of rows and a damaged image."""
    corpus = write_corpus([[row(0), row(1, b"damaged")]])
    uri = str(tmp_path / "instructions")
    plan_dataset(uri, kind="instructions", name="demo", shards=1, config={}, parents=[corpus])
    rewritten = (GateResult(name="original_answer", passed=True, detail="One sees a ball."),)
    rows = [
        said("root", verdict=Verdict(result="yes", evidence="It is."), gates=rewritten),
        said("harder", round=1, parents=("root",)),
        said("asked", parents=("harder",), round=1, format="bool"),
    ]
    rejects = [
        said("no", "rejected", "unverified", verdict=Verdict(result="no", evidence="It is not.")),
        said("pick", "rejected", "options:choice", parents=("root",), kind="choice"),
        said(
            "lost", "failed", "image", image_ids=("img-0001",), conversation=(Turn(role="draft", text="x"),)
        ),
    ]
    counts = {"accepted": 3, "rejected:unverified": 1, "rejected:options:choice": 1, "failed:image": 1}
    commit_shard(uri, 0, {"rows": to_table(rows), "rejects": to_table(rejects)}, counts=counts, inputs=6)
    freeze(uri)
    return uri


def test_page(instructions: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "page.html"
    assert gallery.main([instructions, "--out", str(out)]) == 0
    html = out.read_text()
    assert html.count("<script>") == 1 and "&lt;script&gt;" in html and "{{ 7" in html
    assert not re.search(r"(?:src|href)=\"(?!data:|#)", html), "no outside resources"
    assert html.count("data:image/png;base64,") == 1 and "no picture" in html
    assert "<del>One sees a ball.</del>" in html and "<ins>" in html
    assert "made harder, round 1" in html and "as yes or no" in html and "as a choice" in html
    assert html.index("root?") < html.index("harder?") < html.index("asked?"), "families stay together"
    assert "fewer than three different wrong options" in html and "the verifier said no" in html


def test_books_add_up(instructions: str) -> None:
    slices = gallery.books(read_manifest(instructions))
    assert sum(s.rows for s in slices) == 6
    assert sum(s.share for s in slices) == pytest.approx(100)
    assert slices[0].key == "accepted" and slices[-1].left + slices[-1].share == pytest.approx(100)


def test_every_state_has_words() -> None:
    for key in ("rejected:parse:synthesize", "rejected:gate:meta_talk", "truncated:verify", "failed:respond"):
        assert gallery.in_words(key) != key
    assert gallery.in_words("rejected:something new") == "rejected:something new"


def test_section_for_other_pages(instructions: str, tmp_path: Path) -> None:
    html = gallery.section(instructions, images=1)
    assert "<html" not in html and all(name.startswith("g-") for name in re.findall(r'class="([\w-]+)', html))
    assert ".g-bar" in gallery.CSS
    with pytest.raises(UserError, match="not a published dataset"):
        gallery.section(str(tmp_path / "nowhere"))
    assert gallery.main([str(tmp_path / "nowhere")]) == 2


class Text(HTMLParser):
    """The text of some HTML, and the tags in it."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.text, self.tags = "", set[str]()

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)


def read(html: str) -> Text:
    parser = Text()
    parser.feed(html)
    parser.close()
    return parser


anything = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("<>&\"'\u202e\u2028\x00\n {%"))


@given(anything)
def test_text_is_shown_as_it_is(text: str) -> None:
    shown = read(str(visible(text)))
    assert shown.tags <= {"span"}
    plain = text.replace("\r\n", "\n")
    expected = re.sub(_HIDDEN, lambda m: f"U+{ord(m[0]):04X}", plain)
    assert shown.text == expected


@given(anything, st.integers(0, 20))
def test_long_text_is_cut_and_says_so(text: str, limit: int) -> None:
    shown = read(str(visible(text, limit))).text
    assert ("characters in all" in shown) == (len(text) > limit)
    assert len(label(text * 50)) <= 121 and not _HIDDEN.search(label(text))


words = st.lists(st.sampled_from(["red", "ball", "a", " ", "\n", ",", "球", "é"])).map("".join)


@given(words, words)
def test_a_diff_holds_both_texts(before: str, after: str) -> None:
    pieces = word_diff(before, after)
    assert "".join(p.text for p in pieces if p.how != "new") == before
    assert "".join(p.text for p in pieces if p.how != "old") == after
    assert all(p.text for p in pieces)
    if before == after:
        assert {p.how for p in pieces} <= {"same"}


def test_very_long_answers_are_not_compared_word_by_word() -> None:
    assert [p.how for p in word_diff("a " * 5000, "b " * 5000)] == ["old", "new"]


def many_shards(tmp_path: Path, shards: int) -> str:
    """A shard holds ten rows of one image; three states and one kind are in one shard each."""
    rows = [
        [record(f"{k}-{i}", image_ids=(f"img-{k}",), kind=f"kind-{k % 5}") for i in range(10)]
        for k in range(shards)
    ]
    for k, (state, reason) in enumerate(RARE):
        rows[(k * 37 + 11) % shards][3] = record(f"rare-{k}", state, reason, image_ids=(f"rare-{k}",))
    return write_rows(str(tmp_path / "many"), None, rows)


RARE = (("rejected", "unverified"), ("truncated", "verify"), ("failed", "image"))


def test_every_state_and_kind_is_on_the_page(tmp_path: Path) -> None:
    uri = many_shards(tmp_path, 40)
    page = build([uri], Choice(images=8, seed=3))
    for k in range(3):
        assert f'data-id="rare-{k}"' in page.html
    assert all(f"kind-{k}&" in page.html for k in range(5))
    assert page.html == build([uri], Choice(images=8, seed=3)).html, "the same seed, the same page"
    assert page.html != build([uri], Choice(images=8, seed=4)).html
    few = build([uri], Choice(images=1))
    assert "not on this page" in " ".join(few.notes)


def test_few_shards_are_read(tmp_path: Path) -> None:
    uri = many_shards(tmp_path, 200)
    manifest = read_manifest(uri)
    looked_at = facts.shards_to_look_at(manifest, 0)
    assert len(looked_at) == facts.MAX_SHARDS
    for k, shard in enumerate(manifest.shards):
        if k not in looked_at:
            for part in shard.parts.values():
                Path(uri, part.path).unlink()
    page = build([uri], Choice(images=24))
    assert all(f'data-id="rare-{k}"' in page.html for k in range(3))
    assert "64 of 200 shards" in " ".join(page.notes)
    with pytest.raises(UserError, match=r"no such object|not readable"):
        build([uri], Choice(images=None))


def test_asking_for_a_state_and_a_kind(tmp_path: Path) -> None:
    uri = write_rows(str(tmp_path / "rows"), None, [every_state()])
    page = build([uri], Choice(images=24, state="rejected:parse"))
    ids = re.findall(r'data-id="([^"]+)"', page.html)
    assert {"unread", "unclear", "same"} == set(ids), "their image with all its rows, and no other"
    assert 'data-start="reason=rejected%3Aparse"' in page.html
    ids = re.findall(r'data-id="([^"]+)"', build([uri], Choice(images=24, kind="text")).html)
    assert set(ids) == {"text", "text-child", "circle-a", "circle-b"}
    for choice, message in (
        (Choice(images=9, state="rejectd"), "did you mean 'rejected"),
        (Choice(images=9, kind="nothing"), "no row of kind nothing; kinds are choice, color"),
        (Choice(images=9, kind="text", state="failed"), "no row of kind text and state failed"),
    ):
        with pytest.raises(UserError, match=re.escape(message)):
            build([uri], choice)


def test_the_page_keeps_its_size(tmp_path: Path) -> None:
    long = (Turn(role="user", text="x" * 9000),)
    rows = [record(f"r{i}", image_ids=(f"i{i}",), conversation=long) for i in range(200)]
    uri = write_rows(str(tmp_path / "long"), None, [rows])
    page = build([uri], Choice(images=None), max_bytes=500_000)
    assert 400_000 < len(page.html.encode()) < 600_000
    assert re.search(r"\d+ more would make the page larger than 0 MB", page.notes[0])


def test_an_image_with_hundreds_of_rows_is_cut(tmp_path: Path) -> None:
    rows = [record(f"r{i}") for i in range(300)] + [record("last", "failed", "engine")]
    uri = write_rows(str(tmp_path / "crowd"), None, [rows])
    html = build([uri], Choice(images=None, state="failed")).html
    assert 'data-id="last"' in html and len(re.findall("data-id=", html)) == sample.MAX_ROWS
    assert "253 more rows about this image" in html


def test_facts_are_those_of_the_records(tmp_path: Path) -> None:
    rows = every_state()
    uri = write_rows(str(tmp_path / "rows"), None, [rows[:9], rows[9:]])
    found = facts.facts_of(uri, read_manifest(uri), [0, 1])
    assert found.kinds() == Counter((r.kind, r.state) for r in rows)
    assert found.formats == Counter((r.format, r.state) for r in rows)
    assert found.verdicts == Counter(r.verdict.result for r in rows if r.verdict)
    assert found.rewrites == Counter(r.rewrite for r in rows if r.rewrite)
    assert found.gates == {"length": (3, 0), "preserve": (1, 1), "meta_talk": (1, 1)}
    assert found.places == {"B": 1} and found.pictures["text only"] == 4
    vc = [v for r in rows for n, v in r.scores if n == "vc" and v == v]
    assert found.scores["vc"].low == min(vc) and found.scores["vc"].rows == len(vc)
    assert found.cells[0].total() == 9


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=12))
def test_every_row_of_any_family_is_shown_once(links: list[tuple[int, int]]) -> None:
    parents: dict[int, list[str]] = {}
    for child, parent in links:
        parents.setdefault(child, []).append(str(parent))
    rows = [record(str(i), parents=tuple(parents.get(i, ()))) for i in range(10)]
    shown = [e.record.id for e in entries(rows)]
    assert sorted(shown) == sorted(r.id for r in rows)


def test_a_set_that_lost_its_corpus_shows_its_texts(
    tmp_path: Path, write_corpus: Callable[[list[list[CorpusRow]]], str]
) -> None:
    corpus = write_corpus([[row(0)]])
    uri = write_rows(str(tmp_path / "rows"), corpus, [[record("a"), record("b", image_ids=("img-9999",))]])
    assert "not in the corpus" in build([uri], Choice(images=None)).html
    Path(corpus).rename(tmp_path / "moved")
    page = build([uri], Choice(images=None))
    assert any("pictures are missing" in note for note in page.notes) and "It is a." in page.html
    moved = str(tmp_path / "moved")
    assert "data:image/png" in build([uri], Choice(images=None), corpus=moved).html
    with pytest.raises(UserError, match="not a published dataset"):
        build([uri], Choice(images=None), corpus=str(tmp_path / "wrong"))
    with pytest.raises(UserError, match="kind instructions"):
        build([uri], Choice(images=None), corpus=uri)


def test_a_corpus_and_its_rejects(tmp_path: Path) -> None:
    uri = str(tmp_path / "corpus")
    plan_dataset(uri, kind="corpus", name="c", shards=1, config={})
    refused = rejects.to_table(
        [rejects.CorpusReject(image_id="lost", reason="missing_file", detail="<b>no a.jpg</b>", where="x:3")]
    )
    tables = {"rows": to_corpus([row(0), row(1)]), "rejects": refused}
    commit_shard(uri, 0, tables, counts={"accepted": 2, "rejected:missing_file": 1}, inputs=3)
    freeze(uri)
    page = build([uri], Choice(images=9))
    assert 'data-id="lost"' in page.html and "&lt;b&gt;no a.jpg" in page.html and "x:3" in page.html
    assert "the picture is not under the root" in page.html and page.notes == ["3 of 3 images"]
    only = build([uri], Choice(images=9, state="rejected"))
    assert re.findall(r'data-id="([^"]+)"', only.html) == ["lost"]
    with pytest.raises(UserError, match="images have no kind"):
        build([uri], Choice(images=9, kind="x"))


def test_findings_worth_a_look(tmp_path: Path) -> None:
    yes = Verdict(result="yes")
    picks = [
        record(f"p{i}", kind="choice", format="choice", options=("a", "b"), answer_index=0, verdict=yes)
        for i in range(40)
    ]
    bad = [record(f"b{i}", "failed", "engine", kind="hard") for i in range(40)]
    uri = write_rows(str(tmp_path / "odd"), None, [picks + bad])
    manifest = read_manifest(uri)
    found = [look.text for look in worth_a_look(manifest, facts.facts_of(uri, manifest, [0]))]
    assert found == [
        "50.0 % (40 of 80) of the rows failed for technical reasons",
        "the verifier passes almost everything (100.0 % (40 of 40) yes)",
        "only 0.0 % (0 of 40) of the kind hard were accepted",
        "the right option is A in 100.0 % (40 of 40) of the choices",
    ]


def test_command_line(instructions: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "p.html")
    assert gallery.main([instructions, "--out", out, "--all", "--state", "failed"]) == 0
    assert "1 of 6 rows" in capsys.readouterr().out
    for arguments in (["--images", "0"], ["--max-mb", "0"], ["--state", "nowhere"], ["--kind", "nothing"]):
        assert gallery.main([instructions, "--out", out, *arguments]) == 2
        assert capsys.readouterr().err.startswith("error: ")
    with pytest.raises(SystemExit):
        gallery.main(["--help"])
    assert "examples:" in capsys.readouterr().out
