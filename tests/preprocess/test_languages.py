"""The language of a plot is identified, and predictions warn about languages the model has not learned."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mmgcs import Film, load
from mmgcs.bundle import CONFIG, Bundle, write_bundle
from mmgcs.preprocess import LANGUAGES, identify_language, odd_plot
from mmgcs.sample import sample_films

PLOTS = {
    "de": "Zwei Ermittler jagen einen Mörder durch die Stadt und geraten dabei selbst unter Verdacht.",
    "fr": "Deux policiers poursuivent un assassin dans les rues de Paris pendant que la ville dort encore.",
    "it": "Due investigatori inseguono un assassino per le strade di Napoli mentre la città dorme ancora.",
    "nl": "Twee rechercheurs jagen op een moordenaar in de stad en worden daarbij zelf verdacht.",
    "pl": "Dwóch detektywów ściga mordercę po ulicach Warszawy, a miasto wciąż jeszcze śpi.",
    "ru": "Два детектива преследуют убийцу в большом городе, который никогда не спит и ничего не прощает.",
    "zh": "两名侦探在城市里追捕一名杀手。",
}


@pytest.fixture(scope="module")
def polyglot(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle, said to have learned English and French."""
    old = Bundle(tiny_bundle)
    config = replace(old.config, languages=("en", "fr"))
    return write_bundle(
        tmp_path_factory.mktemp("polyglot") / "bundle", config, lambda folder: old.copy_to(folder, without=(CONFIG,))
    ).path


@pytest.mark.parametrize("code", PLOTS)
def test_the_language_of_a_plot_is_identified(code: str) -> None:
    assert identify_language(PLOTS[code]) == code


def test_a_script_that_only_unlearned_languages_use_is_enough_for_a_warning() -> None:
    plot = "Два детектива охотятся за убийцей в подземном мире города."  # little Russian that Bulgarian is not
    assert odd_plot(plot, {"en", "fr"}) == (
        "the plot seems to be in Russian, a language the model has not learned; expect errors"
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Love in Paris.",
        "😀",
        "Amor en Madrid y Lisboa.",
        "The life of Swedish pop star Ted Gärdestad.",
        "83 19 4471 002 56.3 77 8120 14",
    ],
)
def test_short_texts_and_those_without_words_are_not_judged(text: str) -> None:
    assert identify_language(text) is None


def test_a_program_reads_like_no_language(polyglot: Path) -> None:
    text = "def fibonacci(n): a, b = 0, 1; for _ in range(n): a, b = b, a + b; return [a, b]"
    (prediction,) = load(polyglot).predict_batch([Film(plot=text)])
    assert any("not read like sentences" in warning for warning in prediction.warnings)
    assert prediction.strange == ("plot",)


@pytest.mark.parametrize("code", ["de", "pl", "zh"])
def test_a_plot_in_a_language_that_was_not_learned_is_answered_with_a_warning(polyglot: Path, code: str) -> None:
    (prediction,) = load(polyglot).predict_batch([Film(plot=PLOTS[code])])
    warning = f"the plot seems to be in {LANGUAGES[code]}, a language the model has not learned; expect errors"
    assert prediction.error is None and prediction.probabilities
    assert warning in prediction.warnings
    assert (prediction.strange, prediction.sure) == (("plot",), False)


def test_a_bundle_names_the_languages_it_has_learned_or_else_it_reads_english(
    polyglot: Path, tiny_bundle: Path
) -> None:
    assert load(polyglot).predict(plot=PLOTS["fr"]).warnings == ()
    assert any("French" in warning for warning in load(tiny_bundle).predict(plot=PLOTS["fr"]).warnings)
    assert Bundle(tiny_bundle).config.languages == ("en",)


def test_the_language_is_not_asked_where_only_the_poster_is_read(tiny_bundle: Path, tmp_path: Path) -> None:
    poster = next(film.poster for film in sample_films() if film.poster)
    code = (
        f"import sys, mmgcs; mmgcs.load({str(tiny_bundle)!r}).predict(poster={str(poster)!r});"
        "sys.exit('py3langid' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
