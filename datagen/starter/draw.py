"""Scenes to pixels: 64 x 64 PNG, the same bytes for the same scene and seed.

Shapes are drawn at four times the size and averaged down; every picture has its own background shade and slope and
every object its own tint, so a model has to see, not to match bytes.
"""

from __future__ import annotations

import io
import random

import numpy as np
from PIL import Image, ImageDraw

from datagen.starter.scene import CELL, SIDE, Scene, Thing

SCALE = 4
RGB = {
    "red": (214, 40, 40),
    "green": (40, 160, 60),
    "blue": (40, 80, 220),
    "yellow": (245, 215, 50),
    "purple": (140, 50, 170),
    "orange": (245, 135, 25),
    "black": (20, 20, 20),
    "white": (250, 250, 250),
}
# 3 x 5 pixel letters, a row per digit, bits from left to right: three of them fit into one 16-pixel cell.
_FONT = {
    "a": "25755", "b": "65656", "c": "34443", "d": "65556", "e": "74647", "f": "74644", "g": "34553", "h": "55755",
    "i": "72227", "j": "11152", "k": "55655", "l": "44447", "m": "57755", "n": "65555", "o": "25552", "p": "65644",
    "q": "25563", "r": "65655", "s": "34216", "t": "72222", "u": "55557", "v": "55552", "w": "55775", "x": "55255",
    "y": "55222", "z": "71247",
}  # fmt: skip


def render(scene: Scene, seed: int) -> Image.Image:
    """Picture of a scene, RGB, SIDE x SIDE pixels."""
    rng = random.Random(f"draw-{seed}")
    canvas = _background(rng)
    draw = ImageDraw.Draw(canvas)
    for bar in scene.bars:
        draw.rectangle([v * SCALE for v in _shrink(bar.box)], fill=_tint(bar.color, rng))
    for thing in scene.things:
        if thing.shape == "sign":
            draw.rectangle([v * SCALE for v in _shrink(thing.box)], fill=RGB["white"])
        else:
            _shape(draw, thing, _tint(thing.color, rng))
    picture = canvas.resize((SIDE, SIDE), Image.Resampling.BOX)
    for thing in scene.things:
        if thing.word:
            _print(picture, thing)
    return picture


def png(scene: Scene, seed: int) -> bytes:
    """The same picture as PNG bytes."""
    buffer = io.BytesIO()
    render(scene, seed).save(buffer, format="PNG")
    return buffer.getvalue()


def _shrink(box: tuple[int, int, int, int]) -> tuple[float, float, float, float]:
    # PIL's rectangle includes its last pixel; at SCALE 4 that is a quarter of a final pixel.
    return (box[0], box[1], box[2] - 1 / SCALE, box[3] - 1 / SCALE)


def _background(rng: random.Random) -> Image.Image:
    base, slope = rng.uniform(120, 175), rng.uniform(-25, 25)
    tint = [rng.uniform(-8, 8) for _ in range(3)]
    ramp = base + slope * np.linspace(-0.5, 0.5, SIDE * SCALE)[:, None, None] + np.array(tint)[None, None, :]
    full = np.broadcast_to(ramp, (SIDE * SCALE, SIDE * SCALE, 3))
    return Image.fromarray(full.clip(0, 255).astype(np.uint8))


def _tint(color: str, rng: random.Random) -> tuple[int, int, int]:
    red, green, blue = (min(255, max(0, round(v + rng.uniform(-12, 12)))) for v in RGB[color])
    return red, green, blue


def _shape(draw: ImageDraw.ImageDraw, thing: Thing, fill: tuple[int, int, int]) -> None:
    x1, y1, x2, y2 = (v * SCALE for v in _shrink(thing.box))
    cx, cy, w = (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1
    match thing.shape:
        case "circle":
            draw.ellipse([x1, y1, x2, y2], fill=fill)
        case "square":
            draw.rectangle([x1, y1, x2, y2], fill=fill)
        case "triangle":
            draw.polygon([(cx, y1), (x2, y2), (x1, y2)], fill=fill)
        case "cross":
            arm = w / 6
            draw.rectangle([cx - arm, y1, cx + arm, y2], fill=fill)
            draw.rectangle([x1, cy - arm, x2, cy + arm], fill=fill)
        case "star":
            points = []
            for k in range(10):
                radius = w / 2 if k % 2 == 0 else w / 5
                angle = np.pi * k / 5
                points.append((cx + radius * np.sin(angle), cy - radius * np.cos(angle)))
            draw.polygon(points, fill=fill)


def _print(picture: Image.Image, sign: Thing) -> None:
    left, top = sign.column * CELL + 3, sign.row * CELL + 6
    for index, letter in enumerate(sign.word):
        for y, digit in enumerate(_FONT[letter]):
            for x in range(3):
                if int(digit) >> (2 - x) & 1:
                    picture.putpixel((left + index * 4 + x, top + y), (15, 15, 15))
