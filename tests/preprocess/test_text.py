"""Plots of every kind are cleaned and turned into tokens."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmgcs import load
from mmgcs.errors import BundleError
from mmgcs.film import Film
from mmgcs.preprocess import PREPROCESSORS, clean_text, film_text

ENGLISH = "Two detectives hunt a killer through the city and fall in love with the same singer."


def test_control_and_invisible_characters_are_removed() -> None:
    assert clean_text("\ufeffA\x00 thief\u200b re\x07turns\r\n\tat  night ") == "A thief returns at night"


@pytest.mark.parametrize("end", ["\r", "\r\n", *"\x0b\x0c\x1c\x1d\x1e\x1f\x85\u2028\u2029"])
def test_what_ends_a_line_or_a_word_separates_words(end: str) -> None:
    assert clean_text(f"first{end}second") == "first second"


def test_the_title_is_a_sentence_before_the_plot() -> None:
    assert film_text("A thief returns.", " Heist\n") == "Heist. A thief returns."
    assert film_text("A thief returns.") == "A thief returns."


@given(st.text(st.characters(exclude_categories=())))
def test_cleaning_never_fails_and_is_stable(text: str) -> None:
    cleaned = clean_text(text)
    assert clean_text(cleaned) == cleaned
    cleaned.encode()


def test_five_megabytes_of_plot_are_cut_with_a_warning(tiny_bundle: Path) -> None:
    (prediction,) = load(tiny_bundle).predict_batch([Film(plot=ENGLISH * 60_000)])
    assert prediction.error is None
    assert prediction.genres
    (warning,) = prediction.warnings
    assert "characters; only the first 20,000 were read" in warning


def test_a_plot_over_the_token_limit_is_cut_with_a_warning(tiny_bundle: Path) -> None:
    (prediction,) = load(tiny_bundle).predict_batch([Film(plot=ENGLISH * 8)])
    assert any("longer than the 64 tokens" in warning for warning in prediction.warnings)


@pytest.mark.parametrize("plot", ["\ud800 love and the city", "😀🎬💥", "love\x00 and the\x1b[31m city", "\u202elove"])
def test_emoji_control_characters_and_broken_unicode_are_predicted(tiny_bundle: Path, plot: str) -> None:
    (prediction,) = load(tiny_bundle).predict_batch([Film(plot=plot)])
    assert prediction.error is None


def test_a_blank_plot_with_a_title_is_no_plot(tiny_bundle: Path) -> None:
    (prediction,) = load(tiny_bundle).predict_batch([Film(title="Love", plot="\u200b")])
    assert prediction.error is not None


def test_a_broken_tokenizer_is_the_bundles_fault() -> None:
    with pytest.raises(BundleError, match="is not a tokenizer"):
        PREPROCESSORS["tokens"]({"tokenizer": "t.json", "max_tokens": 8}, lambda name: b"{}")
