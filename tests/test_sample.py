"""The shipped sample is what the documentation says of it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from mmgcs.genres import DEFAULT_GENRES
from mmgcs.preprocess.decode import decode_poster
from mmgcs.sample import sample_films


def test_it_has_sixty_films_with_plots_and_thirty_posters() -> None:
    films = sample_films()
    assert len(films) == len({film.id for film in films}) == 60
    assert all(film.plot and len(film.plot.split()) >= 40 for film in films)
    assert sum(film.poster is not None for film in films) == 30
    assert not any(film.problem or film.warnings for film in films)


def test_every_genre_is_in_every_split_and_at_least_three_films() -> None:
    for split in ("train", "valid", "test"):
        assert {genre for film in sample_films() if film.split == split for genre in film.genres or ()} == set(
            DEFAULT_GENRES
        )
    assert min(Counter(genre for film in sample_films() for genre in film.genres or ()).values()) >= 3


def test_posters_are_small_and_of_years_in_the_public_domain() -> None:
    for film in sample_films():
        if isinstance(film.poster, Path):
            assert film.year is not None and film.year <= 1930
            assert film.poster.stat().st_size < 40_000
            assert max(decode_poster(film.poster).size) <= 330
