"""The scores page shows the measurements in a bundle's card, with intervals and curves."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from mmgcs import load
from mmgcs.bundle import CARD_JSON, seal
from mmgcs.evaluation import evaluate
from mmgcs.sample import sample_films
from mmgcs.training.card import summarised
from mmgcs.web import Settings, create_app


@pytest.fixture(scope="module")
def evaluation(tiny_bundle: Path) -> dict[str, Any]:
    report = evaluate(load(tiny_bundle), sample_films(), split="test", bootstrap=50)
    return json.loads(json.dumps(summarised(report)))


def page(tiny_bundle: Path, folder: Path, card: dict[str, Any]) -> str:
    bundle = Path(shutil.copytree(tiny_bundle, folder / "bundle"))
    (bundle / CARD_JSON).write_text(json.dumps(card))
    seal(bundle)
    answer = create_app(bundle, Settings()).test_client().get("/scores")
    assert answer.status_code == 200
    return answer.text


def test_scores_intervals_and_curves_of_each_genre_are_shown(
    tiny_bundle: Path, tmp_path: Path, evaluation: dict[str, Any]
) -> None:
    shown = page(tiny_bundle, tmp_path, {"name": "tiny", "evaluation": evaluation})
    assert re.search(r"Of 100 genres that the model predicts, about \d+ are right", shown)
    for condition in evaluation["conditions"]:
        assert f"<h3>{condition['name']}</h3>" in shown
        for genre in condition["tuned"]["genres"]:
            if genre["f1"]["value"] is not None and genre["f1"]["low"] is not None:
                assert f"{genre['f1']['low']:.3f}–{genre['f1']['high']:.3f}" in shown
        curves = condition["curves"]
        assert sum(map(bool, curves["precision"].values())) >= 3
        for genre, points in curves["precision"].items():
            assert len(points) in (0, 20)  # none where no film has the genre
            if points:
                assert f'aria-label="{genre}: precision by recall, from {points[0]:.2f} at 0.05 to' in shown
        assert set(curves["reliability"]) == {genre["genre"] for genre in condition["tuned"]["genres"]}
    assert len(re.findall(r"<polyline points=\"\d", shown)) >= 10


def test_a_card_without_curves_or_without_measurements_is_shown_too(
    tiny_bundle: Path, tmp_path: Path, evaluation: dict[str, Any]
) -> None:
    older = json.loads(json.dumps(evaluation))
    for condition in older["conditions"]:
        del condition["curves"]
    assert "Precision and recall" not in page(tiny_bundle, tmp_path / "older", {"evaluation": older})
    assert "no measurements" in page(tiny_bundle, tmp_path / "none", {})
