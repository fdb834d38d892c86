"""Whatever a source holds: every importer ends with rows and rejects, or with a message; never with another exception.

The scan and the workers' functions run in this process, on files made of junk in the places where real files have
structure.
"""

from __future__ import annotations

import io
import json
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from cluster.errors import UserError
from datagen import corpus, records
from datagen.importers import rejects
from datagen.importers.flickr30k import read_annotations, read_boxes
from datagen.importers.importer import NAMES, importer_of
from datagen.importers.options import ImportOptions
from datagen.importers.pictures import corpus_row
from datagen.importers.rejects import REASONS, BadRow, CorpusReject
from datagen.importers.work import WorkLists, read_work, write_context

FEW = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-5, 50)
    | st.sampled_from([10**30, -(10**400), 1e308, float("nan"), float("inf")])
    | st.text(max_size=4)
    | st.sampled_from(["0.jpg", "../x.jpg", "gone.jpg", "<image>\nQ?", "\ud800", "human", "gpt", "1"])
)
JUNK = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=6,
)
BOX = st.lists(st.integers(-9, 50) | SCALARS, min_size=3, max_size=5) | JUNK
TURNS = st.lists(
    st.fixed_dictionaries({"from": st.sampled_from(["human", "gpt"]) | JUNK, "value": JUNK}) | JUNK,
    max_size=4,
)


def rows_of(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    """Rows that have some of the fields, and some that are no rows."""
    return st.lists(st.fixed_dictionaries({}, optional=fields) | JUNK, max_size=6)


OBJECTS = st.lists(
    st.fixed_dictionaries({}, optional={"name": JUNK, "bbox": BOX, "attributes": JUNK}) | JUNK, max_size=3
)
LLAVA = rows_of(id=JUNK, image=st.just("0.jpg") | JUNK, conversations=TURNS | JUNK)
FOLDER = rows_of(
    file_name=st.just("0.jpg") | JUNK,
    text=JUNK,
    objects=OBJECTS | JUNK,
    regions=OBJECTS | JUNK,
    ocr=JUNK,
    messages=TURNS,
)
IDS = st.sampled_from([1, 1, 2, "1"]) | JUNK
COCO = st.fixed_dictionaries(
    {},
    optional={
        "images": rows_of(id=IDS, file_name=st.just("0.jpg") | JUNK, width=JUNK, height=JUNK) | JUNK,
        "annotations": rows_of(image_id=IDS, caption=JUNK, category_id=IDS, bbox=BOX, iscrowd=JUNK) | JUNK,
        "categories": rows_of(id=IDS, name=JUNK) | JUNK,
        "info": JUNK,
    },
)
PLACED = {"x": SCALARS, "y": SCALARS, "w": SCALARS, "h": SCALARS, "width": SCALARS, "height": SCALARS}
VG = st.fixed_dictionaries(
    {
        "objects": rows_of(image_id=IDS, objects=rows_of(object_id=IDS, names=JUNK, **PLACED)),
        "region_descriptions": rows_of(id=IDS, regions=rows_of(phrase=JUNK, **PLACED)),
        "relationships": rows_of(
            image_id=IDS,
            relationships=rows_of(predicate=JUNK, subject=st.just({"object_id": 1}) | JUNK, object=JUNK),
        ),
        "attributes": rows_of(image_id=IDS, attributes=rows_of(object_id=IDS, attributes=JUNK)),
        "image_data": rows_of(image_id=IDS, width=JUNK, height=JUNK, coco_id=JUNK),
    }
)


def a_picture() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30)).save(buffer, "JPEG")
    return buffer.getvalue()


PICTURE = a_picture()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("root")
    for name in ("0.jpg", "1.jpg", "2.jpg"):
        (folder / name).write_bytes(PICTURE)
    return folder


def import_all(importer: str, sources: list[Path], images: Path | None) -> int:
    """What `datagen.importers.job` does, without Ray; returns the rows and rejects."""
    with tempfile.TemporaryDirectory() as folder:
        options = ImportOptions(
            importer=importer, sources=tuple(map(str, sources)), images=str(images) if images else None,
            out=folder, name="x", shard_images=2,
        )  # fmt: skip
        code = importer_of(importer)
        try:
            lists = WorkLists(options.corpus, options.shard_images)
            (Path(folder) / "sort").mkdir()
            context = code.scan(options, lists, Path(folder) / "sort", lambda rows: None)
        except UserError as error:
            assert str(error)
            return 0
        write_context(options.corpus, context)
        total = 0
        for k in range(context.shards):
            rows, refused, verdicts = [], [], {}
            for found in code.pictures(options, context, read_work(options.corpus, k)):
                try:
                    if isinstance(found, CorpusReject):
                        raise BadRow(found.reason, found.detail)
                    rows.append(corpus_row(found, found.read(), "x", options.max_pixels))
                    verdicts[found.image_id] = ""
                except BadRow as error:
                    assert error.reason in REASONS
                    verdicts.setdefault(found.image_id, error.reason)
                    refused.append(
                        CorpusReject(
                            image_id=found.image_id, reason=error.reason, detail=str(error), where=found.where
                        )
                    )
            made = list(code.records(options, context, read_work(options.corpus, k), verdicts))
            corpus.to_table(rows)
            rejects.to_table(refused)
            records.to_table(made)
            total += len(rows) + len(refused) + len(made)
        return total


def dumped(folder: str, name: str, value: Any) -> Path:
    path = Path(folder) / name
    path.write_text(json.dumps(value))
    return path


@FEW
@given(rows=LLAVA)
def test_llava(rows: list[Any], root: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        import_all("llava", [dumped(folder, "x.json", rows)], root)


@FEW
@given(rows=FOLDER)
def test_folder(rows: list[Any], root: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "x.jsonl"
        file.write_text("\n".join(map(json.dumps, rows)))
        import_all("folder", [file], root)


@FEW
@given(tables=COCO)
def test_coco(tables: dict[str, Any], root: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        import_all("coco", [dumped(folder, "x.json", tables)], root)


@FEW
@given(tables=VG)
def test_visual_genome(tables: dict[str, Any], root: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name, rows in tables.items():
            dumped(folder, f"{name}.json", rows)
        import_all("visual-genome", [Path(folder)], root)


@FEW
@given(
    images=st.lists(st.none() | st.sampled_from([PICTURE, PICTURE[:99], b"", b"x"]), min_size=1, max_size=5),
    texts=st.lists(st.none() | st.text(max_size=5), min_size=5, max_size=5),
    turns=st.lists(
        st.none() | st.lists(st.sampled_from(["human", "gpt", "x"]), max_size=3), min_size=5, max_size=5
    ),
)
def test_huggingface(images: list[Any], texts: list[Any], turns: list[Any]) -> None:
    said = [None if t is None else [{"from": name, "value": "<image> a"} for name in t] for t in turns]
    with tempfile.TemporaryDirectory() as folder:
        table = pa.table(
            {"image": pa.array([{"bytes": i, "path": None} for i in images]),
             "text": pa.array(texts[: len(images)], pa.string()),
             "conversations": pa.array(
                 said[: len(images)], pa.list_(pa.struct([("from", pa.string()), ("value", pa.string())])))}
        )  # fmt: skip
        pq.write_table(table, Path(folder) / "x.parquet", row_group_size=3)
        assert import_all("huggingface", [Path(folder)], None) == 2 * len(images), (
            "a picture and a talk for each row"
        )


@FEW
@given(
    data=st.binary(max_size=700),
    flips=st.lists(st.tuples(st.integers(0, 9000), st.integers(0, 255)), max_size=4),
)
def test_webdataset(data: bytes, flips: list[tuple[int, int]]) -> None:
    import tarfile

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in (("a.jpg", PICTURE), ("a.json", data), ("b.jpg", data), ("b.txt", data)):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    damaged = bytearray(buffer.getvalue())
    for place, value in flips:
        damaged[place % len(damaged)] = value
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "x.tar").write_bytes(damaged)
        (Path(folder) / "y.tar").write_bytes(data)
        (Path(folder) / "z.tar.gz").write_bytes(data)
        import_all("webdataset", [Path(folder)], None)


@settings(max_examples=150, deadline=None)
@given(importer=st.sampled_from(NAMES), data=st.binary(max_size=300))
def test_any_bytes(importer: str, data: bytes, root: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "Sentences").mkdir()
        (place / "Annotations").mkdir()
        for name in ("objects.json", "x.tar", "x.parquet", "Sentences/0.txt", "Annotations/0.xml"):
            (place / name).write_bytes(data)
        source = {"flickr30k": place, "webdataset": place / "x.tar", "huggingface": place / "x.parquet"}
        import_all(importer, [source.get(importer, place / "objects.json")], root)


@settings(max_examples=300, deadline=None)
@given(
    sentence=st.lists(
        st.sampled_from(["[/EN#1/people ", "]", "/", " ", "two", "[", "#", "\n", "]]"]), max_size=12
    ).map("".join)
)
def test_sentences(sentence: str) -> None:
    try:
        notes = read_annotations(sentence, {"1": [(1.0, 2.0, 3.0, 4.0)]}, None)
    except BadRow as error:
        assert error.reason == "malformed"
    else:
        assert all("[/EN#" not in caption for caption in notes.captions)


@pytest.mark.parametrize(
    "xml",
    [
        b"", b"<annotation>", b"<!DOCTYPE a [<!ENTITY b 'c'>]><annotation>&b;</annotation>", b"\xff\xfe\x00",
        b"<a><object><name>1</name><bndbox><xmin>x</xmin></bndbox></object></a>",
        b"<a><object><name>1</name><bndbox><xmin>nan</xmin><ymin>1</ymin><xmax>2</xmax><ymax>3</ymax></bndbox></object></a>",
        b'<?xml version="1.0" encoding="no-such-code"?><a/>',
    ],
)  # fmt: skip
def test_xml_that_is_refused(xml: bytes) -> None:
    with pytest.raises(BadRow) as error:
        read_boxes(xml)
    assert error.value.reason == "malformed"
