"""A bundle is called whole only when its files, its graphs and its card agree."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from mmgcs import load
from mmgcs.bundle import CARD_JSON, seal
from mmgcs.runtime import CARD_KEY, record_samples, verify


@pytest.fixture
def copy(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "copy"))


def record(bundle: Path, shift: float = 0.0) -> None:
    rows = record_samples(load(bundle))
    rows[0]["probabilities"] = {genre: value + shift for genre, value in rows[0]["probabilities"].items()}
    (bundle / CARD_JSON).write_text(json.dumps({CARD_KEY: rows}), encoding="utf-8")
    seal(bundle)


def test_a_whole_bundle_passes_every_check(copy: Path) -> None:
    record(copy)
    checks = verify(copy)
    assert [(check.name, check.passed) for check in checks] == [("sums", True), ("predicts", True), ("card", True)]
    assert "recorded predictions is 0.0000" in checks[-1].detail


def test_a_card_that_says_something_else_is_found(copy: Path) -> None:
    record(copy, shift=0.2)
    assert [check.passed for check in verify(copy)] == [True, True, False]


def test_a_changed_file_is_found_before_anything_is_run(copy: Path) -> None:
    (copy / "poster.onnx").write_bytes(b"changed")
    (check,) = verify(copy)
    assert not check.passed
    assert "poster.onnx" in check.detail


def test_a_graph_that_does_not_run_is_found(copy: Path) -> None:
    (copy / "poster.onnx").write_bytes(b"changed")
    seal(copy)
    assert [check.passed for check in verify(copy)] == [True, False]
