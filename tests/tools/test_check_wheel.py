"""The release's check of a wheel passes a sound one and names what is wrong with others."""

from __future__ import annotations

import json
import zipfile
from hashlib import sha256
from pathlib import Path

import check_wheel
import pytest

import mmgcs

GRAPH = b"a graph"
FILES = {
    "mmgcs/__init__.py": b"",
    "mmgcs/cli/main.py": b"",
    "mmgcs/sample/films.csv": b"id\n",
    "mmgcs/bundles/default/plot.onnx": GRAPH,
    "mmgcs/bundles/default/manifest.json": json.dumps(
        {"files": {"plot.onnx": {"sha256": sha256(GRAPH).hexdigest(), "bytes": len(GRAPH)}}}
    ).encode(),
    "mmgcs-0.1.0.dist-info/METADATA": b"Name: mmgcs\nVersion: 0.1.0\nRequires-Dist: numpy\n"
    b"Requires-Dist: torch>=2.6; extra == 'train'\n",
    "mmgcs-0.1.0.dist-info/entry_points.txt": b"[console_scripts]\nmmgcs = mmgcs.__main__:command\n",
}


def wheel(folder: Path, changes: dict[str, bytes | None]) -> Path:
    path = folder / "mmgcs-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {**FILES, **changes}.items():
            if content is not None:
                archive.writestr(name, content)
    return path


def test_a_sound_wheel_has_no_problems(tmp_path: Path) -> None:
    assert check_wheel.problems(wheel(tmp_path, {}), "0.1.0") == []


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"mmgcs/bundles/default/manifest.json": None}, "manifest.json is missing"),
        ({"mmgcs/bundles/default/plot.onnx": None}, "plot.onnx is missing"),
        ({"mmgcs/bundles/default/plot.onnx": b"another"}, "plot.onnx differs from the bundle's manifest"),
        ({"mmgcs/sample/films.csv": None}, "films.csv is missing"),
        ({"tests/test_a.py": b""}, "tests/test_a.py does not belong in it"),
        ({"mmgcs/bundles/default/.plot.onnx.part": b""}, ".part does not belong in it"),
        ({"mmgcs/bundles/default/plot.pkl": b""}, "plot.pkl does not belong in it"),
        ({"mmgcs/__pycache__/a.py": b""}, "__pycache__/a.py does not belong in it"),
        ({"mmgcs-0.1.0.dist-info/entry_points.txt": None}, "does not install the command mmgcs"),
        ({"mmgcs-0.1.0.dist-info/METADATA": b"Version: 0.1.1\n"}, "its version is 0.1.1, not 0.1.0"),
        (
            {"mmgcs-0.1.0.dist-info/METADATA": b"Version: 0.1.0\nRequires-Dist: torch>=2\n"},
            "running would need torch>=2",
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, changes: dict[str, bytes | None], problem: str) -> None:
    found = check_wheel.problems(wheel(tmp_path, changes), "0.1.0")
    assert len(found) == 1
    assert problem in found[0]


def test_a_wheel_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_wheel, "MAX_BYTES", 100)
    assert "over the limit of 100" in check_wheel.problems(wheel(tmp_path, {}))[0]


def test_every_file_of_the_package_is_allowed_in_a_wheel() -> None:
    source = Path(mmgcs.__file__).parent
    names = [
        f"mmgcs/{path.relative_to(source).as_posix()}"
        for path in source.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".part"
    ]
    assert len(names) > 100
    assert [name for name in names if check_wheel.unwanted(name)] == []
