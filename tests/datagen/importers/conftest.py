"""A small file set of every import format, with what goes wrong in real ones; and one Ray for all tests here."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from cluster.runtime import init_ray


def picture(seed: int, kind: str = "JPEG", size: tuple[int, int] = (40, 30)) -> bytes:
    """A one-coloured picture."""
    buffer = io.BytesIO()
    colour = ((seed * 53) % 256, (seed * 97) % 256, (seed * 31) % 256)
    Image.new("RGB", size, colour).save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def ray() -> Iterator[None]:
    """A local Ray with two slots; imports join it."""
    with init_ray(num_cpus=2):
        yield


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """``photos/a/0.jpg`` … ``9.jpg``, and one of each kind of damage."""
    root = tmp_path / "photos"
    (root / "a").mkdir(parents=True)
    for number in range(10):
        (root / "a" / f"{number}.jpg").write_bytes(picture(number))
    (root / "a" / "empty.jpg").write_bytes(b"")
    (root / "a" / "cut.jpg").write_bytes(picture(1, size=(400, 300))[:-600])
    (root / "a" / "text.jpg").write_bytes(b"<html>not found</html>")
    (tmp_path / "secret.jpg").write_bytes(picture(99))
    os.symlink(tmp_path / "secret.jpg", root / "a" / "link.jpg")
    return root


def talk(question: str, answer: str, **row: Any) -> dict[str, Any]:
    """A LLaVA row of one exchange."""
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return {"conversations": turns, **row}


@pytest.fixture
def llava(tmp_path: Path, photos: Path) -> Path:
    """mix-665k-shaped rows, good and bad."""
    rows: list[Any] = [
        talk("<image>\nWhat is it?\nAnswer the question using a single word or phrase.", "Paint", id="1",
             image="a/0.jpg"),
        talk("Describe it.\n<image>", "A plain colour.", id="2", image="a/0.jpg"),
        talk("<image>\nWhich?\nA. red\nB. blue\nAnswer with the option's letter from the given choices directly.",
             "B", id="3", image="./a//1.jpg"),
        talk("<image>\nIs it red?", "No, it is not.", id="4", image="a/2.jpg"),
        talk("<image>\n<image>\nWhat differs?", "The colour.", id="5", image=["a/2.jpg", "a/3.jpg"]),
        talk("Compare <image> with <image> please.", "They differ.", id="6", image=["a/3.jpg", "a/4.jpg"]),
        talk("Who wrote Faust?", "Goethe.", id="7"),
        talk("Who wrote Faust?", "Goethe.", id="7"),
        talk("<image>\nGone?", "Yes.", id="8", image="a/gone.jpg"),
        talk("<image>\nOut?", "Yes.", id="9", image="../secret.jpg"),
        talk("<image>\nFetched?", "Yes.", id="10", image="http://127.0.0.1:9/x.jpg"),
        talk("<image>\nAbsolute?", "Yes.", id="11", image="/etc/passwd"),
        talk("<image>\nLinked?", "Yes.", id="12", image="a/link.jpg"),
        talk("<image>\nEmpty?", "Yes.", id="13", image="a/empty.jpg"),
        talk("<image>\nCut?", "Yes.", id="14", image="a/cut.jpg"),
        talk("<image>\nText?", "Yes.", id="15", image="a/text.jpg"),
        {"id": "16", "image": "a/5.jpg", "conversations": [{"from": "robot", "value": "hi"}]},
        {"id": "17", "image": "a/5.jpg"},
        "not a row",
        talk("<image>\nWhat? \ud800", "Broken.", id="18", image="a/6.jpg"),
        talk("<image>\nUSER: x ASSISTANT: <image> </s> <|im_start|>system", "<image> is text here", id="19",
             image="a/7.jpg"),
    ]  # fmt: skip
    file = tmp_path / "llava_v1_5_mix.json"
    file.write_text(json.dumps(rows, indent=2))
    return file


@pytest.fixture
def coco(tmp_path: Path, photos: Path) -> tuple[Path, Path]:
    """Instances and captions of the same pictures; categories come last, as in the real files."""
    images: list[Any] = [{"id": n, "file_name": f"a/{n}.jpg", "width": 40, "height": 30} for n in range(1, 5)]
    images += [
        {"id": 4, "file_name": "a/5.jpg", "width": 40, "height": 30},
        {"id": 50, "file_name": "a/gone.jpg", "width": 1, "height": 1},
        {"id": 51, "file_name": "../secret.jpg", "width": 1, "height": 1},
        "not an image",
    ]
    boxes: list[Any] = [
        {
            "id": 1,
            "image_id": 1,
            "category_id": 18,
            "bbox": [1.4, 2.6, 10, 10],
            "iscrowd": 0,
            "segmentation": [[1]],
        },
        {"id": 2, "image_id": 1, "category_id": 1, "bbox": [30, 20, 30, 30], "iscrowd": 1},
        {"id": 3, "image_id": 2, "category_id": 1, "bbox": [90, 90, 5, 5], "iscrowd": 0},
        {"id": 4, "image_id": 2, "category_id": 77, "bbox": [0, 0, 5, 5], "iscrowd": 0},
        {"id": 5, "image_id": 999, "category_id": 1, "bbox": [0, 0, 5, 5], "iscrowd": 0},
        {"id": 6, "image_id": 3, "category_id": 1, "bbox": "wide", "iscrowd": 0},
    ]
    categories = [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}]
    instances, captions = tmp_path / "instances.json", tmp_path / "captions.json"
    instances.write_text(
        json.dumps({"info": {"year": 2017}, "images": images, "annotations": boxes, "categories": categories})
    )
    said = [{"id": n, "image_id": n, "caption": f"Picture {n}. "} for n in (1, 1, 2, 3)]
    captions.write_text(json.dumps({"images": images[:4], "annotations": said}))
    return instances, captions


@pytest.fixture
def flickr(tmp_path: Path) -> tuple[Path, Path]:
    """Two good pictures, one without XML, one whose XML has a document type."""
    source, root = tmp_path / "Entities", tmp_path / "flickr-images"
    for folder in (source / "Sentences", source / "Annotations", root):
        folder.mkdir(parents=True)
    sentences = (
        "[/EN#1/people Two people] in [/EN#2/clothing/other red hats] near [/EN#0/notvisual it] .\n"
        "[/EN#1/people A couple] waits .\n"
    )
    xml = """<annotation><filename>{0}.jpg</filename><size><width>40</width><height>30</height><depth>3</depth></size>
<object><name>1</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>11</xmax><ymax>12</ymax></bndbox></object>
<object><name>1</name><name>2</name><bndbox><xmin>5</xmin><ymin>6</ymin><xmax>15</xmax><ymax>16</ymax></bndbox></object>
<object><name>3</name><scene>1</scene><nobndbox>1</nobndbox></object></annotation>"""
    for name in ("100", "101", "102", "103"):
        (source / "Sentences" / f"{name}.txt").write_text(sentences)
        (root / f"{name}.jpg").write_bytes(picture(int(name)))
    for name in ("100", "101"):
        (source / "Annotations" / f"{name}.xml").write_text(xml.format(name))
    (source / "Annotations" / "103.xml").write_text('<!DOCTYPE x [<!ENTITY a "b">]><annotation/>')
    return source, root


@pytest.fixture
def visual_genome(tmp_path: Path) -> tuple[Path, Path]:
    """Pictures in both folders of the real set."""
    source, root = tmp_path / "vg", tmp_path / "vg-images"
    source.mkdir()
    for folder, name in (("VG_100K", 1), ("VG_100K_2", 2)):
        (root / folder).mkdir(parents=True)
        (root / folder / f"{name}.jpg").write_bytes(picture(name))
    tables: dict[str, list[Any]] = {
        "image_data": [
            {"image_id": n, "width": 40, "height": 30, "url": "http://127.0.0.1:9/x", "coco_id": None}
            for n in (1, 2, 3)
        ],
        "region_descriptions": [
            {"id": n, "regions": [{"phrase": "a dog ", "x": 1, "y": 2, "width": 10, "height": 5, "image_id": n}]}
            for n in (1, 2, 3, 4)
        ],
        "objects": [
            {
                "image_id": 1,
                "objects": [
                    {"object_id": 7, "x": 0, "y": 0, "w": 5, "h": 5, "names": ["dog"]},
                    {"object_id": 8, "x": 9, "y": 9, "w": 5, "h": 5, "names": ["ball"]},
                ],
            },
            {"image_id": "one", "objects": []},
        ],
        "attributes": [{"image_id": 1, "attributes": [{"object_id": 7, "names": ["dog"], "attributes": ["brown"]}]}],
        "relationships": [
            {
                "image_id": 1,
                "relationships": [{"predicate": "CHASES", "subject": {"object_id": 7}, "object": {"object_id": 8}}],
            }
        ],
    }  # fmt: skip
    for name, rows in tables.items():
        (source / f"{name}.json").write_text(json.dumps(rows))
    return source, root


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    """Embedded pictures with captions and conversations; the first file in two row groups."""
    folder = tmp_path / "hub"
    folder.mkdir()
    images = [{"bytes": picture(n, "PNG"), "path": f"{n}.png"} for n in range(6)]
    images[3] = {"bytes": b"", "path": None}
    images[4] = {"bytes": None, "path": "/etc/passwd"}
    turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "Paint."}]
    table = pa.table(
        {
            "id": ["a", "b", "b", "d", "e", "f"],
            "image": images,
            "caption": [[f"Picture {n}"] for n in range(6)],
            "conversations": [turns, turns, turns, turns, turns, [{"from": "gpt", "value": "x"}]],
        }
    )
    pq.write_table(table, folder / "train-00000.parquet", row_group_size=4)
    return folder


def tar_of(members: list[tuple[str, bytes]], mode: str = "w") -> bytes:
    """A tar in memory."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:  # type: ignore[call-overload]
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


@pytest.fixture
def webdataset(tmp_path: Path) -> Path:
    """A plain tar, a compressed one and one that is cut."""
    folder = tmp_path / "tars"
    folder.mkdir()
    turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "Paint."}]
    members = [
        ("000.jpg", picture(0)), ("000.txt", b"Zero."), ("000.json", json.dumps({"conversations": turns}).encode()),
        ("001.png", picture(1, "PNG")), ("001.json", b'{"captions": ["One.", "Eins."], "image": "/etc/passwd"}'),
        ("002.jpg", b""), ("002.txt", b"Two."),
        ("003.jpg", picture(3)), ("003.txt", b"\xff\xfe"),
        ("004.txt", b"No picture."),
        ("../005.jpg", picture(5)),
        ("000.jpg", picture(6)),
        ("007.jpg", picture(7)), ("007.json", b"{broken"),
    ]  # fmt: skip
    (folder / "x-0.tar").write_bytes(tar_of(members))
    more = [
        (f"{n:03}.{end}", picture(n) if end == "jpg" else b"A text.")
        for n in range(5)
        for end in ("jpg", "txt")
    ]
    (folder / "x-1.tar.gz").write_bytes(tar_of(more, "w:gz"))
    (folder / "x-2.tar").write_bytes(tar_of(more)[:4000])
    return folder


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """``l2t corpus …`` in this process; returns what it printed, asserts that it succeeded."""
    from cluster.cli import main

    def run(*argv: object) -> str:
        status = main(["corpus", *map(str, argv)])
        printed = capsys.readouterr()
        assert status == 0, printed.err
        return printed.out

    return run
