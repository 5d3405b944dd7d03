"""The API is fuzzed from its own description: no 500, and every answer is one that the description names."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


@pytest.mark.slow
def test_schemathesis_finds_no_500_and_no_answer_that_is_not_described(running: Any, tmp_path: Path) -> None:
    pytest.importorskip("schemathesis")
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{running.url}/openapi.json"]
    command += ["--checks", CHECKS, "--phases", "examples,coverage,fuzzing", "--max-examples", "30", "--seed", "7"]
    command += ["--request-timeout", "20", "--generation-database", "none", "--no-color"]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, env=environment, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stdout[-6_000:] + done.stderr[-2_000:]


def test_the_description_is_valid_openapi_3_1(running: Any) -> None:
    validator = pytest.importorskip("openapi_spec_validator")
    description = json.loads(running.ask("/openapi.json").content)
    assert description["openapi"].startswith("3.1")
    validator.validate(description)
