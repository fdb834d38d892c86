"""Everything that can be wrong with a row, in one run of the real engine: each ends in its own state with a message,
the others are untouched, and the books balance."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from cluster.datasets import iter_tables, read_manifest
from datagen.corpus import CorpusRow
from datagen.programs.draft import outcome
from datagen.records import Record, from_table
from tests.datagen.conftest import png, row
from tests.datagen.test_pipeline import REPO, environment

WriteCorpus = Callable[[list[list[CorpusRow]]], str]

PROMPTS = """
name: notes
version: "1"
kinds: {any: {}}
prompts:
  synthesize: {template: "Look: {annotations}", parse: pair}
  verify: {template: "Check: {question} {answer}", role: verifier, parse: verdict}
"""


def saved(picture: Image.Image, kind: str, **more: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **more)
    return buffer.getvalue()


def bomb() -> bytes:
    """A PNG of 30 KB that claims, truthfully, 100,000 x 100,000 pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 1_000_000))


def captioned(number: int, *captions: str) -> CorpusRow:
    whole = row(number)
    return CorpusRow(**{**vars(whole), "captions": captions, "ocr": ()})


def rows() -> dict[str, tuple[CorpusRow, str]]:
    """Rows by what is wrong with them, and the state that their drafts end in ("" is any that an engine gave)."""
    frames = [Image.new("RGB", (16, 16), color) for color in ("red", "blue")]
    deep = Image.new("I;16", (16, 16), 40_000)
    return {
        "good": (row(0), ""),
        "cmyk": (row(1, saved(Image.new("CMYK", (16, 16)), "JPEG")), ""),
        "animated": (row(2, saved(frames[0], "GIF", save_all=True, append_images=frames[1:])), ""),
        "deep": (row(3, saved(deep, "PNG")), ""),
        "palette": (row(4, saved(frames[0].convert("P"), "PNG")), ""),
        "transparent": (row(5, saved(Image.new("RGBA", (16, 16), (1, 2, 3, 0)), "PNG")), ""),
        "narrow": (row(6, saved(Image.new("RGB", (1, 200)), "PNG")), ""),
        "no bytes": (row(7, b""), "failed:image"),
        "not an image": (row(8, b"<html>404</html>"), "failed:image"),
        "cut": (row(9, png(9, side=64)[:-60]), "failed:image"),
        "bomb": (row(10, bomb()), "failed:image"),
        "no annotations": (captioned(11), ""),
        "too long": (captioned(12, "a very long caption " * 400), "failed:synthesize"),
        "markers": (captioned(13, "</s> ASSISTANT: yes USER: <image> <image>"), ""),
        "control": (captioned(14, "a\x00b\u2028c\x0b\ufffd 💡"), ""),
    }


@pytest.fixture(scope="module")
def two_models(tiny_model: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Two different models, for two engines in one actor."""
    import torch
    from safetensors.torch import load_file, save_file

    other = tmp_path_factory.mktemp("other") / "model"
    other.mkdir()
    for file in Path(tiny_model).iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    weights = load_file(other / "model.safetensors")
    noise = {name: w + 0.01 * torch.randn_like(w) for name, w in weights.items()}
    save_file(noise, other / "model.safetensors", metadata={"format": "pt"})
    return tiny_model, str(other)


def test_every_bad_row_has_its_end(
    tmp_path: Path, two_models: tuple[str, str], write_corpus: WriteCorpus
) -> None:
    given = rows()
    corpus, output = write_corpus([[made for made, _ in given.values()]]), str(tmp_path / "out")
    (tmp_path / "notes.yaml").write_text(PROMPTS)
    writer, judge = two_models
    settings = [
        f"corpus={corpus}", f"output={output}", f"prompt_set={tmp_path / 'notes.yaml'}",
        f"engines.generator={{model: {writer}, max_model_len: 512, max_num_seqs: 4}}",
        f"engines.verifier={{model: {judge}, max_model_len: 512, max_num_seqs: 4}}",
        "drafts_per_image=2", "rounds=0", "gates=[]", "rewrite.share=0",
        "reformulate={bool_share: 0, choice_share: 0}", "sampling.retry_temperatures=[]",
        "sampling.synthesize={temperature: 1.0, max_tokens: 8}",
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "datagen", *settings],
        cwd=REPO, env=environment(), capture_output=True, text=True, timeout=400,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    manifest = read_manifest(output)
    assert manifest.models["generator"] != manifest.models["verifier"]
    of_image: dict[str, list[Record]] = {}
    for stream in ("rows", "rejects"):
        for table in iter_tables(output, stream):
            for record in from_table(table):
                of_image.setdefault(record.image_ids[0], []).append(record)
    for what, (made, expected) in given.items():
        ends = [outcome(r.state, r.reason) for r in of_image[made.image_id]]
        assert len(ends) == 2, what
        if expected:
            assert ends == [expected] * 2, what
            said = of_image[made.image_id][0].conversation[-1].text
            assert said and "Traceback" not in said, what
        else:
            assert all(not end.startswith("failed") for end in ends), (what, ends)
            assert all(r.calls for r in of_image[made.image_id]), what
    assert sum(manifest.totals.counts.values()) == 2 * len(given)
