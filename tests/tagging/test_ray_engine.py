"""A cluster gives the same results as this machine, even if workers are lost. Ray runs in processes of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from http_server import picture

from mmgcs import load
from mmgcs.tables import ANSWER_COLUMNS, FilmTable
from mmgcs.tagging import tag_table

pytest.importorskip("ray", reason='Ray is not installed: pip install "mmgcs[scale]"')

PLOTS = ["Two detectives hunt a killer", "A ghost in a haunted village", "", "Love and marriage", "A band and a singer"]
TAG = """
import json, sys
from pathlib import Path
from mmgcs.errors import MmgcsError
from mmgcs.tagging.ray_engine import tag_with_ray
options = json.loads(sys.argv[1])
options["model"] = Path(options["model"])
try:
    summary = tag_with_ray(**options, progress=lambda summary: print(summary.films, flush=True))
except MmgcsError as error:
    sys.exit(f"mmgcs: error: {error}")
print(summary.films, summary.in_error)
"""
CLUSTER = """
import sys
import ray
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
nodes = [cluster.add_node(num_cpus=1, object_store_memory=100 * 2**20) for _ in range(2)]
cluster.wait_for_nodes()
print(cluster.address, flush=True)
for line in sys.stdin:
    cluster.remove_node(nodes.pop(), allow_graceful=False)
    print("gone", flush=True)
cluster.shutdown()
"""
FILMS = 4096
PARTS = 8
PIPES: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
ENVIRONMENT = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "RAY_health_check_period_ms": "1000"}


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Two tables of four parts each, CSV and Parquet; some films have posters, some of them bad."""
    folder = tmp_path / "films"
    folder.mkdir()
    (folder / "poster.png").write_bytes(picture("PNG", (1200, 1800)))  # takes long enough to be killed at
    (folder / "broken.jpg").write_bytes(b"no picture")
    posters = [None, "poster.png", "broken.jpg", None, "../out.jpg", None, "none.jpg"]
    rows = [
        {"id": f"f{n}", "title": f"Film {n}", "plot": PLOTS[n % 5], "poster": posters[n % 7], "rating": n / 10}
        for n in range(FILMS)
    ]
    pl.DataFrame(rows[: FILMS // 2]).write_csv(folder / "a.csv")
    pl.DataFrame(rows[FILMS // 2 :]).with_columns(pl.col("rating").cast(pl.String)).write_parquet(folder / "b.parquet")
    return folder


def command(**options: Any) -> list[str]:
    return [sys.executable, "-W", "ignore", "-c", TAG, json.dumps(options, default=str)]


def run(**options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(**options), env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=300)


def local(shards: Path, bundle: Path, tmp_path: Path) -> list[dict[str, Any]]:
    """Return the rows of the local engine."""
    out = tmp_path / "local.parquet"
    tag_table(load(bundle), FilmTable(shards), out)
    return pl.read_parquet(out).to_dicts()


def assert_same(out: Path, expected: list[dict[str, Any]]) -> None:
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    rows = list(pl.concat(pl.read_parquet(out / part["file"]) for part in manifest["parts"]).iter_rows(named=True))
    assert len(rows) == len(expected) == manifest["films"]
    for ours, theirs in zip(rows, expected, strict=True):
        for name in (*ANSWER_COLUMNS, "title", "plot", "poster", "rating"):
            assert (ours[name] or None) == (theirs[name] or None), name


@pytest.fixture
def cluster() -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A cluster of a head without cores and two nodes with one core. A line on its stdin removes a node."""
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", CLUSTER],
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        address = next(line.strip() for line in process.stdout if line[:3].isdigit() or line[:2].isdigit())
        yield address, process
    finally:
        process.stdin.close()
        try:
            process.wait(60)
        finally:
            process.kill()
            process.stdout.close()


def workers_of(nodes: subprocess.Popen[str]) -> list[int]:
    """The processes of the cluster's actors: children of a node's raylet, which is a child of the cluster's process."""
    parents, found = {}, []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            title = (folder / "cmdline").read_bytes()
            status = (folder / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(folder.name)] = int(status[1])
        if title.startswith(b"ray::") and b"Tagger" in title:
            found.append(int(folder.name))
    return [pid for pid in found if parents.get(parents[pid]) == nodes.pid]


def wait_for_parts(out: Path, count: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 200
    while notes(out) < count:
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def notes(out: Path) -> int:
    return len(list((out / "_parts").glob("*.json")))


@pytest.mark.slow
def test_killed_runs_workers_and_nodes_cost_a_retry_and_the_result_is_the_local_engines(
    shards: Path, tiny_bundle: Path, tmp_path: Path, cluster: tuple[str, subprocess.Popen[str]]
) -> None:
    address, nodes = cluster
    assert nodes.stdin is not None and nodes.stdout is not None
    out = tmp_path / "out"
    options = {"films": shards, "out": out, "model": tiny_bundle, "address": address, "part_films": 512}

    with subprocess.Popen(command(**options), env=ENVIRONMENT, **PIPES) as process:
        wait_for_parts(out, 1, process)
        process.kill()
    before = {path.name: path.stat().st_mtime_ns for path in (out / "_parts").glob("*.json")}
    assert 1 <= len(before) < PARTS - 2
    refused = run(**options)
    assert refused.returncode == 1
    assert "holds an unfinished run; give --resume to continue it" in refused.stderr

    with subprocess.Popen(command(**options, resume=True), env=ENVIRONMENT, **PIPES) as process:
        wait_for_parts(out, len(before) + 1, process)
        workers = workers_of(nodes)
        assert workers
        os.kill(workers[0], signal.SIGKILL)
        nodes.stdin.write("\n")
        nodes.stdin.flush()
        assert nodes.stdout.readline() == "gone\n"
        assert notes(out) < PARTS
        printed, complaints = process.communicate(timeout=300)
    assert process.returncode == 0, complaints
    assert any(line.startswith(f"{FILMS} ") for line in printed.splitlines()), printed
    after = {path.name: path.stat().st_mtime_ns for path in (out / "_parts").glob("*.json")}
    assert len(after) == PARTS
    assert before.items() <= after.items()
    assert_same(out, local(shards, tiny_bundle, tmp_path))
    assert "holds a finished run" in run(**options).stderr
    assert run(**options, resume=True).returncode == 0
