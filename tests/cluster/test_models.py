"""What a model name means."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster import models, storage
from cluster.errors import UserError
from cluster.models import resolve_model


def test_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m").mkdir()
    with pytest.raises(UserError, match=r"holds no config\.json"):
        resolve_model(str(tmp_path / "m"))
    (tmp_path / "m/config.json").write_text("{}")
    assert resolve_model(str(tmp_path / "m")) == resolve_model(f"file://{tmp_path}/m") == str(tmp_path / "m")
    monkeypatch.setitem(models.STARTERS, "starter", tmp_path / "m")
    assert resolve_model("starter") == str(tmp_path / "m")
    assert resolve_model("llava-hf/llava-1.5-7b-hf") == "llava-hf/llava-1.5-7b-hf"
    with pytest.raises(UserError, match="no model folder"):
        resolve_model(str(tmp_path / "none"))


def test_from_object_storage(moto_place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("L2T_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=r"holds no config\.json"):
        resolve_model(moto_place)
    storage.write_bytes(storage.join(moto_place, "config.json"), b"{}")
    first = resolve_model(moto_place)
    assert (Path(first) / "config.json").read_text() == "{}" and resolve_model(moto_place) == first
    storage.write_bytes(storage.join(moto_place, "config.json"), b"{ }")
    assert resolve_model(moto_place) != first
