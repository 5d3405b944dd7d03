"""Draw an explanation as an HTML page or a PNG image. Green speaks for a genre, red against it."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from mmgcs.film import Film
from mmgcs.runtime.classifier import Classifier
from mmgcs.runtime.explanation import Explanation, region

WIDTH = 900
"""Pixels across a PNG."""


def read_poster(classifier: Classifier, film: Film) -> Image.Image | None:
    """Return the poster as the model sees it; None if the film has no readable poster."""
    (prepared,) = classifier.prepare([film])
    for branch, part in zip(classifier.bundle.config.branches, prepared.parts, strict=False):
        if branch.input == "poster" and part is not None and part.value.ndim == 3:
            return Image.fromarray(part.value)
    return None


def explanation_page(explanation: Explanation, poster: Image.Image | None = None) -> str:
    """Return a self-contained page: for each genre the plot with shaded words, and the poster's regions."""
    from mmgcs.templates import fill_template

    return fill_template(
        Path(__file__).parent / "templates" / "explanation.html.j2",
        explanation=explanation,
        prediction=explanation.prediction,
        picture=None if poster is None else base64.b64encode(_png(poster)).decode("ascii"),
        attention=sorted(explanation.attention, key=lambda one: -one.weight)[:10],
        largest=_largest,
        words=_words,
        color=_color,
    )


def to_png(explanation: Explanation, poster: Image.Image | None = None) -> bytes:
    """Return an image of the first three genres: the poster's regions on the left, the plot's words on the right."""
    blocks = [_block(explanation, genre, poster) for genre in explanation.genres[:3]]
    image = Image.new("RGB", (WIDTH, sum(block.height for block in blocks) + 20), "white")
    top = 10
    for block in blocks:
        image.paste(block, (0, top))
        top += block.height
    return _png(image)


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _block(explanation: Explanation, genre: str, poster: Image.Image | None) -> Image.Image:
    font = ImageFont.load_default(16)
    block = Image.new("RGB", (WIDTH, 4000), "white")
    pen = ImageDraw.Draw(block)
    largest = _largest(explanation, genre)
    pen.text((20, 8), f"{genre}  {explanation.prediction.probabilities[genre]:.0%}", fill="black", font=font)
    left, bottom = 20, 40
    if poster is not None and genre in explanation.regions:
        shaded = _shade_regions(poster, explanation.regions[genre], largest)
        shaded = shaded.resize((round(shaded.width * 300 / shaded.height), 300))
        block.paste(shaded, (20, 40))
        left, bottom = 40 + shaded.width, 340
    x, y = left, 40
    for words, drop in _words(explanation, genre):
        color, strength = _shade(drop, largest)
        back = tuple(round(255 - (255 - part) * strength) for part in color)
        for word in words.split():
            width = round(pen.textlength(word, font=font))
            if x + width > WIDTH - 20 and x > left:
                x, y = left, y + 26
            pen.rectangle((x - 2, y - 2, x + width + 2, y + 20), fill=back)
            pen.text((x, y), word, fill="black", font=font)
            x += width + 7
        bottom = max(bottom, y + 26)
    return block.crop((0, 0, WIDTH, min(4000, bottom + 16)))


def _shade_regions(poster: Image.Image, regions: Sequence[Sequence[float]], largest: float) -> Image.Image:
    pixels: NDArray[np.float64] = np.asarray(poster, dtype=np.float64).copy()  # (height, width, 3)
    for row, drops in enumerate(regions):
        for column, drop in enumerate(drops):
            color, strength = _shade(drop, largest)
            place = region(pixels, row, column, len(regions), len(drops))
            pixels[place] = pixels[place] * (1 - strength) + np.array(color) * strength
    return Image.fromarray(pixels.round().astype(np.uint8))


def _words(explanation: Explanation, genre: str) -> list[tuple[str, float]]:
    return [(explanation.text[span.start : span.end], span.drops[genre]) for span in explanation.spans]


def _largest(explanation: Explanation, genre: str) -> float:
    drops = [abs(drop) for _, drop in _words(explanation, genre)]
    drops += [abs(drop) for row in explanation.regions.get(genre, []) for drop in row]
    return max(drops, default=0.0) or 1.0


def _shade(drop: float, largest: float) -> tuple[tuple[int, int, int], float]:
    """Return the color of a contribution and how strong it is, 0 to 0.65."""
    return ((46, 160, 67) if drop > 0 else (218, 54, 51)), 0.65 * min(1.0, abs(drop) / largest)


def _color(drop: float, largest: float) -> str:
    """Return the color of a contribution in CSS."""
    color, strength = _shade(drop, largest)
    return f"rgba{(*color, round(strength, 2))}"
