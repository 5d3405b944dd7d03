from __future__ import annotations

from pathlib import Path

import pytest

from mmgcs.errors import UsageError
from mmgcs.genres import LABEL_SETS, canonical
from mmgcs.library.vocabulary import Vocabulary, load_vocabulary


def test_a_known_catalogues_spelling_is_used() -> None:
    imdb = load_vocabulary("imdb")
    assert imdb.spell("Science Fiction") == "Sci-Fi"
    assert imdb.spell("Drama") == "Drama"
    assert load_vocabulary(None).spell("Science Fiction") == "Science Fiction"


@pytest.mark.parametrize("name", LABEL_SETS)
def test_every_genre_of_a_known_catalogue_survives_a_round_trip_through_ours(name: str) -> None:
    vocabulary = load_vocabulary(name)
    assert tuple(vocabulary.spell(canonical(genre)) for genre in LABEL_SETS[name]) == LABEL_SETS[name]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("own.json", '{"Crime": "Krimi", "sci-fi": "Zukunft"}'),
        ("own.csv", "genre,own\nCrime,Krimi\nSci-Fi,Zukunft\n"),
        ("own.csv", "\ufeffCrime,Krimi\r\nScience Fiction, Zukunft\r\n"),
    ],
)
def test_a_table_of_ones_own_is_read_both_ways(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    own = load_vocabulary(str(path))
    assert (own.spell("Crime"), own.spell("Science Fiction"), own.spell("War")) == ("Krimi", "Zukunft", "War")
    assert own.meaning(["krimi", "Zukunft", "Kriegsfilm", "Crime"]) == ("Crime", "Science Fiction", "Kriegsfilm")


def test_a_double_genre_means_both() -> None:
    assert Vocabulary({}).meaning(["Action & Adventure"]) == ("Action", "Adventure")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.json", "{", "not JSON"),
        ("a.json", "[1]", "object of strings"),
        ("a.json", '{"Crime": 3}', "object of strings"),
        ("a.json", '{"Crime": "Krimi/Thriller"}', "none of"),
        ("a.json", '{"Crime": " "}', "needs a letter"),
        ("a.json", '{"Crime": "Kri\\u0001mi"}', "nor a control character"),
        ("a.csv", "", "names no genre"),
        ("a.json", "\udcff", "cannot be read"),
    ],
)
def test_a_table_that_is_none_says_so(tmp_path: Path, name: str, content: str, says: str) -> None:
    (tmp_path / name).write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(UsageError, match=says):
        load_vocabulary(str(tmp_path / name))


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"imdb.*kodi.*tmdb"):
        load_vocabulary("nonsense")
