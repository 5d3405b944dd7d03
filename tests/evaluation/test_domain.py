"""Pictures that are no posters, and texts that are no plots, are answered as not sure."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from out_of_domain import KINDS, pictures, texts
from PIL import Image, ImageFilter

from mmgcs import Film, load
from mmgcs.bundle import CONFIG, DEFAULT_BUNDLE, Bundle, seal, write_bundle
from mmgcs.errors import BundleError
from mmgcs.evaluation import evaluate, fit_pictures
from mmgcs.files import write_json
from mmgcs.preprocess import identify_language
from mmgcs.runtime import DETECTOR_KEY, PictureDetector

SURE = "The story of ghost village city man haunted night two murder young woman detective city and their family"


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> list[Film]:
    """500 posters to fit on and 100 for the limit: soft coloured shapes."""
    folder = tmp_path_factory.mktemp("posters")
    random = np.random.default_rng(0)
    made = []
    for number in range(600):
        small = random.integers(0, 256, (6, 4, 3), dtype=np.uint8)
        picture = Image.fromarray(small).resize((60, 90)).filter(ImageFilter.GaussianBlur(random.uniform(0, 3)))
        picture.save(folder / f"{number}.png")
        split = "train" if number < 500 else "valid"
        made.append(Film(id=str(number), poster=folder / f"{number}.png", genres=("Horror",), split=split))
    return made


@pytest.fixture(scope="module")
def fitted(tiny_bundle: Path, films: list[Film], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle with a detector."""
    old = Bundle(tiny_bundle)
    config = replace(old.config, extra=fit_pictures(load(tiny_bundle), films))
    path = tmp_path_factory.mktemp("fitted") / "bundle"
    return write_bundle(path, config, lambda folder: old.copy_to(folder, without=(CONFIG,))).path


def test_a_picture_unlike_posters_is_not_sure_and_its_answer_is_unchanged(fitted: Path, tiny_bundle: Path) -> None:
    noise = Film(plot=SURE, poster=dict(pictures("tune"))["noise"])
    (before,), (strange,) = load(tiny_bundle).predict_batch([noise]), load(fitted).predict_batch([noise])
    assert before.sure
    assert not strange.sure and any("poster is unlike those of the films" in one for one in strange.warnings)
    assert (strange.genres, strange.confidence) == (before.genres, before.confidence)


def test_few_posters_are_called_strange(fitted: Path, films: list[Film]) -> None:
    strange = load(fitted).features([film for film in films if film.split == "valid"]).strange
    assert strange is not None and strange.mean() <= 0.02


def test_a_bundle_gets_no_detector_from_few_posters(tiny_bundle: Path, films: list[Film]) -> None:
    said: list[str] = []
    assert fit_pictures(load(tiny_bundle), films[400:], log=said.append) == {}
    assert said == ["too few posters to fit the detector of pictures that are not posters"]


def test_the_evaluation_counts_strange_films_as_not_sure(fitted: Path) -> None:
    german = "Ein ghost geht durch das haunted Dorf und der vampire wird bei einem murder gesehen"
    films = [Film(plot=plot, genres=("Horror",)) for plot in (SURE, SURE, SURE, german)]
    assert evaluate(load(fitted), films, bootstrap=0).conditions[0].abstention["sure"] == 0.75


def test_a_damaged_detector_is_one_clear_error(fitted: Path, tmp_path: Path) -> None:
    shutil.copytree(fitted, tmp_path / "bad")
    config = json.loads((fitted / "bundle.json").read_text(encoding="utf-8"))
    config["extra"][DETECTOR_KEY]["mean"] = [1.0, 2.0]
    write_json(tmp_path / "bad" / "bundle.json", config)
    seal(tmp_path / "bad")
    with pytest.raises(BundleError, match="download or export the bundle again"):
        PictureDetector.of(Bundle(tmp_path / "bad"))


@pytest.mark.parametrize(("kind", "least"), [("plot", 0.7), ("poster", 0.75)])
def test_the_default_bundle_is_not_sure_of_what_is_no_film(kind: str, least: float) -> None:
    classifier = load(DEFAULT_BUNDLE)
    if kind == "plot":
        found = [text for half in ("tune", "held", "blind") for _, text in texts(half)]
        films = [Film(plot=text) for text in found if identify_language(text) in (None, "und", "en")]
    else:
        films = [Film(poster=picture) for half in ("tune", "held") for _, picture in pictures(half)]
        assert len(films) == 4 * len(KINDS)
    unsure = [not prediction.sure for prediction in classifier.predict_batch(films)]
    assert np.mean(unsure) >= least
