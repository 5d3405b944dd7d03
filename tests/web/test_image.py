"""The container image: its commands work against a real server, and it is confined. Nothing here builds an image."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from mmgcs.cli import main
from mmgcs.web import Settings

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(not (ROOT / "Dockerfile").is_file(), reason="only a clone holds the Dockerfile")


@pytest.fixture(scope="module")
def instructions() -> dict[str, str]:
    """The last of each instruction of the Dockerfile."""
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    return dict(line.split(" ", 1) for line in lines if " " in line and not line.startswith("#"))


def command(instruction: str) -> list[str]:
    words: list[str] = json.loads(instruction[instruction.index("[") :])
    return words


def test_the_health_check_tells_a_server_that_is_ready_from_one_that_is_not(
    instructions: dict[str, str], tiny_bundle: Path, served: Any
) -> None:
    check = [sys.executable, *command(instructions["HEALTHCHECK"])[1:]]
    with served(tiny_bundle) as (_, port):
        environment = {**os.environ, "PORT": str(port)}
        assert subprocess.run(check, env=environment).returncode == 0
    assert subprocess.run(check, env=environment, stderr=subprocess.DEVNULL).returncode != 0


def test_the_image_serves_without_root_and_copies_only_what_is_sent(instructions: dict[str, str]) -> None:
    assert int(instructions["USER"].split(":")[0]) >= 1000
    assert command(instructions["CMD"])[:2] == ["mmgcs", "serve"]
    assert main([*command(instructions["CMD"])[1:], "--help"]) == 0
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    copied = {
        source for line in lines if line.startswith("COPY ") and "--from" not in line for source in line.split()[1:-1]
    }
    assert copied == sent


def test_compose_runs_the_image_read_only_and_waits_until_it_has_drained() -> None:
    service = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]["mmgcs"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    settings = Settings()
    assert int(service["stop_grace_period"].removesuffix("s")) > settings.drain + settings.grace
    known = {f"MMGCS_{name.upper()}" for name in Settings.model_fields}
    assert set(service["environment"]) - {"MALLOC_ARENA_MAX"} <= known
