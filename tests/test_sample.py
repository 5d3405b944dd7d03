"""The shipped sample is what the documentation says of it."""

from __future__ import annotations

from collections import Counter

from PIL import Image

from mmgcs.genres import DEFAULT_GENRES
from mmgcs.preprocess.decode import decode_poster
from mmgcs.sample import sample_films
from mmgcs.sample.make_posters import SIZE, draw_poster


def test_it_has_forty_films_with_plots_and_some_that_lack_an_input() -> None:
    films = sample_films()
    assert sum(film.plot is not None for film in films) >= 40
    assert sum(film.poster is None for film in films) >= 10
    assert sum(film.plot is None for film in films) in (2, 3)
    assert len({film.id for film in films}) == len(films)
    assert not any(film.problem or film.warnings for film in films)


def test_every_genre_is_in_every_split() -> None:
    for split in ("train", "valid", "test"):
        counts = Counter(genre for film in sample_films() if film.split == split for genre in film.genres or ())
        assert set(counts) == set(DEFAULT_GENRES)


def test_posters_are_small_and_drawn_by_the_shipped_script() -> None:
    for film in sample_films():
        if film.poster is not None:
            assert len(film.poster.read_bytes()) <= 12_000
            assert decode_poster(film.poster).size == SIZE
    assert isinstance(draw_poster(sample_films()[0]), Image.Image)
