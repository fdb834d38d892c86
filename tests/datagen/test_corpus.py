"""Decoding: every kind of picture that data sets hold becomes sensible RGB, everything else a BadImage."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from datagen import corpus
from datagen.corpus import BadImage, decode_image, inspect_image


def encoded(picture: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def gradient(size: tuple[int, int] = (64, 48)) -> Image.Image:
    """Different in every corner, so that turns and flips show."""
    x, y = np.meshgrid(np.linspace(0, 255, size[0]), np.linspace(0, 255, size[1]))
    return Image.fromarray(np.stack([x, y, 255 - x], axis=-1).astype(np.uint8))


def mean_difference(a: Image.Image, b: Image.Image) -> float:
    assert a.size == b.size and a.mode == b.mode == "RGB"
    return float(np.abs(np.asarray(a, np.int16) - np.asarray(b, np.int16)).mean())


def test_sixteen_bit_grey_is_scaled_and_not_clipped() -> None:
    values = np.array([[0, 257, 32896, 65535]], np.uint16)
    for kind in ("PNG", "TIFF"):
        shown = np.asarray(decode_image(encoded(Image.fromarray(values), kind)))
        assert shown[0, :, 0].tolist() == [0, 1, 128, 255], kind
        assert (shown[..., 0] == shown[..., 1]).all() and (shown[..., 0] == shown[..., 2]).all()


def test_integers_and_floats_are_scaled_by_their_range() -> None:
    cases = (
        (np.array([[0, 200]], np.int32), [0, 200]),
        (np.array([[0, 65535]], np.int32), [0, 255]),
        (np.array([[-5, 1_000_000]], np.int32), [0, 255]),
        (np.array([[0.0, 0.5, 1.0]], np.float32), [0, 128, 255]),
        (np.array([[np.nan, np.inf, 100.0]], np.float32), [0, 0, 100]),
    )
    for values, expected in cases:
        shown = np.asarray(decode_image(encoded(Image.fromarray(values), "TIFF")))
        assert shown[0, :, 0].tolist() == expected


def test_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "lime")]
    for kind in ("GIF", "WEBP", "PNG"):
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], lossless=True)
        assert decode_image(data).getpixel((4, 4)) == (255, 0, 0), kind


def test_cmyk_jpeg() -> None:
    picture = gradient().convert("CMYK")
    shown = decode_image(encoded(picture, "JPEG", quality=95))
    assert mean_difference(shown, gradient()) < 6


def test_transparency_is_shown_over_white() -> None:
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    assert decode_image(encoded(clear, "PNG")).getpixel((1, 1)) == (255, 255, 255)
    half = Image.new("LA", (4, 4), (0, 128))
    assert abs(decode_image(encoded(half, "PNG")).getpixel((1, 1))[0] - 127) <= 1
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([10, 20, 30, 200, 100, 50])
    assert decode_image(encoded(palette, "PNG")).getpixel((1, 1)) == (10, 20, 30)
    assert decode_image(encoded(palette, "PNG", transparency=0)).getpixel((1, 1)) == (255, 255, 255)
    assert decode_image(encoded(Image.new("1", (4, 4), 1), "PNG")).getpixel((1, 1)) == (255, 255, 255)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation_as_pillow_applies_it(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(gradient(), kind, exif=exif, **({"quality": 95} if kind in ("JPEG", "WEBP") else {}))
    with Image.open(io.BytesIO(data)) as stored:
        expected = ImageOps.exif_transpose(stored).convert("RGB")
    shown = decode_image(data)
    assert mean_difference(shown, expected) == 0
    facts = inspect_image(data)
    assert (facts.width, facts.height) == shown.size
    if kind != "TIFF":  # Pillow turns TIFFs while loading and forgets the tag
        assert facts.orientation == orientation and (facts.stored_width, facts.stored_height) == (64, 48)


def test_broken_exif_is_no_reason_to_refuse() -> None:
    data = encoded(gradient(), "JPEG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff garbage")
    assert decode_image(data).size == (64, 48)


def reason_of(data: bytes, **options: int) -> str:
    with pytest.raises(BadImage) as decoded:
        decode_image(data, **options)
    with pytest.raises(BadImage) as inspected:
        inspect_image(data, **options)
    assert decoded.value.reason == inspected.value.reason
    assert str(decoded.value)
    return decoded.value.reason


def test_reasons() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (80, 80, 3), np.uint8))
    assert reason_of(b"") == "empty"
    assert reason_of(b"<html>") == "corrupt"
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP"):
        data = encoded(noise, kind)
        assert reason_of(data[: len(data) // 2]) == "truncated", kind
    assert reason_of(encoded(noise, "PNG"), max_pixels=80 * 80 - 1) == "too_many_pixels"
    assert reason_of(encoded(noise, "ICO")) == "corrupt", "a format that is not on the list"


@pytest.mark.parametrize("side", [10_000, 20_000])
def test_decompression_bombs_are_refused_by_their_header(side: int) -> None:
    """100 and 400 million pixels: below and above the limit at which Pillow itself refuses."""
    bomb = encoded(Image.new("1", (side, side)), "PNG")
    assert len(bomb) < 200_000
    assert reason_of(bomb) == "too_many_pixels"


SEEDS = [
    encoded(gradient((20, 16)), "JPEG"),
    encoded(gradient((20, 16)).convert("CMYK"), "JPEG"),
    encoded(gradient((20, 16)), "PNG"),
    encoded(Image.fromarray(np.arange(320, dtype=np.uint16).reshape(16, 20)), "PNG"),
    encoded(gradient((20, 16)).convert("P"), "GIF", save_all=True, append_images=[Image.new("P", (20, 16))]),
    encoded(gradient((20, 16)), "WEBP"),
    encoded(gradient((20, 16)), "TIFF"),
    encoded(gradient((20, 16)), "BMP"),
    encoded(gradient((20, 16)), "PPM"),
]


@settings(max_examples=600, deadline=None)
@given(
    seed=st.sampled_from(SEEDS),
    edits=st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=4)), max_size=6),
    end=st.floats(0, 1),
    cut=st.booleans(),
)
def test_damaged_pictures_decode_or_are_bad_images(
    seed: bytes, edits: list[tuple[float, bytes]], end: float, cut: bool
) -> None:
    """What can be inspected can be decoded to the size stated; nothing but BadImage is ever raised."""
    data = bytearray(seed)
    for place, new in edits:
        at = int(place * len(data))
        data[at : at + len(new)] = new
    damaged = bytes(data[: int(end * len(data))] if cut else data)
    try:
        facts = inspect_image(damaged, max_pixels=1 << 20)
    except BadImage:
        return
    shown = decode_image(damaged, max_pixels=1 << 20)
    assert shown.mode == "RGB" and shown.size == (facts.width, facts.height)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes(data: bytes) -> None:
    with pytest.raises(BadImage):
        decode_image(data)


def test_rows_survive_arrow() -> None:
    row = corpus.CorpusRow(
        image_id="1",
        image=b"x",
        width=1,
        height=1,
        sha256=corpus.sha256(b"x"),
        captions=("one",),
        objects=(corpus.Box(name="a", box=(1, 2, 3, 4), attributes=("red",)),),
        regions=(corpus.Region(phrase="p", box=(1, 2, 3, 4)),),
        relations=(corpus.Relation(subject=0, predicate="by", object=0),),
        ocr=("STOP",),
    )
    assert [corpus.from_row(r) for r in corpus.to_table([row]).to_pylist()] == [row]
