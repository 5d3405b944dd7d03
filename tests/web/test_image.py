"""The Dockerfile's own steps, done in a clean folder, give a server that starts, is healthy and ends in order.

There is no container engine here: the instructions are read from the Dockerfile and done one by one, with paths below a
folder of the test in place of `/`. Dependencies are those that are installed already, so nothing is downloaded.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FOLDERS = re.compile(r"(?<![\w/])(?=/(?:opt/mmgcs|src)\b)")


class Image:
    """What the steps of a Dockerfile made, below the folder `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.environment: dict[str, str] = {}
        self.instructions: dict[str, str] = {}

    def inside(self, text: str) -> str:
        return FOLDERS.sub(str(self.root), text)

    def build(self, dockerfile: Path) -> None:
        for line in dockerfile.read_text(encoding="utf-8").splitlines():
            instruction, _, rest = line.partition(" ")
            if instruction == "RUN":
                self._run(shlex.split(self.inside(rest)))
            elif instruction == "COPY" and not rest.startswith("--from"):
                *sources, target = rest.split()
                self._copy(sources, Path(self.inside(target)))
            elif instruction == "ENV":
                self.environment |= dict(pair.split("=", 1) for pair in shlex.split(self.inside(rest)))
            elif instruction not in ("", "#"):
                self.instructions[instruction] = rest

    def _copy(self, sources: list[str], target: Path) -> None:
        for source in sources:
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, target, ignore=shutil.ignore_patterns("__pycache__", "*.part"))
            else:
                target.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / source, target)

    def _run(self, command: list[str]) -> None:
        if command[0] == "python":
            command[0] = sys.executable
        if "--require-hashes" in command:
            assert Path(command[-1]).is_file()
            return
        if "install" in command:
            command[-1:] = ["--no-deps", "--no-build-isolation", "--quiet", command[-1]]
        subprocess.run(command, check=True, cwd=self.root)
        if "venv" in command:
            # What is installed here stands in for what pip would fetch; mmgcs itself comes from the steps.
            (packages,) = Path(command[-1]).glob("lib/python*/site-packages")
            (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")

    def command(self, instruction: str) -> list[str]:
        rest = self.instructions[instruction]
        words: list[str] = json.loads(rest[rest.index("[") :])
        return [shutil.which(words[0], path=self.environment["PATH"]) or words[0], *words[1:]]

    def files(self) -> set[Path]:
        return set((self.root / "opt").rglob("*"))


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    if not (ROOT / "Dockerfile").is_file():
        pytest.skip("these tests run from a clone, which holds the Dockerfile")
    made = Image(tmp_path_factory.mktemp("image"))
    made.build(ROOT / "Dockerfile")
    return made


@pytest.mark.slow
def test_the_images_steps_give_a_healthy_server_that_writes_only_to_tmp_and_ends_in_order(
    image: Image, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    environment = {**image.environment, "PORT": port, "TMPDIR": str(tmp_path), "MMGCS_DRAIN": "0"}
    where = [image.command("CMD")[0].replace("bin/mmgcs", "bin/python"), "-c", "import mmgcs; print(mmgcs.__file__)"]
    imported = subprocess.run(where, env=environment, capture_output=True, text=True, check=True).stdout
    assert imported.startswith(str(image.root / "opt"))
    before = image.files()
    server = subprocess.Popen(image.command("CMD"), env=environment, cwd=tmp_path, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        check = image.command("HEALTHCHECK")
        while subprocess.run(check, env=environment, stderr=subprocess.DEVNULL).returncode != 0:
            assert server.poll() is None, "the server ended"
            assert time.monotonic() < deadline, "the server never became healthy"
        server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=60) == 0
        assert subprocess.run(check, env=environment, stderr=subprocess.DEVNULL).returncode != 0
    finally:
        server.kill()
        server.wait()
    assert image.files() == before
    assert list(tmp_path.glob("mmgcs-*")) == []


def test_the_image_is_not_run_as_root_and_copies_only_what_is_sent(image: Image) -> None:
    user = image.instructions["USER"].split(":")[0]
    assert user.isdigit()
    assert int(user) >= 1000
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    copied = {
        source for line in lines if line.startswith("COPY ") and "--from" not in line for source in line.split()[1:-1]
    }
    assert copied == sent


def test_compose_runs_the_image_read_only_and_waits_until_it_has_drained() -> None:
    from mmgcs.web import Settings

    service = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]["mmgcs"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    settings = Settings()
    assert int(service["stop_grace_period"].removesuffix("s")) > settings.drain + settings.grace
    known = {f"MMGCS_{name.upper()}" for name in Settings.model_fields}
    assert set(service["environment"]) - {"MALLOC_ARENA_MAX"} <= known
