"""Genres are written in the user's own names."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmgcs.errors import UsageError
from mmgcs.genres import LABEL_SETS, TMDB_GENRES, canonical, parse_genres
from mmgcs.library.saved_options import TRANSLATIONS, LibrarySettings, load_names
from mmgcs.library.tagging import _Rules


@pytest.mark.parametrize("name", LABEL_SETS)
def test_every_genre_of_a_known_catalogue_survives_a_round_trip_through_ours(name: str) -> None:
    vocabulary = load_names(name)
    assert tuple(vocabulary.own(canonical(genre)) for genre in LABEL_SETS[name]) == LABEL_SETS[name]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("own.json", '{"Crime": "Krimi", "sci-fi": "Zukunft"}'),
        ("own.csv", "genre,own\nCrime,Krimi\nSci-Fi,Zukunft\n"),
        ("own.csv", "\ufeffCrime,Krimi\r\nScience Fiction, Zukunft\r\n"),
    ],
)
def test_the_users_own_table_works_in_both_directions(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    own = load_names(str(path))
    assert (own.own("Crime"), own.own("Science Fiction"), own.own("War")) == ("Krimi", "Zukunft", "War")
    assert own.meaning(["krimi", "Zukunft", "Kriegsfilm", "Crime"]) == ("Crime", "Science Fiction", "War")


def test_a_table_that_excel_saved_is_read(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_bytes("Crime;Krimi\r\nComedy;Komödie\r\n".encode("utf-16"))
    assert load_names(str(path)).own("Comedy") == "Komödie"
    path.write_bytes("sep=;\r\nAction;Action\r\nComedy;Komödie\r\n".encode("cp1252"))
    assert load_names(str(path)).own("Comedy") == "Komödie"


@pytest.mark.parametrize("language", TRANSLATIONS)
def test_names_in_other_languages_are_understood_without_the_option(language: str) -> None:
    # A server that rescans the files, or a later run without --names, must find the same genres.
    names = load_names(language)
    assert [parse_genres(names.own(genre)) for genre in TMDB_GENRES] == [(genre,) for genre in TMDB_GENRES]
    assert names.meaning(map(names.own, TMDB_GENRES)) == TMDB_GENRES


def test_german_names_are_built_in_and_read_back() -> None:
    german = load_names("german")
    assert [german.own(genre) for genre in ("Comedy", "Crime", "War", "Science Fiction")] == [
        *("Komödie", "Krimi", "Kriegsfilm", "Science Fiction")
    ]
    assert german.meaning(["Liebesfilm", "TV-Film"]) == ("Romance", "TV Movie")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.json", "{", "not a JSON object of strings"),
        ("a.json", '{"Crime": 3}', "not a JSON object of strings"),
        ("a.json", '{"Crime": "Krimi/Thriller"}', "must not"),
        ("a.json", '{"Crime": "Kri\\u0001mi"}', "or a control character"),
        ("a.csv", "", "has no genres"),
    ],
)
def test_a_bad_table_is_refused_with_a_reason(tmp_path: Path, name: str, content: str, says: str) -> None:
    (tmp_path / name).write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(UsageError, match=says):
        load_names(str(tmp_path / name))


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"imdb.*kodi.*tmdb"):
        load_names("nonsense")


@pytest.mark.parametrize(
    ("mode", "present", "predicted", "expected"),
    [
        ("only-missing", (), ("Drama", "Crime"), ("Drama", "Krimi")),
        ("add", ("War",), ("Drama",), ("War", "Drama")),
        ("add", ("Crime",), ("Crime", "Drama"), ("Crime", "Drama")),
        ("add", ("krimi",), ("Crime",), ("krimi",)),
        ("add", ("DRAMA",), ("Drama",), ("DRAMA",)),
        ("replace", ("Drama", "War"), ("Crime",), ("War", "Krimi")),
        ("replace", ("War", "drama"), ("Drama",), ("War", "drama")),
        ("replace", ("Action & Adventure",), ("Drama",), ("Action & Adventure", "Drama")),
        ("replace", ("Drama", "Thriller"), ("Crime", "Thriller"), ("Thriller", "Krimi")),
        ("only-missing", (), ("Crime", "Thriller"), ("Krimi",)),
    ],
)
def test_genres_are_merged_in_the_users_spelling(
    tmp_path: Path, mode: str, present: tuple[str, ...], predicted: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    names = tmp_path / "own.csv"
    names.write_text("Crime,Krimi\nThriller,Krimi\nScience Fiction,Zukunft\n", encoding="utf-8")
    rules = _Rules(LibrarySettings(mode=mode, names=str(names)), ("Crime", "Drama", "Thriller"))
    assert rules.merge(present, predicted) == expected
