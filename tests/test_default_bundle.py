"""The bundle that ships: whole, small, free of torch, and as good as its card says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import mmgcs
from mmgcs.bundle import DEFAULT_BUNDLE, Bundle
from mmgcs.sample import sample_films

REALDATA = Path(os.environ.get("MMGCS_REALDATA", Path(__file__).parents[2] / "shared" / "data"))

# What the default bundle must reach on `test`, with thresholds from `valid`: micro-F1, macro-F1, mAP.
FLOORS = {
    "plot and poster": (0.700, 0.666, 0.714),
    "plot only": (0.666, 0.636, 0.674),
    "poster only": (0.538, 0.424, 0.415),
}


def test_the_default_bundle_is_whole_and_at_most_64_mb():
    bundle = Bundle(DEFAULT_BUNDLE)
    assert bundle.check() == []
    assert sum(entry["bytes"] for entry in bundle.files.values()) <= 64_000_000


def test_predicting_and_tagging_import_neither_torch_nor_other_training_libraries():
    code = (
        "import sys, mmgcs, mmgcs.cli, mmgcs.tables, mmgcs.runtime.batch\n"
        "mmgcs.load().predict(plot='A ghost haunts an old house by the sea.')\n"
        "bad = {'torch', 'sklearn', 'transformers', 'pytorch_lightning', 'matplotlib', 'scipy'} & set(sys.modules)\n"
        "sys.exit(', '.join(bad) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_most_films_of_the_sample_get_one_of_their_genres_first():
    films = sample_films()
    predictions = mmgcs.load().predict_batch(films)
    assert all(prediction.error is None for prediction in predictions)
    hits = [
        prediction.top(1)[0] in (film.genres or ())
        for film, prediction in zip(films, predictions, strict=True)
        if film.plot
    ]
    assert sum(hits) / len(hits) > 0.7


def test_one_film_gets_the_same_answer_alone_and_among_others():
    films = [film for film in sample_films() if film.plot][:8]
    classifier = mmgcs.load()
    together = classifier.predict_batch(films)
    for film, prediction in zip(films, together, strict=True):
        alone = classifier.predict_batch([film])[0]
        differences = [abs(alone.probabilities[g] - prediction.probabilities[g]) for g in classifier.genres]
        # Dynamic int8 scales activations by batch, which moves a probability by a few hundredths at most.
        assert max(differences) < 0.1


@pytest.mark.realdata
@pytest.mark.skipif(not (REALDATA / "films.csv").is_file(), reason="no real films at hand")
def test_the_default_bundle_reaches_its_floors_on_real_films():
    from mmgcs.evaluation import evaluate
    from mmgcs.tables import read_films

    films = [film for chunk in read_films(REALDATA / "films.csv", posters=REALDATA) for film in chunk]
    test = [film for film in films if film.split == "test"]
    report = evaluate(mmgcs.load(), test, bootstrap=0)
    reached = {
        condition.name: tuple(
            getattr(condition.tuned, name).value for name in ("micro_f1", "macro_f1", "mean_average_precision")
        )
        for condition in report.conditions
    }
    print(reached)
    for name, floor in FLOORS.items():
        assert all(value >= least for value, least in zip(reached[name], floor, strict=True)), (name, reached[name])
    # The fused model answers each single input at least as well as its card says, on the films that have both.
    assert min(reached["plot and poster"]) > max(min(reached["plot only"]), min(reached["poster only"]))
