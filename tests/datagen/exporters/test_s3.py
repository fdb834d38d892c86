"""Curate and export on an S3 store: the same as on local files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster import storage
from datagen.exporters import cli
from tests.cluster import s3_servers
from tests.cluster.conftest import enter
from tests.datagen.curate.conftest import publish
from tests.datagen.curate.test_passes import config_for, curate, planted, rows_of


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with s3_servers.moto() as server:
        yield enter(server, "export", monkeypatch)


def test_on_s3(bucket: str, tmp_path: Path) -> None:
    pictures, rows = planted()
    found = {}
    for place in (bucket, str(tmp_path)):
        uri = publish(place, "mix", [pictures], [rows])
        clean = curate(config_for(uri, near_duplicate=0.8, image_duplicate=4))
        for layout in ("llava", "huggingface", "webdataset"):
            assert cli.main([layout, clean, "--out", storage.join(place, layout)]) == 0
        exported = {
            name.removeprefix(place): storage.read_bytes(name)
            for layout in ("llava", "huggingface", "webdataset")
            for name in storage.list_prefix(storage.join(place, layout))
            if not name.endswith((".md", "plan.json", "summary.json"))
        }
        found[place] = (rows_of(clean), exported)
    assert found[bucket] == found[str(tmp_path)]
    assert any(name.startswith("/llava/images/train/00000/a.") for name in found[bucket][1])
