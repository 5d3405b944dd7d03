"""The default bundle reads German, Italian and Dutch by transfer: it learned from almost no plots in them."""

from __future__ import annotations

from pathlib import Path

import pytest

import mmgcs
from mmgcs.film import Film
from mmgcs.preprocess import identify_language
from mmgcs.tables import read_films

SAMPLE = Path(__file__).parent / "data" / "languages.csv"
"""Twenty well-known films in each language; the plots were written for this test."""


@pytest.fixture(scope="module")
def films() -> list[Film]:
    return [film for chunk in read_films(SAMPLE) for film in chunk]


def test_the_plots_of_the_sample_are_in_their_languages(films: list[Film]) -> None:
    assert [identify_language(film.plot) for film in films] == [film.record["language"] for film in films]


@pytest.mark.parametrize("language", ["de", "it", "nl"])
def test_at_least_fifteen_of_twenty_films_get_one_of_their_genres_first(films: list[Film], language: str) -> None:
    classifier = mmgcs.load()
    if language not in classifier.bundle.config.languages:
        pytest.skip(f"the default bundle reads {', '.join(classifier.bundle.config.languages)}")
    here = [film for film in films if film.record["language"] == language]
    predictions = classifier.predict_batch(here)
    assert all(not prediction.warnings for prediction in predictions)
    right = [prediction.top(1)[0] in film.genres for film, prediction in zip(here, predictions, strict=True)]
    assert len(here) == 20
    assert sum(right) >= 15
