"""Bundles and tables of films to and from a hub: a real server on 127.0.0.1, each command a process of its own."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest
from hub_server import HubServer

from mmgcs.bundle import MANIFEST, Bundle
from mmgcs.sample import sample_table

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def hub() -> Iterator[HubServer]:
    server = HubServer()
    yield server
    server.close()


@pytest.fixture
def run(hub: HubServer, tmp_path: Path) -> Run:
    """Run mmgcs, or Python code, with this hub and caches of its own."""
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_TOKEN": "hf_test",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }

    def run(*words: str | Path, code: str = "", **more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *(["-c", code] if code else ["-m", "mmgcs"]), *map(str, words)]
        return subprocess.run(command, env={**environment, **more}, capture_output=True, text=True, check=False)

    return run


def test_a_bundle_goes_to_the_hub_and_comes_back_the_same(
    run: Run, hub: HubServer, tiny_bundle: Path, tmp_path: Path
) -> None:
    pushed = run("push", tiny_bundle, "someone/tiny", "--private", "--license", "mit")
    assert pushed.returncode == 0, pushed.stderr
    assert f"{hub.url}/someone/tiny" in pushed.stdout
    assert hub.created[0]["visibility"] == "private"
    files = hub.repos["models/someone/tiny"]
    assert set(files) == {*Bundle(tiny_bundle).files, MANIFEST, "README.md"}
    card = files["README.md"].decode()
    assert card.startswith("---\n")
    for line in ("library_name: mmgcs", "license: mit", "- genre-classification"):
        assert line in card
    pulled = run("pull", "someone/tiny", "--out", tmp_path / "pulled", "--json")
    assert pulled.returncode == 0, pulled.stderr
    assert json.loads(pulled.stdout)["bundle"] == str(tmp_path / "pulled")
    for name in (*Bundle(tiny_bundle).files, MANIFEST):
        assert (tmp_path / "pulled" / name).read_bytes() == (tiny_bundle / name).read_bytes()
    again = run("pull", "someone/tiny", "--out", tmp_path / "pulled")
    assert (again.returncode, "already holds a bundle" in again.stderr) == (2, True)


def test_a_damaged_or_missing_bundle_is_refused_in_one_line(
    run: Run, hub: HubServer, tiny_bundle: Path, tmp_path: Path
) -> None:
    files = {name: (tiny_bundle / name).read_bytes() for name in (*Bundle(tiny_bundle).files, MANIFEST)}
    fusion = Bundle(tiny_bundle).config.fusion
    hub.repos["models/someone/damaged"] = {**files, fusion: files[fusion][:-1] + b"x"}
    hub.repos["models/someone/other"] = {"config.json": b"{}"}
    for repo, reason in (
        ("damaged", "differs from its SHA-256"),
        ("other", "someone/other is not a bundle: it has no manifest.json"),
        ("none", "the hub has no someone/none that you can read"),
    ):
        done = run("pull", f"someone/{repo}", "--out", tmp_path / repo)
        assert done.returncode in (1, 2)
        assert reason in done.stderr and done.stderr.count("\n") == 1, done.stderr
        assert not (tmp_path / repo).exists()


def test_films_come_from_a_data_set_with_its_splits(
    run: Run, hub: HubServer, tiny_bundle: Path, tmp_path: Path
) -> None:
    films = pl.read_csv(sample_table()).drop("split", strict=False)
    buffer = io.BytesIO()
    films.write_parquet(buffer)
    hub.repos["datasets/someone/films"] = {
        "README.md": b"# Films",
        "data/train-00000-of-00001.parquet": buffer.getvalue(),
        "data/validation-00000-of-00001.parquet": buffer.getvalue(),
        "data/test-00000-of-00001.parquet": buffer.getvalue(),
    }
    words = ("evaluate", "--model", tiny_bundle, "--data", "hf:someone/films", "--bootstrap", "0", "--json")
    done = run(*words)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["counts"]["films"] == films.height
    assert result["data"]["data"] == "someone--films"
    assert f"{films.filter(pl.col('plot').is_not_null()).height} plots of valid" in result["baseline_note"]
    assert json.loads(run(*words, HF_HUB_OFFLINE="1").stdout)["counts"] == result["counts"]
    code = "import mmgcs, sys; mmgcs.train(sys.argv[1], 'hf:someone/films', sys.argv[2], settings=sys.argv[3:])"
    settings = (f"head.bundle={tiny_bundle}", "head.strengths=[10]", "genres=[Drama, Comedy]")
    trained = run("finetune-head", tmp_path / "run", *settings, code=code, HF_HUB_OFFLINE="1")
    assert trained.returncode == 0, trained.stderr
    assert Bundle(tmp_path / "run" / "bundle").config.genres == ("Drama", "Comedy")
    missing = run("evaluate", "--model", tiny_bundle, "--data", "hf:someone/none")
    assert (missing.returncode, missing.stderr.count("\n")) == (1, 1)
