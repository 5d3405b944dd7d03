"""`mmgcs tag --engine ray` refuses what it cannot do, and the manifest for Kubernetes calls it rightly."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mmgcs.cli import main

DEPLOY = Path(__file__).parents[2] / "deploy"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-", "--out", "tagged"], "--engine ray reads and writes folders, not stdin"),
        (["films", "--out", "tagged", "--only-missing"], "--engine ray does not support --only-missing"),
        (["films", "--out", "tagged", "--review", "r.csv"], "--engine ray does not support --review; leave it out"),
        (["films", "--out", "tagged", "--enrich", "tmdb"], "--engine ray does not support --enrich; leave it out"),
        (["--from", "sqlite:///films.db", "--table", "films"], "--engine ray does not support --from; leave it out"),
        (["films", "--out", "tagged", "--workers", "0"], "--workers"),
    ],
)
def test_what_the_cluster_cannot_do_is_refused_in_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tag", *arguments, "--engine", "ray"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_without_ray_the_extra_is_named(tmp_path: Path) -> None:
    code = "import sys; sys.modules['ray'] = None; from mmgcs.cli import main; sys.exit(main(sys.argv[1:]))"
    call = ["tag", str(tmp_path), "--out", str(tmp_path / "out"), "--engine", "ray"]
    done = subprocess.run([sys.executable, "-c", code, *call], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert '--engine ray needs ray, which is not installed; pip install "mmgcs[scale]"' in done.stderr


def test_the_manifest_runs_a_command_that_exists_on_the_image_that_is_built(
    capsys: pytest.CaptureFixture[str],
) -> None:
    job = yaml.safe_load((DEPLOY / "kuberay.yaml").read_text(encoding="utf-8"))
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    program, command, *words = shlex.split(job["spec"]["entrypoint"])
    assert program == "mmgcs"
    assert main([command, "--help"]) == 0
    told = capsys.readouterr().out
    for option in (word for word in words if word.startswith("--")):
        assert re.search(rf"{option}\b", told), option
    cluster = job["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    images = {group["template"]["spec"]["containers"][0]["image"] for group in groups}
    image = (DEPLOY / "ray.Dockerfile").read_text(encoding="utf-8")
    assert f"FROM rayproject/ray:{cluster['rayVersion']}-" in image
    assert [f"-t {name.split(':')[0]} " in image for name in images] == [True]
