"""Bundles that people have still load: tests/data/bundle-1.0 was made with the first format (tests/old_bundle.py)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import mmgcs
from mmgcs.bundle import MANIFEST, Bundle
from mmgcs.cli import main
from mmgcs.errors import InputError

OLD = Path(__file__).parent / "data" / "bundle-1.0"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(OLD, tmp_path / "copy"))


def in_format(bundle: Path, version: str) -> Path:
    manifest = json.loads((bundle / MANIFEST).read_text(encoding="utf-8"))
    (bundle / MANIFEST).write_text(json.dumps({**manifest, "format_version": version}), encoding="utf-8")
    return bundle


def test_a_bundle_of_the_first_format_predicts_as_it_always_did() -> None:
    assert Bundle(OLD).format_version == (1, 0)
    classifier = mmgcs.load(OLD)
    horror, comedy, neither = classifier.predict_batch(
        [
            mmgcs.Film(plot="A vampire leaves the grave."),
            mmgcs.Film(plot="it is a silly joke", title="Funny"),
            mmgcs.Film(plot="a walk in the park"),
        ]
    )
    # sigmoid(3 · words − 1): two words of horror, three of comedy with the title's, none.
    assert horror.probabilities == pytest.approx({"Comedy": 0.268941, "Horror": 0.993307}, abs=1e-5)
    assert comedy.probabilities == pytest.approx({"Comedy": 0.999665, "Horror": 0.268941}, abs=1e-5)
    assert (horror.genres, comedy.genres, neither.genres) == (("Horror",), ("Comedy",), ())
    assert (horror.sure, comedy.sure, neither.sure) == (True, True, False)
    assert (horror.possible, horror.undecided) == ((), ())  # added by later formats


def test_a_bundle_of_plots_refuses_a_poster() -> None:
    with pytest.raises(InputError, match="this model reads a plot"):
        mmgcs.load(OLD).predict(poster=b"picture")


def test_a_later_minor_format_with_keys_of_its_own_loads(copy: Path) -> None:
    classifier = mmgcs.load(in_format(copy, "1.9"))
    prediction = classifier.predict(plot="A vampire leaves the grave.")
    assert classifier.bundle.format_version == (1, 9)
    assert prediction.genres == ("Horror",)


def test_a_later_major_format_is_refused_in_one_line(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    in_format(copy, "2.0")
    assert main(["predict", "--model", str(copy), "--plot", "A ghost."]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "has bundle format 2.0" in line and "upgrade mmgcs" in line
