from __future__ import annotations

import pytest

from mmgcs.library.settings import GenreNames, LibrarySettings
from mmgcs.library.tagging import _Rules

KRIMI = GenreNames({"Crime": "Krimi", "Thriller": "Krimi", "Science Fiction": "Zukunft"})
LABELS = ("Crime", "Drama", "Thriller")


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
    mode: str, present: tuple[str, ...], predicted: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    assert _Rules(LibrarySettings(mode=mode), KRIMI, LABELS, frozenset()).merge(present, predicted) == expected
