"""`mmgcs doctor` examines the installation."""

from __future__ import annotations

import importlib.metadata
import json

import pytest
from packaging.requirements import Requirement

import mmgcs
from mmgcs.cli import main
from mmgcs.doctor import _ask, examine, is_met


@pytest.fixture(scope="module")
def findings():
    return {finding.name: finding for finding in examine()}


def test_a_whole_installation_works_and_lacks_nothing_it_needs(findings):
    extras = {f"extra {name}" for name in importlib.metadata.metadata("mmgcs").get_all("Provides-Extra")}
    assert {"Python", "machine", "disk", "packages", "onnxruntime", "default model", *extras} <= set(findings)
    for finding in findings.values():
        assert (finding.fix is None) == (finding.state == "ok"), finding
        assert finding.state != "wrong"
    assert "numpy" in findings["packages"].detail
    assert "torch" in findings["extra train"].detail
    assert "CPU" in findings["onnxruntime"].detail
    assert "plot and poster" in findings["default model"].detail
    assert findings["mmgcs"].detail == mmgcs.__version__


def test_an_error_in_another_encoding_is_reported():
    answer, error = _ask("import sys; sys.stderr.buffer.write(b'n\\xe3o encontrado'); sys.exit(1)")
    assert answer is None
    assert error == "n\ufffdo encontrado"


@pytest.mark.parametrize(
    ("found", "limits", "met"),
    [("2.13.0+cpu", ">=2.6", True), ("2.6", ">=2.6.0", True), ("2.5.1", ">=2.6", False), (None, "", False)],
)
def test_versions_are_compared_by_number(found, limits, met):
    assert is_met(Requirement(f"torch{limits}"), found) is met


def test_one_json_value_is_printed_and_the_status_is_0(capsys):
    assert main(["doctor", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["works"] is True
    assert all(set(finding) == {"name", "state", "detail", "fix"} for finding in told["findings"])
