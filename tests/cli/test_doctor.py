"""`mmgcs doctor` tells the truth about whole and broken installations."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

import mmgcs
from mmgcs.cli import main
from mmgcs.doctor import Requirement, _ask, examine, requirements, works


@pytest.fixture(scope="module")
def findings():
    return {finding.name: finding for finding in examine()}


def test_a_whole_installation_works_and_lacks_nothing_it_needs(findings):
    assert works(list(findings.values()))
    assert {"Python", "machine", "disk", "running side", "onnxruntime", "default model", "extra train"} <= set(findings)
    assert "CPU" in findings["onnxruntime"].detail
    assert "plot and poster" in findings["default model"].detail
    assert findings["mmgcs"].detail == mmgcs.__version__


def test_every_lack_comes_with_what_mends_it(findings):
    for finding in findings.values():
        assert (finding.mend is None) == (finding.state == "ok"), finding


def test_an_error_in_another_encoding_is_told_too():
    answer, error = _ask("import sys; sys.stderr.buffer.write(b'n\\xe3o encontrado'); sys.exit(1)")
    assert answer is None
    assert error == "n\ufffdo encontrado"


def test_extras_and_their_packages_are_known_by_metadata():
    found = {(item.extra, item.name): item for item in requirements()}
    assert found[None, "onnxruntime"].met
    assert found["train", "torch"].limits.startswith(">=")


def test_every_extra_says_what_it_is_for(findings):
    extras = {f"extra {item.extra}" for item in requirements() if item.extra is not None}
    assert {"extra train", "extra db", "extra gunicorn"} <= extras
    told = {name: findings[name].detail.split(":")[0] for name in extras}
    assert not {name for name, what in told.items() if what == "more"}


@pytest.mark.parametrize(
    ("found", "limits", "met"),
    [("2.13.0+cpu", ">=2.6", True), ("2.6", ">=2.6.0", True), ("2.5.1", ">=2.6", False), (None, "", False)],
)
def test_versions_are_compared_by_number(found, limits, met):
    assert Requirement("torch", limits, None, found).met is met


def test_one_json_value_is_printed_and_the_status_is_0(capsys):
    assert main(["doctor", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["works"] is True
    assert all(set(finding) == {"name", "state", "detail", "mend"} for finding in told["findings"])


def test_an_unknown_option_is_refused_in_one_line(capsys):
    assert main(["doctor", "--fix"]) == 2
    assert capsys.readouterr().err == "mmgcs: error: mmgcs doctor has no option --fix; see mmgcs doctor --help\n"


def test_looking_for_torch_does_not_import_it():
    code = "import sys; from mmgcs.cli import main; main(['doctor']); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def bare(tmp_path_factory) -> Path:
    """The source folder copied without the model, and a Python with no package at all."""
    folder = tmp_path_factory.mktemp("bare")
    source = Path(mmgcs.__file__).parent
    shutil.copytree(source, folder / "mmgcs", ignore=shutil.ignore_patterns("bundles", "__pycache__"))
    venv.create(folder / "venv", with_pip=False)
    return folder


def test_a_bare_python_is_told_what_to_install_with_status_1(bare):
    # The metadata says what would be needed, as after an installation with --no-deps.
    info = bare / f"mmgcs-{mmgcs.__version__}.dist-info"
    info.mkdir()
    lines = ["Metadata-Version: 2.1", "Name: mmgcs", f"Version: {mmgcs.__version__}", "Requires-Dist: numpy>=2.0"]
    lines += ["Provides-Extra: train", "Requires-Dist: torch>=2.6; extra == 'train'", ""]
    (info / "METADATA").write_text("\n".join(lines), encoding="utf-8")
    program = [str(bare / "venv" / "bin" / "python"), "-m", "mmgcs", "doctor"]
    shown = subprocess.run(program, cwd=bare, capture_output=True, text=True, check=False).stdout
    assert "note    extra train    not installed (optional); training" in shown
    assert "MISSING" not in shown
    done = subprocess.run([*program, "--json"], cwd=bare, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    told = {finding["name"]: finding for finding in json.loads(done.stdout)["findings"]}
    assert told["running side"]["mend"] == 'pip install "numpy>=2.0"'
    assert told["onnxruntime"]["state"] == told["default model"]["state"] == "wrong"
    assert told["extra train"] == {
        "name": "extra train",
        "state": "missing",
        "detail": "not installed (optional); training, evaluation and data preparation: torch is missing",
        "mend": 'pip install "mmgcs[train]"',
    }
