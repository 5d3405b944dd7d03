"""Draw the sample's posters: shapes and colours by genre, with the words "synthetic poster" on each.

    python -m mmgcs.sample.make_posters

They stand in for real posters, which belong to their owners, and show how a poster is given, not what one looks like.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable

from PIL import Image, ImageDraw, ImageFont

from mmgcs.film import Film
from mmgcs.sample.films import sample_films, sample_table

SIZE = (200, 300)
BLACK, WHITE = (12, 12, 14), (245, 244, 238)

Colour = tuple[int, int, int]
Motif = Callable[[ImageDraw.ImageDraw, random.Random], None]

# Top and bottom of the background, and the colour of the motif.
PALETTES: dict[str, tuple[Colour, Colour, Colour]] = {
    "Action": ((255, 150, 40), (90, 20, 10), (30, 20, 20)),
    "Animation": ((110, 210, 250), (250, 220, 90), (240, 90, 140)),
    "Comedy": ((255, 240, 150), (255, 190, 60), (220, 60, 50)),
    "Crime": ((70, 74, 84), (18, 20, 26), (200, 190, 150)),
    "Documentary": ((225, 220, 205), (170, 165, 150), (60, 80, 90)),
    "Drama": ((120, 130, 150), (60, 55, 60), (215, 190, 160)),
    "Horror": ((60, 0, 0), (5, 5, 8), (200, 20, 20)),
    "Music": ((90, 30, 130), (240, 90, 150), (255, 230, 120)),
    "Romance": ((255, 205, 210), (230, 120, 140), (170, 30, 60)),
    "Thriller": ((30, 60, 80), (6, 10, 18), (120, 200, 210)),
}


def _action(draw: ImageDraw.ImageDraw, rng: random.Random) -> None:
    centre = (rng.randint(70, 130), rng.randint(100, 150))
    points = []
    for step in range(24):
        radius = rng.randint(60, 85) if step % 2 else rng.randint(22, 36)
        angle = math.tau * step / 24
        points.append((centre[0] + radius * math.cos(angle), centre[1] + radius * math.sin(angle)))
    draw.polygon(points, fill=PALETTES["Action"][2])


def _animation(draw: ImageDraw.ImageDraw, rng: random.Random) -> None:
    for _ in range(7):
        x, y, radius = rng.randint(20, 180), rng.randint(50, 200), rng.randint(12, 34)
        colour = tuple(rng.randint(80, 255) for _ in range(3))
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour, outline=BLACK, width=3)


def _comedy(draw: ImageDraw.ImageDraw, rng: random.Random) -> None:
    x, y = rng.randint(85, 115), rng.randint(115, 140)
    draw.ellipse((x - 60, y - 60, x + 60, y + 60), fill=(255, 215, 0), outline=BLACK, width=4)
    for eye in (-22, 22):
        draw.ellipse((x + eye - 8, y - 26, x + eye + 8, y - 6), fill=BLACK)
    draw.chord((x - 36, y - 20, x + 36, y + 40), 0, 180, fill=PALETTES["Comedy"][2])


def _crime(draw: ImageDraw.ImageDraw, rng: random.Random) -> None:
    for line in range(40, 220, 18):
        draw.rectangle((0, line, 200, line + rng.randint(4, 8)), fill=PALETTES["Crime"][2])
    draw.polygon([(60, 220), (100, 120), (140, 220)], fill=BLACK)
    draw.ellipse((82, 90, 118, 130), fill=BLACK)
    draw.rectangle((68, 98, 132, 104), fill=BLACK)


def _documentary(draw: ImageDraw.ImageDraw, rng: random.Random) -> None:
    colour = PALETTES["Documentary"][2]
    for row in range(3):
        for column in range(2):
            shade = rng.randint(-30, 60)
            box = (24 + column * 80, 50 + row * 58, 94 + column * 80, 100 + row * 58)
            draw.rectangle(box, fill=tuple(max(0, min(255, part + shade)) for part in colour), outline=WHITE, width=3)


def _drama(draw: ImageDraw.ImageDraw, rng: random.Random) -> None:
    x = rng.randint(60, 90)
    colour = PALETTES["Drama"][2]
    draw.ellipse((x - 30, 70, x + 40, 160), fill=colour)
    draw.rectangle((x - 15, 150, x + 25, 220), fill=colour)
    draw.ellipse((x + 40, 90, x + 96, 164), fill=tuple(part - 70 for part in colour))
    draw.rectangle((x + 56, 156, x + 84, 220), fill=tuple(part - 70 for part in colour))


def _horror(draw: ImageDraw.ImageDraw, rng: random.Random) -> None:
    colour = PALETTES["Horror"][2]
    for x in range(0, 200, 14):
        draw.rounded_rectangle((x, 0, x + 9, rng.randint(15, 90)), radius=4, fill=colour)
    for eye in (70, 130):
        draw.polygon([(eye - 20, 150), (eye, 138), (eye + 20, 150), (eye, 162)], fill=colour)


def _music(draw: ImageDraw.ImageDraw, rng: random.Random) -> None:
    colour = PALETTES["Music"][2]
    for _ in range(5):
        x, y = rng.randint(20, 160), rng.randint(90, 200)
        draw.ellipse((x, y, x + 24, y + 17), fill=colour)
        draw.line((x + 23, y + 8, x + 23, y - 46), fill=colour, width=4)
        draw.line((x + 23, y - 46, x + 40, y - 32), fill=colour, width=5)


def _romance(draw: ImageDraw.ImageDraw, rng: random.Random) -> None:
    for size in (70, 34):
        x, y = rng.randint(70, 130), rng.randint(90, 160)
        colour = PALETTES["Romance"][2] if size == 70 else WHITE
        half = size // 2
        for side in (-half, half):
            draw.ellipse((x + side - half, y - half, x + side + half, y + half), fill=colour)
        draw.polygon([(x - size + 4, y + size // 6), (x + size - 4, y + size // 6), (x, y + size)], fill=colour)


def _thriller(draw: ImageDraw.ImageDraw, rng: random.Random) -> None:
    colour = PALETTES["Thriller"][2]
    x, y = rng.randint(80, 120), rng.randint(110, 150)
    for radius in (80, 60, 40, 20):
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=colour, width=3)
    draw.line((x - 90, y, x + 90, y), fill=colour, width=2)
    draw.line((x, y - 90, x, y + 90), fill=colour, width=2)


MOTIFS: dict[str, Motif] = {
    "Action": _action,
    "Animation": _animation,
    "Comedy": _comedy,
    "Crime": _crime,
    "Documentary": _documentary,
    "Drama": _drama,
    "Horror": _horror,
    "Music": _music,
    "Romance": _romance,
    "Thriller": _thriller,
}


def draw_poster(film: Film) -> Image.Image:
    """A synthetic poster of a film (200 × 300, RGB): the same film always gives the same picture."""
    rng = random.Random(film.id)  # noqa: S311  drawing, not secrets
    genres = film.genres or ("Drama",)
    # The rarest of a film's genres says most about how its poster looks; Drama is in everything.
    ranked = sorted(genres, key=lambda name: (name == "Drama", genres.index(name)))
    top, bottom, _ = PALETTES[ranked[0]]
    picture = Image.new("RGB", SIZE)
    draw = ImageDraw.Draw(picture)
    for y in range(SIZE[1]):
        share = y / SIZE[1]
        draw.line((0, y, SIZE[0], y), fill=tuple(int(a + (b - a) * share) for a, b in zip(top, bottom, strict=True)))
    for name in reversed(ranked[:2]):
        MOTIFS[name](draw, rng)
    draw.rectangle((0, 238, 200, 300), fill=BLACK)
    size = 20
    while (font := ImageFont.load_default(size)).getlength(film.title or "") > 188 and size > 8:
        size -= 1
    draw.text((100, 256), film.title or "", fill=WHITE, font=font, anchor="mm")
    draw.text((100, 284), "synthetic poster", fill=(190, 190, 190), font=ImageFont.load_default(13), anchor="mm")
    return picture


def main() -> None:
    """Draw the posters that the sample's table names."""
    folder = sample_table().parent / "posters"
    folder.mkdir(exist_ok=True)
    for film in sample_films():
        if film.poster is not None:
            draw_poster(film).save(folder / f"{film.id}.jpg", quality=60, optimize=True)


if __name__ == "__main__":
    main()
