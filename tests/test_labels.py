"""A missing genre is a "no" only if the label source could have named it."""

from __future__ import annotations

from mmgcs import Film
from mmgcs.genres import DEFAULT_GENRES
from mmgcs.labels import LabelSource, label_notes, read_labels, undescribed

GENRES = ("Adventure", "Drama", "Horror", "Music", "Thriller")


def known_of(*genres: str, labels: str | None) -> dict[str, bool]:
    _, known = read_labels([Film(genres=genres, labels=labels)], GENRES)
    return dict(zip(GENRES, known[0].tolist(), strict=True))


def test_labels_are_in_the_order_of_the_genres_and_ignore_others() -> None:
    truth, _ = read_labels([Film(genres=("Horror", "Giallo")), Film(genres=("Drama",)), Film()], ("Drama", "Horror"))
    assert truth.tolist() == [[False, True], [True, False], [False, False]]
    assert read_labels([], ("Drama", "Horror"))[0].shape == (0, 2)


def test_three_imdb_names_leave_the_others_unknown_and_two_do_not() -> None:
    assert all(known_of("Drama", labels="tmdb").values())  # it can name every genre
    assert all(known_of("Drama", "Horror", labels="imdb").values())
    known = known_of("Drama", "Horror", "Sport", labels="imdb")
    assert known == {"Adventure": False, "Drama": True, "Horror": True, "Music": False, "Thriller": False}


def test_justwatch_never_says_adventure_and_uses_thriller_widely() -> None:
    assert known_of("Drama", labels="justwatch") == {**dict.fromkeys(GENRES, True), "Adventure": False}
    assert known_of("Thriller", labels="justwatch")["Thriller"] is False
    assert known_of("Adventure", labels="justwatch")["Adventure"] is True


def test_a_source_of_ones_own_is_described_in_a_line_and_one_without_description_is_found() -> None:
    own = {"archive": LabelSource(unnamed=("Horrorfilm",))}
    _, known = read_labels([Film(genres=("Drama",), labels="archive")], GENRES, own)
    assert known[0].tolist() == [True, True, False, True, True]
    assert undescribed(["archive", "tmdb", None, ""]) == ["archive"]
    assert undescribed(["archive"], own) == []


def test_odd_genres_and_sources_are_reported_once_each() -> None:
    films = [Film(genres=("Horor", "Sport"), labels="archive")] * 3
    horor, archive = label_notes(films, DEFAULT_GENRES)
    assert horor == "unknown genre 'Horor' in 3 films, ignored; did you mean 'Horror'?"
    assert "'archive' has no description" in archive


def test_a_musical_counts_as_music_where_the_set_has_no_musicals() -> None:
    truth, _ = read_labels([Film(genres=("Musical",))], DEFAULT_GENRES)
    assert truth[0, DEFAULT_GENRES.index("Music")]
