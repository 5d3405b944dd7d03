from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from mmgcs import Film, load
from mmgcs.errors import InputError, UsageError
from mmgcs.evaluation import Report, evaluate, write_report
from mmgcs.evaluation.conditions import CONDITIONS, ShownFilms
from mmgcs.runtime import without

WORDS = {"Crime": "detective heist", "Horror": "ghost haunted", "Music": "singer concert"}


def quiet(stage: str, done: int, total: int) -> None:
    pass


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> list[Film]:
    """Sixty films: all with plots but the last ten, every second with a poster, titles that say a genre."""
    folder = tmp_path_factory.mktemp("posters")
    random = np.random.default_rng(0)
    made = []
    for number in range(60):
        genre = list(WORDS)[number % 3]
        poster = None
        if number % 2 or number >= 50:
            poster = folder / f"{number}.png"
            Image.new("RGB", (60, 90), tuple(map(int, random.integers(0, 255, 3)))).save(poster)
        plot = f"In the city {WORDS[genre]} two man and woman" if number % 5 else "two man at night in the village"
        made.append(
            Film(
                id=str(number),
                title="A gangster robbery" if number % 7 == 0 else f"Film {number}",
                year=1960 + number,
                plot=plot if number < 50 else None,
                poster=poster,
                genres=(genre, "Drama") if number % 4 == 0 else (genre,),
            )
        )
    return made


@pytest.fixture(scope="module")
def report(tiny_bundle: Path, films: list[Film]) -> Report:
    return evaluate(load(tiny_bundle), films, train=films[:50], valid=films[:50], bootstrap=50)


def by_name(report: Report) -> dict[str, object]:
    return {condition.name: condition for condition in report.conditions}


@pytest.mark.parametrize("hidden", ["plot", "poster"])
def test_hiding_an_input_is_what_predicting_without_it_gives(tiny_bundle: Path, films: list[Film], hidden: str) -> None:
    classifier = load(tiny_bundle)
    name = {"plot": "poster only", "poster": "plot only"}[hidden]
    (condition,) = [one for one in CONDITIONS if one.name == name]
    answers = ShownFilms(classifier, films, quiet).answer(condition)
    predictions = classifier.predict_batch([without(films[row], hidden) for row in answers.rows])
    for row, prediction in enumerate(predictions):
        assert "+".join(prediction.inputs) == answers.inputs[row]
        np.testing.assert_allclose(list(prediction.probabilities.values()), answers.probabilities[row], atol=2e-6)
        assert {classifier.genres[index] for index in np.flatnonzero(answers.chosen[row])} == set(prediction.genres)
        assert prediction.confidence == pytest.approx(answers.confidence[row], abs=2e-6)
        assert prediction.sure == answers.sure[row]


def test_each_condition_counts_the_films_that_it_is_about(report: Report) -> None:
    films = {name: condition.tuned.films for name, condition in by_name(report).items()}
    assert films == {
        "all films": 60,
        "plot and poster": 25,
        "plot only": 50,
        "plot only, no title": 50,
        "plot only, of films with both": 25,
        "poster only": 35,
    }
    assert by_name(report)["all films"].inputs == {"plot": 25, "plot+poster": 25, "poster": 10}


def test_a_report_says_whether_titles_were_given_and_what_they_are_worth(report: Report) -> None:
    conditions = by_name(report)
    assert conditions["plot only"].titled == 50
    assert conditions["plot only, no title"].titled == 0
    assert conditions["poster only"].titled == 0
    # Every seventh title says Crime, seldom rightly.
    assert conditions["plot only, no title"].tuned.micro_f1.value > conditions["plot only"].tuned.micro_f1.value


def test_films_without_genres_and_unreadable_ones_are_left_out_and_counted(tiny_bundle: Path, tmp_path: Path) -> None:
    films = [
        Film(plot="a ghost in a haunted village", genres=("Horror",)),
        Film(plot="a song", genres=("Musical", "Music")),
        Film(plot="nobody said"),
        Film(poster=tmp_path / "gone.jpg", genres=("Drama",)),
        Film(problem="the row is ragged", genres=("Drama",)),
    ]
    counts = evaluate(load(tiny_bundle), films, bootstrap=0).counts
    errors = counts.pop("errors")
    assert counts == {"films": 5, "scored": 2, "without_genres": 1, "unreadable": 2, "foreign_genres": 1}
    assert any("gone.jpg" in error for error in errors)


@pytest.mark.parametrize(
    ("films", "message"),
    [
        ([Film(plot="a ghost")], "none of the 1 films of test has genres"),
        ([Film(genres=("Drama",))], "none of the 1 labelled films of test can be read; the first: "),
    ],
)
def test_nothing_to_score_is_said_in_one_line(tiny_bundle: Path, films: list[Film], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        evaluate(load(tiny_bundle), films)
    assert "\n" not in str(caught.value)


def test_the_baseline_is_shown_for_conditions_whose_films_all_show_a_plot(report: Report) -> None:
    assert {name for name, condition in by_name(report).items() if condition.baseline} == {
        "plot and poster",
        "plot only",
        "plot only, no title",
        "plot only, of films with both",
    }
    baseline = by_name(report)["plot only"].baseline
    ours = by_name(report)["plot only"].tuned
    assert baseline.gain["macro_f1"].value == pytest.approx(ours.macro_f1.value - baseline.scores.macro_f1.value)
    assert "50 plots of train" in report.baseline_note


def test_confusions_count_missed_genres_against_wrongly_given_ones(tiny_bundle: Path) -> None:
    films = [Film(plot="a ghost haunted monster", genres=("Comedy",))] * 3 + [Film(plot="a ghost", genres=("Horror",))]
    report = evaluate(load(tiny_bundle), films, bootstrap=0)
    genres = report.model["genres"]
    confusions = np.array(report.conditions[0].curves["confusions"])
    assert confusions[genres.index("Comedy"), genres.index("Horror")] == 3
    assert confusions.sum() == 3


def test_weak_groups_are_those_whose_interval_lies_below_the_whole(tiny_bundle: Path) -> None:
    good = [Film(plot="a ghost haunted monster", year=1999, genres=("Horror",))] * 60
    bad = [Film(plot="a ghost haunted monster " + "the " * 30, year=1931, genres=("Comedy",))] * 30
    few = [Film(plot="a ghost haunted monster", year=1950, genres=("Comedy",))] * 5
    groups = evaluate(load(tiny_bundle), good + bad + few, bootstrap=50).groups
    found = {(group.kind, group.name): group.weak for group in groups}
    assert found[("decade", "1930s")]
    assert not found[("decade", "1990s")]
    assert ("decade", "1950s") not in found, "five films are too few to speak of"
    assert found[("plot length", "20–39 words")]
    assert not found[("plot length", "under 20 words")]
    assert found[("genre", "Comedy")]


def spoken(language: str | None, count: int, genre: str = "Horror") -> list[Film]:
    return [
        Film(plot="a ghost haunted monster", genres=(genre,), record={"language": language, "studio": "Ufa"})
    ] * count


def test_each_language_is_scored_by_itself_if_the_table_has_a_column_for_it(tiny_bundle: Path, tmp_path: Path) -> None:
    films = [*spoken("en", 30), *spoken("pt", 25, "Comedy"), *spoken("de", 3), *spoken(None, 4)]
    report = evaluate(load(tiny_bundle), films, bootstrap=20)
    assert report.by == ("language",)
    found = {group.name: group for group in report.groups if group.kind == "language"}
    assert {name: group.films for name, group in found.items()} == {"en": 30, "pt": 25}, "three films say nothing"
    alone = evaluate(load(tiny_bundle), films[:30], bootstrap=20).conditions[0].tuned
    assert found["en"].f1 == alone.micro_f1
    assert found["en"].macro_f1 == alone.macro_f1
    assert found["en"].mean_average_precision == alone.mean_average_precision
    assert found["pt"].weak and not found["en"].weak
    pages = {path.suffix: path.read_text(encoding="utf-8") for path in write_report(report, tmp_path)}
    assert "## By language" in pages[".md"] and "| pt | 25 |" in pages[".md"]
    assert "<h2>By language</h2>" in pages[".html"]


def test_genres_that_a_source_leaves_unknown_count_for_nothing(tiny_bundle: Path, films: list[Film]) -> None:
    # IMDb names three genres at most, so of these films nothing is known but the three.
    full = [replace(film, labels="imdb", genres=("Crime", "Horror", "Music")) for film in films]
    scores = evaluate(load(tiny_bundle), full, bootstrap=0).conditions[0].tuned
    by_genre = {genre.genre: genre for genre in scores.genres}
    assert by_genre["Drama"].support == by_genre["Drama"].chosen == 0
    assert by_genre["Drama"].average_precision.value is None
    assert by_genre["Crime"].support == len(films)


def test_scores_of_some_genres_are_those_of_the_full_report(
    tiny_bundle: Path, films: list[Film], report: Report
) -> None:
    some = evaluate(load(tiny_bundle), films, genres=("Horror", "Crime"), bootstrap=0).conditions[0].tuned
    full = {genre.genre: genre for genre in report.conditions[0].tuned.genres}
    assert [genre.genre for genre in some.genres] == ["Horror", "Crime"]
    assert all(genre.f1.value == full[genre.genre].f1.value for genre in some.genres)
    with pytest.raises(UsageError, match="has no genre Western"):
        evaluate(load(tiny_bundle), films, genres=("Western",))


@pytest.fixture(scope="module")
def written(report: Report, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("report") / "new"
    return {path.suffix: path.read_text(encoding="utf-8") for path in write_report(report, folder)}


def test_the_json_holds_every_number_of_the_report(report: Report, written: dict[str, str]) -> None:
    assert json.loads(written[".json"]) == json.loads(json.dumps(report.to_json()))


def test_the_markdown_has_tables_whose_rows_are_as_long_as_their_heads(report: Report, written: dict[str, str]) -> None:
    widths = []
    for line in written[".md"].splitlines():
        if line.startswith("|"):
            widths.append(line.count("|"))
        else:
            assert len(set(widths)) <= 1, widths
            widths = []
    micro = by_name(report)["poster only"].tuned.micro_f1
    row = f"| poster only | 35 | none | {micro.value:.3f} ({micro.low:.3f}–{micro.high:.3f}) |"
    assert row in written[".md"]


def test_the_page_stands_alone_with_its_figures_inside(written: dict[str, str]) -> None:
    page = written[".html"]
    assert re.findall(r'\s(?:src|href|xlink:href)="[^#]', page) == []
    assert "<script" not in page
    every_id = re.findall(r'\sid="([^"]+)"', page)
    assert len(every_id) == len(set(every_id))
    figures = re.findall(r"<svg.*?</svg>", page, re.S)
    assert len(figures) == 3 * 4 + 1  # four for each of three conditions, and coverage
    for figure in figures:
        ids = set(re.findall(r'\bid="([^"]+)"', figure))
        ElementTree.fromstring(figure)
        assert set(re.findall(r'(?:xlink:href="#|url\(#)([^")]+)', figure)) <= ids
    assert "currentColor" in page
    assert "#010203" not in page


def test_equal_evaluations_give_equal_bytes(tiny_bundle: Path, films: list[Film], tmp_path: Path) -> None:
    def write(name: str) -> list[bytes]:
        report = evaluate(load(tiny_bundle), films[50:], bootstrap=20)
        return [path.read_bytes() for path in write_report(report, tmp_path / name)]

    assert write("first") == write("second")


def test_names_from_outside_are_shown_as_text(tiny_bundle: Path, tmp_path: Path) -> None:
    films = [Film(plot="a ghost", genres=("Horror",))]
    hostile = {"data": "<script>alert(1)</script>|x"}
    report = evaluate(load(tiny_bundle), films, bootstrap=0, data=hostile, split="<b>")
    pages = {path.suffix: path.read_text(encoding="utf-8") for path in write_report(report, tmp_path)}
    assert "<script>" not in pages[".html"]
    assert "&lt;b&gt;" in pages[".html"]
