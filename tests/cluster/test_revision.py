"""A checkpoint's name follows its content and nothing else."""

import pytest

from cluster.errors import UserError
from cluster.revision import text_revision, weights_revision


def model(folder, weights=b"w", config="{}"):
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(weights)
    (folder / "config.json").write_text(config)
    return folder


def test_equal_content_equal_name_elsewhere(tmp_path):
    a, b = model(tmp_path / "a"), model(tmp_path / "b")
    assert weights_revision(a) == weights_revision(b) and text_revision(a) == text_revision(b)


def test_each_side_has_its_own_name(tmp_path):
    a, other_weights = model(tmp_path / "a"), model(tmp_path / "b", weights=b"v")
    other_text = model(tmp_path / "c", config='{"x": 1}')
    assert weights_revision(a) != weights_revision(other_weights)
    assert text_revision(a) == text_revision(other_weights) != text_revision(other_text)
    assert weights_revision(a) == weights_revision(other_text)


def test_other_weight_formats_are_refused(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(UserError, match=r"no \.safetensors"):
        weights_revision(tmp_path)
