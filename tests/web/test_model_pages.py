"""The pages about a model show the measurements in its card, its training data, and its card's text."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

import mmgcs
from mmgcs.bundle import CARD_JSON, Bundle, seal
from mmgcs.datasets import inspect_films
from mmgcs.errors import UsageError
from mmgcs.sample import sample_films, sample_table
from mmgcs.web import Settings, create_app
from mmgcs.web.charts import inspected_films
from mmgcs.web.pages import markdown_to_html


def scores(bundle: Path) -> str:
    answer = create_app(bundle, Settings()).test_client().get("/scores")
    assert answer.status_code == 200
    return answer.text


def test_scores_intervals_and_curves_of_each_genre_are_shown(measured: Path) -> None:
    shown, evaluation = scores(measured), Bundle(measured).card()["evaluation"]
    assert re.search(r"Of 100 genres that the model predicts, about \d+ are right", shown)
    for condition in evaluation["conditions"]:
        assert f"<h3>{condition['name']}</h3>" in shown
        for genre in condition["tuned"]["genres"]:
            if genre["f1"]["value"] is not None and genre["f1"]["low"] is not None:
                assert f"{genre['f1']['low']:.3f}–{genre['f1']['high']:.3f}" in shown
        for genre, points in condition["curves"]["precision"].items():
            if points:
                assert f'aria-label="{genre}: precision by recall, from {points[0]:.2f} at 0.05 to' in shown
    assert len(re.findall(r"<polyline points=\"\d", shown)) >= 10


def test_a_card_without_curves_or_without_measurements_is_shown_too(
    measured: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    older = Path(shutil.copytree(measured, tmp_path / "older"))
    card = Bundle(older).card()
    for condition in card["evaluation"]["conditions"]:
        del condition["curves"]
    (older / CARD_JSON).write_text(json.dumps(card))
    seal(older)
    assert "Precision and recall" not in scores(older)
    assert "no measurements" in scores(tiny_bundle)


def test_the_output_of_data_inspect_is_drawn(tiny_bundle: Path, tmp_path: Path) -> None:
    summary = inspect_films(sample_table(), tmp_path / "page.html")
    numbers = tmp_path / "films.json"
    numbers.write_text(json.dumps(summary), encoding="utf-8")
    page = create_app(tiny_bundle, Settings(data=str(numbers))).test_client().get("/data").text
    assert f"All {len(sample_films())} films" in page
    for genre, count in summary["genres"].items():
        assert re.search(rf'(?s)<th scope="row">{genre}</th>.*?<td class="number">{count}</td>', page), genre
    for decade, count in summary["years"].items():
        assert f"{decade}s {count}" in page


def test_only_the_default_bundle_comes_with_statistics_of_its_films() -> None:
    card = mmgcs.load().bundle.card()
    films = inspected_films("", card)
    assert films is not None
    assert films["films"] == sum(split["films"] for split in card["data"]["splits"].values())
    assert set(films["genres"]) == set(card["genres"])
    assert inspected_films("", {"data": {"sha256": "0" * 64}}) is None


@pytest.mark.parametrize("content", [None, b"", b"[]", b'{"films": 3}'])
def test_a_file_without_such_statistics_stops_the_start_in_one_line(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "films.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=r"^MMGCS_DATA: [^\n]+$"):
        inspected_films(str(path), {})


def test_markup_and_links_in_a_card_that_act_stay_text() -> None:
    made = markdown_to_html(
        "<script>alert(1)</script> <img src=x onerror=alert(1)> [press](javascript:alert(1)) ![x](javascript:alert(1))"
        "[press](data:text/html;base64,PHNjcmlwdD4=)\n\n| a |\n|--:|\n| <b onclick=x>1</b> |"
    )
    assert not re.search(r"<script|<img|<b|href=|style=", made)


def test_headings_of_a_card_are_below_the_pages_and_its_tables_can_be_scrolled_with_keys() -> None:
    made = markdown_to_html("# One\n\n##### Five\n\n| a | b |\n|---|--:|\n| 1 | 2 |\n")
    assert "<h3>One</h3>" in made
    assert "<h6>Five</h6>" in made
    assert '<table class="scroll" tabindex="0">' in made
    assert '<td class="number">2</td>' in made
