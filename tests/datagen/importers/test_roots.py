"""Nothing outside the root is read, whatever a row says; trouble of the store is not blamed on rows."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datagen.importers.rejects import BadRow
from datagen.importers.roots import Root, clean_name, iter_files

OUTSIDE = [
    "../secret.jpg", "a/../../secret.jpg", "a/..", "..", "/etc/passwd", "//etc/passwd", "\\\\host\\share\\x.jpg",
    "C:\\x.jpg", "c:/x.jpg", "..\\secret.jpg", "file:///etc/passwd", "file:/etc/passwd", "http://127.0.0.1/x.jpg",
    "HTTPS://x/y.jpg", "s3://bucket/x.jpg", "data:image/png;base64,AAAA", "gs://b/x", "ftp://h/x",
]  # fmt: skip


@pytest.mark.parametrize("name", OUTSIDE)
def test_names_that_lead_outside(name: str, tmp_path: Path) -> None:
    (tmp_path / "root" / "a").mkdir(parents=True)
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    with pytest.raises(BadRow) as error:
        Root(str(tmp_path / "root")).read(name)
    assert error.value.reason == "outside_root"


@pytest.mark.parametrize("name", ["", " ", ".", "./", None, 7, ["a.jpg"], {"a": 1}, "a\0b", "a\nb"])
def test_names_that_are_none(name: object) -> None:
    with pytest.raises(BadRow) as error:
        clean_name(name)
    assert error.value.reason == "malformed"


@given(st.text())
def test_clean_names_stay_below_and_are_stable(name: str) -> None:
    try:
        clean = clean_name(name)
    except BadRow:
        return
    assert clean_name(clean) == clean
    assert os.path.normpath(os.path.join("/root", clean)).startswith("/root/")


def test_links(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "x.jpg").write_bytes(b"secret")
    (root / "real.jpg").write_bytes(b"data")
    os.symlink(tmp_path / "outside" / "x.jpg", root / "file.jpg")
    os.symlink(tmp_path / "outside", root / "folder")
    os.symlink(root / "real.jpg", root / "inside.jpg")
    os.symlink(root / "loop.jpg", root / "loop.jpg")
    for name in ("file.jpg", "folder/x.jpg"):
        with pytest.raises(BadRow) as error:
            Root(str(root)).read(name)
        assert error.value.reason == "outside_root"
    assert Root(str(root)).read("inside.jpg") == b"data"
    with pytest.raises(BadRow):
        Root(str(root)).read("loop.jpg")
    # A root that is itself a link is what the user gave.
    os.symlink(root, tmp_path / "linked-root")
    assert Root(str(tmp_path / "linked-root")).read("real.jpg") == b"data"
    assert {name for name, _ in iter_files(str(root))} == {
        "real.jpg",
        "file.jpg",
        "inside.jpg",
        "loop.jpg",
        "folder",
    }


def test_what_is_no_plain_file(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "large.jpg").write_bytes(b"x" * 100)
    for name, reason in (
        ("folder", "not_a_file"), ("pipe.jpg", "not_a_file"), ("gone.jpg", "missing_file"),
        ("large.jpg/x.jpg", "missing_file"), ("x" * 300, "unreadable"), ("large.jpg", "too_many_bytes"),
    ):  # fmt: skip
        with pytest.raises(BadRow) as error:
            Root(str(tmp_path)).read(name, limit=99)
        assert error.value.reason == reason, name
