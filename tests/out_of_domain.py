"""Inputs that are no film: texts written for this test, and pictures that are drawn here.

The checks were chosen with both "tune" and "held" in view. The texts of "blind" were written by someone who had seen
neither what was tried nor how it fared, and measured once."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

TEXTS = Path(__file__).parent / "data" / "out_of_domain" / "texts.jsonl"
SIZE = (300, 450)


def texts(half: str) -> list[tuple[str, str]]:
    """(kind, text) of "tune", "held" or "blind"."""
    rows = [json.loads(line) for line in TEXTS.read_text(encoding="utf-8").splitlines()]
    return [(row["kind"], row["text"]) for row in rows if row["half"] == half]


def pictures(half: str) -> list[tuple[str, bytes]]:
    """(kind, PNG) of one half: the kinds are those of the other half, drawn with other seeds and settings."""
    made = []
    for kind, draw in KINDS.items():
        for seed in (0, 1) if half == "tune" else (2, 3):
            buffer = io.BytesIO()
            draw(np.random.default_rng(seed)).save(buffer, "PNG")
            made.append((kind, buffer.getvalue()))
    return made


def _solid(random: np.random.Generator) -> Image.Image:
    return Image.new("RGB", SIZE, tuple(map(int, random.integers(0, 256, 3))))


def _noise(random: np.random.Generator) -> Image.Image:
    return Image.fromarray(random.integers(0, 256, (SIZE[1], SIZE[0], 3), dtype=np.uint8))


def _gradient(random: np.random.Generator) -> Image.Image:
    ends = random.integers(0, 256, (2, 3))
    steps = np.linspace(0, 1, SIZE[1])[:, None, None]
    return Image.fromarray(np.broadcast_to(ends[0] + (ends[1] - ends[0]) * steps, (SIZE[1], SIZE[0], 3)).astype("u1"))


def _cat(random: np.random.Generator) -> Image.Image:
    """A cat's face before something like a lawn, blurred and grainy as a photograph is."""
    width, height = SIZE
    grass = random.normal((90, 130, 60), 25, (height, width, 3)).clip(0, 255).astype(np.uint8)
    image = Image.fromarray(grass).filter(ImageFilter.GaussianBlur(3))
    pen = ImageDraw.Draw(image)
    fur = tuple(map(int, random.integers((130, 90, 50), (210, 160, 110))))
    x, y, r = (
        int(width * random.uniform(0.4, 0.6)),
        int(height * random.uniform(0.4, 0.6)),
        int(random.uniform(75, 105)),
    )
    pen.ellipse((x - r * 1.2, y + r * 0.5, x + r * 1.2, y + r * 3), fill=fur)
    pen.ellipse((x - r, y - r * 0.9, x + r, y + r * 0.9), fill=fur)
    for side in (-1, 1):
        pen.polygon(
            [(x + side * r * 0.9, y - r * 0.4), (x + side * r * 0.8, y - r * 1.5), (x + side * r * 0.2, y - r * 0.8)],
            fill=fur,
        )
        pen.ellipse((x + side * r * 0.4 - 16, y - 25, x + side * r * 0.4 + 16, y + 7), fill=(160, 190, 70))
        pen.ellipse((x + side * r * 0.4 - 5, y - 24, x + side * r * 0.4 + 5, y + 6), fill=(10, 10, 10))
        for tilt in (-10, 5, 20):
            pen.line((x + side * 15, y + 35, x + side * (r + 40), y + 25 + tilt), fill=(240, 240, 240), width=2)
    pen.polygon([(x - 10, y + 20), (x + 10, y + 20), (x, y + 32)], fill=(220, 140, 140))
    soft = np.asarray(image.filter(ImageFilter.GaussianBlur(1.5)), dtype=float)
    return Image.fromarray((soft + random.normal(0, 8, soft.shape)).clip(0, 255).astype(np.uint8))


def _landscape(random: np.random.Generator) -> Image.Image:
    """Sky, hills and a meadow."""
    width, height = SIZE
    pixels = np.zeros((height, width, 3))
    rows = np.arange(height)[:, None]
    pixels[:] = np.array([120, 170, 230]) + rows[..., None] * np.array([0.2, 0.1, -0.1])
    for depth, colour in enumerate(((110, 130, 120), (70, 110, 70), (60, 90, 40))):
        waves = sum(
            random.uniform(5, 25) * np.sin(np.arange(width) / random.uniform(15, 70) + random.uniform(0, 6))
            for _ in range(3)
        )
        pixels[rows > height * (0.45 + 0.17 * depth) + waves] = colour
    return Image.fromarray((pixels + random.normal(0, 10, pixels.shape)).clip(0, 255).astype(np.uint8))


def _chart(random: np.random.Generator) -> Image.Image:
    image = Image.new("RGB", SIZE, "white")
    pen = ImageDraw.Draw(image)
    pen.line((40, 30, 40, 400), fill="black", width=2)
    pen.line((40, 400, 290, 400), fill="black", width=2)
    for index, value in enumerate(random.uniform(40, 340, 7)):
        pen.rectangle((52 + 34 * index, 400 - value, 76 + 34 * index, 399), fill=(60, 110, 180))
        pen.text((56 + 34 * index, 405), f"Q{index + 1}", fill="black")
    pen.text((90, 10), "Revenue by quarter", fill="black")
    return image


def _lines(random: np.random.Generator) -> Image.Image:
    image = Image.new("RGB", SIZE, "white")
    pen = ImageDraw.Draw(image)
    for colour in ("red", "green", "blue"):
        heights = 225 + np.cumsum(random.normal(0, 12, 60))
        pen.line([(20 + 4.4 * index, height) for index, height in enumerate(heights)], fill=colour, width=2)
    for y in range(50, 430, 50):
        pen.line((20, y, 285, y), fill=(220, 220, 220))
        pen.text((2, y - 5), str(y), fill="grey")
    return image


def _page(random: np.random.Generator) -> Image.Image:
    image = Image.new("RGB", SIZE, (252, 252, 248))
    pen = ImageDraw.Draw(image)
    for row in range(28):
        words = "".join(random.choice(list("etaoinshrdlu "), 42))
        pen.text((22, 20 + 15 * row), words, fill=(20, 20, 20))
    return image


def _screenshot(random: np.random.Generator) -> Image.Image:
    image = Image.new("RGB", SIZE, (245, 246, 248))
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, 0, 300, 36), fill=tuple(map(int, random.integers(30, 120, 3))))
    pen.text((12, 12), "Settings      Account      Help", fill="white")
    for row in range(6):
        y = 52 + 64 * row
        pen.rounded_rectangle((12, y, 288, y + 54), 6, fill="white", outline=(215, 218, 222))
        pen.text((24, y + 10), f"Option {int(random.integers(100, 999))}", fill=(30, 30, 30))
        pen.rounded_rectangle(
            (236, y + 16, 274, y + 36), 10, fill=(70, 150, 240) if random.random() < 0.5 else (190, 190, 190)
        )
    return image


def _checkers(random: np.random.Generator) -> Image.Image:
    step = int(random.integers(10, 50))
    rows, columns = np.indices((SIZE[1], SIZE[0])) // step
    return Image.fromarray(
        np.where(((rows + columns) % 2)[..., None] > 0, 255, random.integers(0, 128, 3)).astype("u1")
    )


KINDS: dict[str, Callable[[np.random.Generator], Image.Image]] = {
    "solid colour": _solid,
    "noise": _noise,
    "gradient": _gradient,
    "drawn cat": _cat,
    "landscape": _landscape,
    "bar chart": _chart,
    "line chart": _lines,
    "page of text": _page,
    "screenshot": _screenshot,
    "checkers": _checkers,
}
