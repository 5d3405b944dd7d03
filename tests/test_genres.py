"""Genres are read in every spelling and shape that catalogues use."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmgcs.genres import DEFAULT_GENRES, canonical, parse_genres, unfamiliar


@pytest.mark.parametrize(
    "value",
    [
        "Science Fiction|Drama",
        "sci-fi | DRAMA",
        "Sci-Fi / Drama",
        "SciFi, Drama",
        "Sci-Fi/Drama",
        "Sci-Fi;Drama",
        '["Science Fiction", "Drama"]',
        "['Sci-Fi', 'Drama']",
        "['Sci-Fi' 'Drama']",
        "('Sci-Fi', 'Drama')",
        "[Sci-Fi, Drama]",
        '[{"id": 878, "name": "Science Fiction"}, {"id": 18, "name": "Drama"}]',
        "[{'id': 878, 'name': 'Science Fiction'}, {'id': 18, 'name': 'Drama'}]",
        '{"genres": [{"name": "Sci-Fi"}, {"name": "Drama"}]}',
        ["Sci-Fi", "Drama"],
        ("Sci-Fi", "Drama", "drama"),
        [{"id": 878, "name": "Science Fiction"}, {"id": 18, "name": "Drama"}],
    ],
)
def test_every_shape_of_the_same_two_genres_reads_the_same(value: Any) -> None:
    assert parse_genres(value) == ("Science Fiction", "Drama")


@pytest.mark.parametrize(
    "value", [None, "", "  ", "[]", "None", "nan", "N/A", 3, float("nan"), (), "(no genres listed)"]
)
def test_no_genres_is_an_empty_tuple(value: Any) -> None:
    assert parse_genres(value) == ()


@pytest.mark.parametrize(
    "names",
    [
        "Abenteuer|Komödie|Krimi|Dokumentarfilm|Familie|Historie|Musik|Liebesfilm|Kriegsfilm",
        "Aventure|Comédie|Crime|Documentaire|Familial|Histoire|Musique|Romance|Guerre",
        "Aventura|Comedia|Crimen|Documental|Familia|Historia|Música|Romance|Bélica",
        "Avventura|Commedia|Crime|Documentario|Famiglia|Storia|Musica|Romance|Guerra",
        "Aventura|Comédia|Crime|Documentário|Família|História|Música|Romance|Guerra",
        "Avontuur|Komedie|Misdaad|Documentaire|Familie|Historisch|Muziek|Romantiek|Oorlog",
    ],
)
def test_tmdbs_own_translations_are_read(names: str) -> None:
    expected = "Adventure Comedy Crime Documentary Family History Music Romance War".split()
    assert list(parse_genres(names)) == expected


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("Science-fiction", ("Science Fiction",)),
        ("Ciencia ficción", ("Science Fiction",)),
        ("Fantascienza", ("Science Fiction",)),
        ("Ficcao cientifica", ("Science Fiction",)),
        ("Sciencefiction", ("Science Fiction",)),
        ("Kids & Family", ("Family",)),
        ("Horror Movies", ("Horror",)),
        ("War & Politics", ("War", "Politics")),
        ("War & Military", ("War",)),
        ("Action & Abenteuer|Kinder und Familie", ("Action", "Adventure", "Family")),
        ("Guerre & Politique|Sports & Fitness", ("War", "Politics", "Sports & Fitness")),
        ("Drammatico|Aventuras|Policial|Krimis", ("Drama", "Adventure", "Crime")),
        ("Comédie romantique|Tragikomödie", ("Romance", "Comedy", "Drama")),
        ("TV Dramas|Kids' TV|Crime TV Shows|TV Movies", ("Drama", "Family", "Crime", "TV Movie")),
        ("Téléfilm", ("TV Movie",)),
        ("Animationsfilm|Historienfilm|Kinderfilm|Kurzfilm", ("Animation", "History", "Family", "Short")),
        ("Liebeskomödie, Doku", ("Romance", "Comedy", "Documentary")),
        ("Film-Noir", ("Film Noir",)),
        ("Short Film", ("Short",)),
        ("Action & Adventure|Sci-Fi & Fantasy", ("Action", "Adventure", "Science Fiction", "Fantasy")),
    ],
)
def test_catalogues_spellings_map_to_the_default_names_or_stay_the_users_own(
    theirs: str, ours: tuple[str, ...]
) -> None:
    assert parse_genres(theirs) == ours


def test_a_misspelt_genre_is_reported_with_the_nearest_name() -> None:
    assert unfamiliar(["Comdey", "Sport", "Drama", "Giallo"], DEFAULT_GENRES) == {"Comdey": "Comedy", "Giallo": None}


def test_an_unknown_genre_keeps_its_own_spelling_trimmed() -> None:
    assert canonical("  Giallo  ") == "Giallo"
    assert parse_genres("Giallo|horror") == ("Giallo", "Horror")


@pytest.mark.parametrize("value", ["[" * 100_000, "[" * 30 + "]" * 30, "{'a':" * 5000, "x" * 10**6, "__import__('os')"])
def test_hostile_values_are_read_as_names_or_nothing(value: str) -> None:
    assert all(len(name) <= 80 for name in parse_genres(value))


@given(st.text() | st.lists(st.text()))
def test_nothing_makes_reading_genres_raise(value: Any) -> None:
    names = parse_genres(value)
    assert len(set(names)) == len(names)
