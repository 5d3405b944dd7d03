"""The page on data draws what `mmgcs data inspect` counted."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import mmgcs
from mmgcs.datasets import inspect_films
from mmgcs.errors import UsageError
from mmgcs.sample import sample_films, sample_table
from mmgcs.web import Settings, create_app
from mmgcs.web.inspected import inspected


def test_what_data_inspect_prints_is_drawn(tiny_bundle: Path, tmp_path: Path) -> None:
    summary = inspect_films(sample_table(), tmp_path / "page.html")
    numbers = tmp_path / "films.json"
    numbers.write_text(json.dumps(summary.to_json()), encoding="utf-8")
    page = create_app(tiny_bundle, Settings(data=str(numbers))).test_client().get("/data").text
    assert f"All {len(sample_films())} films" in page
    for genre, count in summary.genres.items():
        assert re.search(rf'<th scope="row">{genre}</th>.*?<td class="number">{count}</td>', page), genre
    for decade, count in summary.years.items():
        assert f"{decade}s {count}" in page


def test_the_default_bundle_comes_with_the_numbers_of_its_films() -> None:
    card = mmgcs.load().bundle.card()
    films = inspected("", card)
    assert films is not None
    assert films.films == sum(split["films"] for split in card["data"]["splits"].values())
    assert set(films.genres) == set(card["genres"])


def test_another_bundle_gets_no_numbers_that_are_not_its_own(tiny_bundle: Path) -> None:
    assert inspected("", {"data": {"sha256": "0" * 64}}) is None
    assert "All " not in create_app(tiny_bundle, Settings()).test_client().get("/data").text


@pytest.mark.parametrize("content", [None, b"", b"[]", b'{"films": 3}', b'{"films": -1}'])
def test_a_file_that_holds_no_such_numbers_stops_the_start_in_one_line(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "films.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=r"^MMGCS_DATA: [^\n]+$"):
        inspected(str(path), {})


def test_a_table_without_films_is_drawn_too(tiny_bundle: Path, tmp_path: Path) -> None:
    empty: dict[str, dict[str, int]] = {
        name: {} for name in ("genres", "genres_per_film", "lengths", "years", "missing", "duplicates")
    }
    path = tmp_path / "films.json"
    path.write_text(json.dumps({"films": 0, "together": [], **empty}), encoding="utf-8")
    assert create_app(tiny_bundle, Settings(data=str(path))).test_client().get("/data").status_code == 200
