"""Cleaning drops films that are no use for training, reports why, and repairs the others."""

from __future__ import annotations

import re

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmgcs.datasets import RAW_SCHEMA, clean, label_sets
from mmgcs.datasets.clean import joined, repair
from mmgcs.tables import Frame


def raw(*films: dict, broken: int = 0) -> Frame:
    rows = [{"id": str(number), "genres": "Drama", **film} for number, film in enumerate(films)]
    frame = pl.DataFrame([dict.fromkeys(RAW_SCHEMA) | row for row in rows], schema=dict(RAW_SCHEMA))
    return Frame(frame, ("broken",) * broken)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("CafÃ© society", "Café society"),
        ("He said â€œnoâ€\x9d and left", "He said “no” and left"),
        ("Tom &amp; Jerry", "Tom & Jerry"),
        ("Tom &amp;amp; Jerry &#39;s", "Tom & Jerry 's"),
        ("Ã la carte", "à la carte"),
        ("two  spaces\nand a line\u200b ", "two spaces and a line"),
        ("L’été à Paris — “déjà vu”", "L’été à Paris — “déjà vu”"),
        ("七人の侍が村を守る", "七人の侍が村を守る"),
        ("Семь самураев", "Семь самураев"),
        ("e\u0301te\u0301", "été"),
        ("AT&T sues; R&D < C", "AT&T sues; R&D < C"),
    ],
)
def test_texts_are_repaired_and_sound_ones_left_alone(before, after):
    assert repair(before) == after
    cleaned = clean(raw({"plot": before + " again and again"}))
    assert cleaned.frame["plot"].to_list() == [after + " again and again"]


def test_what_is_dropped_is_counted_by_reason_with_examples():
    films = raw(
        {"plot": "The first film of all."},
        {"id": "0", "plot": "The same id again."},
        {"id": None, "plot": "No id at all."},
        {"plot": None},
        {"plot": " \n "},
        {"plot": "No overview found."},
        {"plot": "N/A"},
        {"plot": "No genre for this one.", "genres": None},
        {"plot": "An empty list of genres.", "genres": "[]"},
        {"plot": "A western only.", "genres": "Western"},
        {"plot": "Short."},
        {"plot": "THE FIRST film, of all!"},
        broken=2,
    )
    cleaned = clean(films, genres=["Drama", "Comedy"], min_words=2)
    assert cleaned.frame["plot"].to_list() == ["The first film of all."]
    assert cleaned.dropped == {
        "broken record": 2,
        "no id": 1,
        "duplicate id": 1,
        "no plot": 4,
        "no genre": 2,
        "none of the wanted genres": 1,
        "plot too short": 1,
        "duplicate plot": 1,
    }
    assert cleaned.examples["no genre"] == ["7", "8"]


PIECES = st.sampled_from(
    ["After ten years, ", "a sailor ", "A SAILOR", "ΟΔΟΣ", "οδός ", "-- ", "…!? (x) ", "é", "sails home.", " "]
)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.lists(PIECES, min_size=1, max_size=14).map("".join), min_size=1, max_size=12))
def test_a_plot_that_came_before_is_known_by_its_letters_whatever_stands_between(plots):
    def plain(text):
        return re.sub(r"[\W_]+", "", pl.Series([text]).str.to_lowercase()[0])

    films = [{"plot": plot} for plot in plots if plain(plot)]
    first = {}
    for film in films:
        first.setdefault(plain(film["plot"]), repair(film["plot"]))
    assert clean(raw(*films)).frame["plot"].to_list() == list(first.values())


def test_films_with_only_a_poster_are_kept_where_a_plot_is_not_needed():
    films = raw({"poster_path": "/a.jpg"}, {"poster_url": "https://example.org/b.jpg"}, {}, {"plot": "A plot it is."})
    cleaned = clean(films, need_plot=False)
    assert cleaned.frame["id"].to_list() == ["0", "1", "3"]
    assert cleaned.dropped["no plot and no poster"] == 1


def test_genres_come_out_in_one_spelling_and_only_the_wanted_ones():
    films = raw(
        {"plot": "One plot.", "genres": "sci-fi, Drama, Western"}, {"plot": "Two plots.", "genres": "['Drama']"}
    )
    cleaned = clean(films, genres=["Drama", "Science Fiction"])
    assert cleaned.frame["genres"].to_list() == ["Drama|Science Fiction", "Drama"]
    assert cleaned.labels.genres == ("Drama", "Science Fiction")
    assert cleaned.labels.counts().tolist() == [2, 1]


def test_label_sets_stand_for_the_films_they_came_from():
    column = pl.Series("genres", ["A|B", None, "B", "A|B", ""])
    labels = label_sets(column)
    assert labels.genres == ("B", "A")
    assert joined(labels).to_list() == ["B|A", None, "B", "B|A", None]
    assert labels.any().tolist() == [True, False, True, True, False]
    np.testing.assert_array_equal(labels.take(np.array([2, 1])).counts(), [1, 0])


def test_nothing_comes_of_nothing():
    cleaned = clean(raw(), genres=["Drama"])
    assert cleaned.frame.height == 0
    assert clean(raw({"plot": "A plot.", "genres": None})).frame.height == 0
