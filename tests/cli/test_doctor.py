"""`mmgcs doctor` tells the truth about whole and broken installations."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import mmgcs
from mmgcs.cli import main
from mmgcs.doctor import Package, _ask, examine, needed_packages, works


@pytest.fixture(scope="module")
def findings():
    return {finding.name: finding for finding in examine()}


def test_a_whole_installation_works_and_lacks_nothing_it_needs(findings):
    assert works(list(findings.values()))
    assert {"Python", "machine", "disk", "packages", "onnxruntime", "default model", "extra train"} <= set(findings)
    assert "CPU" in findings["onnxruntime"].detail
    assert "plot and poster" in findings["default model"].detail
    assert findings["mmgcs"].detail == mmgcs.__version__


def test_every_lack_comes_with_the_fix(findings):
    for finding in findings.values():
        assert (finding.fix is None) == (finding.state == "ok"), finding


def test_an_error_in_another_encoding_is_told_too():
    answer, error = _ask("import sys; sys.stderr.buffer.write(b'n\\xe3o encontrado'); sys.exit(1)")
    assert answer is None
    assert error == "n\ufffdo encontrado"


def test_extras_and_their_packages_are_known_by_metadata():
    found = {(item.extra, item.name): item for item in needed_packages()}
    assert found[None, "onnxruntime"].met
    assert found["train", "torch"].limits.startswith(">=")


def test_every_extra_says_what_it_is_for(findings):
    extras = {f"extra {item.extra}" for item in needed_packages() if item.extra is not None}
    assert {"extra train", "extra db"} <= extras
    told = {name: findings[name].detail.split(":")[0] for name in extras}
    assert not {name for name, what in told.items() if what == "more"}


@pytest.mark.parametrize(
    ("found", "limits", "met"),
    [("2.13.0+cpu", ">=2.6", True), ("2.6", ">=2.6.0", True), ("2.5.1", ">=2.6", False), (None, "", False)],
)
def test_versions_are_compared_by_number(found, limits, met):
    assert Package("torch", limits, None, found).met is met


def test_one_json_value_is_printed_and_the_status_is_0(capsys):
    assert main(["doctor", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["works"] is True
    assert all(set(finding) == {"name", "state", "detail", "fix"} for finding in told["findings"])


def test_looking_for_torch_does_not_import_it():
    code = "import sys; from mmgcs.cli import main; main(['doctor']); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
