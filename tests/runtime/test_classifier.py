"""The classifier answers for a plot, a poster or both, and says what it read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars
import pytest
from PIL import Image

from mmgcs import Film, load
from mmgcs.errors import InputError, UsageError
from mmgcs.sample import sample_films

PLOT = "Two detectives hunt a killer through the city"


@pytest.fixture
def poster(tmp_path: Path) -> Path:
    path = tmp_path / "poster.png"
    Image.new("RGB", (200, 300), (200, 30, 30)).save(path)
    return path


def test_a_plot_gives_its_genres_and_names_its_input(tiny_bundle: Path) -> None:
    prediction = load(tiny_bundle).predict(plot=PLOT)
    assert prediction.genres == ("Crime", "Thriller")
    assert prediction.inputs == ("plot",)
    assert list(prediction.probabilities) == list(load(tiny_bundle).genres)
    assert all(0.0 <= value <= 1.0 for value in prediction.probabilities.values())


def test_a_poster_is_read_alone_and_with_a_plot(tiny_bundle: Path, poster: Path) -> None:
    classifier = load(tiny_bundle)
    assert classifier.predict(poster=poster).inputs == ("poster",)
    both = classifier.predict(plot=PLOT, poster=poster)
    assert both.inputs == ("plot", "poster")
    assert both.probabilities != classifier.predict(plot=PLOT).probabilities


def test_a_batch_answers_like_single_films_and_in_their_order(tiny_bundle: Path, poster: Path) -> None:
    classifier = load(tiny_bundle)
    films = [Film(plot=PLOT), Film(poster=poster), Film(), Film(plot="A haunted village", poster=poster)]
    batch = classifier.predict_batch(films)
    assert [prediction.error is None for prediction in batch] == [True, True, False, True]
    for film, prediction in zip(films, batch, strict=True):
        alone = classifier.predict_batch([film])[0]
        assert alone.genres == prediction.genres
        values = [list(alone.probabilities.values()), list(prediction.probabilities.values())]
        np.testing.assert_allclose(values[0], values[1], atol=2e-6)


def test_a_film_with_an_unreadable_poster_is_predicted_from_its_plot_with_a_warning(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    film = Film(plot=PLOT, poster=tmp_path / "none.jpg")
    (prediction,) = load(tiny_bundle).predict_batch([film])
    assert prediction.error is None
    assert prediction.inputs == ("plot",)
    assert any("none.jpg does not exist" in warning for warning in prediction.warnings)


def test_a_web_address_is_not_called_a_missing_file(tiny_bundle: Path) -> None:
    with pytest.raises(InputError, match="the poster is a web address; download the image"):
        load(tiny_bundle).predict(poster="https://m.example.org/a.jpg")


@pytest.mark.parametrize("plot", [None, "", " \n\t ", "\u200b\x00"])
def test_nothing_to_read_is_an_input_error(tiny_bundle: Path, plot: str | None) -> None:
    with pytest.raises(InputError, match="plot"):
        load(tiny_bundle).predict(plot=plot)


@pytest.mark.parametrize("one", [PLOT, {"plot": PLOT}, Film(plot=PLOT)])
def test_one_film_instead_of_a_list_is_refused(tiny_bundle: Path, one: Any) -> None:
    with pytest.raises(UsageError, match="a list of films is needed"):
        load(tiny_bundle).predict_batch(one)
    with pytest.raises(UsageError, match="reads a whole frame"):
        load(tiny_bundle).predict_batch(polars.DataFrame({"plot": [PLOT]}))


def test_a_missing_bundle_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        load(tmp_path / "nowhere")


def test_a_film_is_answered_the_same_alone_and_among_others():
    # The default graph of plots scales its 8-bit activations as they come: in one batch, films would share a scale.
    films = [Film(id=str(index), plot=film.plot) for index, film in enumerate(sample_films()) if film.plot][:12]
    classifier = load()
    together = classifier.predict_batch(films)
    alone = [classifier.predict(film.plot) for film in films]
    other = load(threads=1).predict_batch(films[:5])
    assert [one.probabilities for one in together] == [one.probabilities for one in alone]
    assert [one.probabilities for one in together[:5]] == [one.probabilities for one in other]


def test_a_poster_is_read_from_any_kind_of_bytes(tiny_bundle: Path) -> None:
    classifier = load(tiny_bundle)
    content = next(film.poster for film in sample_films() if isinstance(film.poster, Path)).read_bytes()
    kinds = (content, bytearray(content), memoryview(content))
    found = classifier.predict_batch([Film(poster=kind) for kind in kinds])
    assert {prediction.error for prediction in found} == {None}
    assert len({tuple(prediction.probabilities.values()) for prediction in found}) == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"plot": 5}, r"the plot is of the type int; give a text \(str\)"),
        ({"plot": b"a ghost"}, r"the plot is of the type bytes; give a text \(str\)"),
        ({"plot": PLOT, "title": 5}, r"the title is of the type int; give a text \(str\)"),
        ({"poster": 5}, "the poster is of the type int; give an image file's path, or its bytes"),
        ({"poster": [b""]}, "the poster is of the type list; give an image file's path, or its bytes"),
    ],
)
def test_what_is_no_text_and_no_picture_is_refused_by_its_type(tiny_bundle: Path, given, message) -> None:
    classifier = load(tiny_bundle)
    with pytest.raises(InputError, match=f"^{message}$"):
        classifier.predict(**given)
    (prediction,) = classifier.predict_batch([Film(**given)])
    assert prediction.error is not None


@pytest.mark.parametrize(("plot", "strange"), [("War.", ("plot",)), ("A war and a love.", ())])
def test_a_plot_of_a_few_words_is_answered_but_never_sure(tiny_bundle, plot, strange):
    (prediction,) = load(tiny_bundle).predict_batch([Film(plot=plot)])
    assert prediction.probabilities and prediction.strange == strange
    assert not (strange and prediction.sure)
