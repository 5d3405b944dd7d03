from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from out_of_domain import pictures, texts
from PIL import Image

from mmgcs import Film, load
from mmgcs.bundle import DEFAULT_BUNDLE, Bundle
from mmgcs.errors import BundleError
from mmgcs.evaluation import add_domain, evaluate, fit_domain
from mmgcs.files import write_json
from mmgcs.runtime import DOMAIN, DOMAIN_FILE, Domain

WORDS = "ghost haunted vampire village night detective murder gangster love marriage city young man woman two".split()
SURE = "The story of ghost village city man haunted night two murder young woman detective city and their family"


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> list[Film]:
    """600 films to fit on and 150 for limits: English plots of a dozen words, a fifth of them with a poster."""
    folder = tmp_path_factory.mktemp("posters")
    random = np.random.default_rng(0)
    made = []
    for number in range(750):
        plot = "The story of " + " ".join(random.choice(WORDS, 12)) + " and their family in the city"
        made.append(Film(id=str(number), plot=plot, genres=("Horror",), split="train" if number < 600 else "valid"))
    Image.new("RGB", (60, 90), "red").save(folder / "red.png")
    return [*made, Film(id="p", poster=folder / "red.png", genres=("Drama",), split="train")]


@pytest.fixture(scope="module")
def fitted(tiny_bundle: Path, films: list[Film], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle with detectors of strange plots."""
    path = tmp_path_factory.mktemp("fitted") / "bundle"
    shutil.copytree(tiny_bundle, path)
    add_domain(path, fit_domain(load(path), films))
    return path


def test_an_input_unlike_films_is_not_sure_however_confident(fitted: Path, tiny_bundle: Path) -> None:
    plain = Film(plot=SURE)
    german = Film(plot="Ein ghost geht durch das haunted Dorf und der detective wird bei einem murder gesehen")
    (before,) = load(tiny_bundle).predict_batch([german])
    assert before.sure
    known, strange = load(fitted).predict_batch([plain, german])
    assert known.sure and not known.warnings
    assert not strange.sure and any("unlike those of the films" in warning for warning in strange.warnings)
    assert strange.genres == before.genres and strange.confidence == before.confidence


def test_few_films_of_the_domain_are_called_strange(fitted: Path, films: list[Film]) -> None:
    classifier = load(fitted)
    strange = classifier.features([film for film in films if film.split == "valid"]).strange
    assert strange is not None and strange.mean() <= 0.02


def test_a_branch_with_few_films_gets_no_detectors(tiny_bundle: Path, films: list[Film]) -> None:
    said: list[str] = []
    domain = fit_domain(load(tiny_bundle), films, log=said.append)
    assert {one.branch for one in domain.detectors} == {"plot"}
    assert said[-1] == "poster: too few films to tell what is none"


def test_plots_in_another_language_are_no_strangers_to_a_model_of_that_language(tiny_bundle: Path) -> None:
    german = [
        Film(plot=f"Der junge Mann sucht seit {n} Jahren nach dem {WORDS[n % 8]} und seiner Tante", split=split)
        for n in range(750)
        for split in (["train"] if n < 600 else ["valid"])
    ]
    assert [one.view for one in fit_domain(load(tiny_bundle), german).detectors] == ["features"]


def test_the_evaluation_counts_strange_films_as_not_sure(fitted: Path) -> None:
    classifier = load(fitted)
    films = [Film(plot=SURE, genres=("Horror",))] * 3 + [Film(plot="ghost murder in " * 9, genres=("Horror",))]
    sure = [prediction.sure for prediction in classifier.predict_batch(films)]
    assert sure == [True, True, True, False]
    assert evaluate(classifier, films, bootstrap=0).conditions[0].abstention["sure"] == 0.75


def test_detectors_survive_the_bundle_and_an_older_reader_ignores_what_it_does_not_know(fitted: Path, tmp_path) -> None:
    bundle = Bundle(fitted)
    assert bundle.check() == []
    before = Domain.of(bundle).detectors
    shutil.copytree(fitted, tmp_path / "new")
    config = json.loads((fitted / "bundle.json").read_text(encoding="utf-8"))
    config["extra"][DOMAIN]["detectors"][0]["view"] = "smell"
    write_json(tmp_path / "new" / "bundle.json", config)
    assert len(Domain.of(Bundle(tmp_path / "new", check=False)).detectors) == len(before) - 1


def test_a_damaged_file_of_detectors_is_one_clear_error(fitted: Path, tmp_path: Path) -> None:
    shutil.copytree(fitted, tmp_path / "bad")
    (tmp_path / "bad" / DOMAIN_FILE).write_bytes(b"PK\x03\x04 not an archive")
    with pytest.raises(BundleError, match="download or export the bundle again"):
        Domain.of(Bundle(tmp_path / "bad", check=False))


@pytest.mark.parametrize(("kind", "least"), [("plot", 0.9), ("poster", 0.8)])
def test_the_default_bundle_is_not_sure_of_what_is_no_film(kind: str, least: float) -> None:
    classifier = load(DEFAULT_BUNDLE)
    if DOMAIN not in classifier.bundle.config.extra:
        pytest.skip("the default bundle has no detectors yet")
    if kind == "plot":
        films = [Film(plot=text) for half in ("tune", "held", "blind") for _, text in texts(half)]
    else:
        films = [Film(poster=picture) for half in ("tune", "held") for _, picture in pictures(half)]
    unsure = [not prediction.sure for prediction in classifier.predict_batch(films)]
    assert np.mean(unsure) >= least
