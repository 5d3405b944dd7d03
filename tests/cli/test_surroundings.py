"""The commands give the same results with any locale, umask, home, network and folder names."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tiny_training import PLOT, write_recipe

from mmgcs.bundle import Bundle
from mmgcs.sample import sample_table

ODD = "Filme für 2 & mehr, it's «日本» 50% #1"
POSTER = sample_table().parent / "posters" / "tt0015624.jpg"


@dataclass
class Surroundings:
    """Where and how a process runs."""

    folder: Path
    environment: dict[str, str | None] = field(default_factory=dict)
    before: list[str] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)

    def run(self, *arguments: object, status: int = 0) -> str:
        environment: dict[str, str | None] = {**os.environ, "OMP_NUM_THREADS": "1", **self.environment}
        done = subprocess.run(
            [*self.before, sys.executable, "-m", "mmgcs", *map(str, arguments)],
            cwd=self.folder,
            env={name: value for name, value in environment.items() if value is not None},
            capture_output=True,
            check=False,
            timeout=120,
            **self.options,
        )
        assert done.returncode == status, (arguments, done.stderr.decode(errors="replace")[-2000:])
        assert b"Traceback" not in done.stderr
        return done.stdout.decode("utf-8")


def everything(place: Surroundings, tiny_bundle: Path) -> dict[str, Any]:
    """Predict, tag a table, tag and restore a library; return all results."""
    folder = place.folder
    model = shutil.copytree(tiny_bundle, folder / "a model", copy_function=shutil.copyfile)
    posters, library = folder / "posters", folder / "Films"
    posters.mkdir()
    shutil.copyfile(POSTER, posters / "póster 1.jpg")
    rows = ["id,title,plot,poster", "1,Ä,a ghost and a vampire,póster 1.jpg", "2,B,love in the city,", "3,C,,"]
    (folder / "films é.csv").write_text("\n".join(rows), encoding="utf-8")
    nfo = library / "Ünï (2001)" / "movie.nfo"
    nfo.parent.mkdir(parents=True)
    content = "<movie><title>Ünï</title><plot>a ghost and a vampire</plot></movie>"
    nfo.write_text(content, encoding="utf-8")
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o777)
    found: dict[str, Any] = {}
    found["version"] = place.run("--version")
    film = ["--plot", "a ghost in Zürich", "--poster", "posters/póster 1.jpg"]
    found["predict"] = json.loads(place.run("predict", *film, "--model", model, "--json"))
    out = folder / "out é" / "tagged é.jsonl"
    place.run("tag", "films é.csv", "--posters", posters, "--out", out, "--model", model, status=3)
    found["tag"] = out.read_text(encoding="utf-8")
    found["stdout"] = place.run("tag", "films é.csv", "--out", "-", "--out-format", "csv", "--model", model, status=3)
    place.run("library", "scan", library, "--model", model)
    place.run("library", "tag", library, "--model", model, "--min-confidence", 0, "--apply")
    found["library"] = nfo.read_text(encoding="utf-8")
    place.run("library", "undo", library)
    assert nfo.read_text(encoding="utf-8") == content
    found["verify"] = [check["passed"] for check in json.loads(place.run("verify", model, "--json"))["checks"]]
    return found


@pytest.fixture(scope="module")
def plain(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("plain")
    found = everything(Surroundings(folder, {"LC_ALL": "C.UTF-8"}), tiny_bundle)
    assert "Horror" in found["library"]
    assert found["verify"] == [True, True, True]
    return found


def odd_path(folder: Path) -> Surroundings:
    place = folder / ODD
    place.mkdir()
    return Surroundings(place)


def ascii_only(folder: Path) -> Surroundings:
    return Surroundings(folder, {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"})


def umask(mask: int) -> Callable[[Path], Surroundings]:
    return lambda folder: Surroundings(folder, options={"umask": mask})


def no_home(folder: Path) -> Surroundings:
    return Surroundings(folder, {"HOME": None, "XDG_CACHE_HOME": None, "USER": None, "LOGNAME": None})


def no_network(folder: Path) -> Surroundings:
    unshare = shutil.which("unshare")
    before = [unshare or "unshare", "--net", "--map-root-user"]
    if unshare is None or subprocess.run([*before, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this user may not create a network namespace")
    return Surroundings(folder, before=before)


PLACES: dict[str, Callable[[Path], Surroundings]] = {
    "odd path": odd_path,
    "ASCII": ascii_only,
    "umask 077": umask(0o077),
    "no home": no_home,
    "no network": no_network,
}


@pytest.mark.parametrize("name", PLACES)
@pytest.mark.slow
def test_prediction_and_tagging_work_the_same_everywhere(
    name: str, tmp_path: Path, plain: dict[str, Any], tiny_bundle: Path
) -> None:
    assert everything(PLACES[name](tmp_path), tiny_bundle) == plain


@pytest.mark.parametrize(("mask", "mode"), [(0o077, 0o600), (0o022, 0o644), (0o002, 0o664)])
def test_outputs_have_the_mode_of_the_umask(mask: int, mode: int, tmp_path: Path, tiny_bundle: Path) -> None:
    (tmp_path / "films.csv").write_text("id,plot\n1,a ghost\n", encoding="utf-8")
    place = Surroundings(tmp_path, options={"umask": mask})
    place.run("tag", "films.csv", "--out", "out.csv", "--model", tiny_bundle)
    assert stat.S_IMODE((tmp_path / "out.csv").stat().st_mode) == mode


@pytest.mark.slow
def test_a_training_needs_neither_home_nor_network_nor_plain_names(tmp_path: Path) -> None:
    place = no_network(tmp_path)
    place.folder = odd_path(tmp_path).folder
    place.environment = {**no_home(tmp_path).environment, **ascii_only(tmp_path).environment}
    place.options = {"umask": 0o077}
    folder = place.folder
    shutil.copytree(sample_table().parent, folder / "dáta", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    recipe = write_recipe(folder / "rëcipe.yaml", plot={**PLOT, "training": {**PLOT["training"], "epochs": 1}})
    place.run("train", recipe, "--data", folder / "dáta" / "films.csv", "--out", "rün 1", "--quiet")
    assert Bundle(folder / "rün 1" / "bundle").check() == []
    place.run("data", "inspect", folder / "dáta" / "films.csv", "--out", "páge.html")
    place.run("evaluate", "--model", "rün 1/bundle", "--data", "dáta/films.csv", "--report", "repört", "--no-baseline")
    assert "films" in (folder / "repört" / "report.md").read_text(encoding="utf-8")
