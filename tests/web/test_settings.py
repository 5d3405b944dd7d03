"""Settings of the server: what makes no sense is refused, before anything is served."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mmgcs.errors import UsageError
from mmgcs.web import Settings, create_app


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("MMGCS_TIMEOUT", "inf", "must be from 1 to"),
        ("MMGCS_TIMEOUT", "1e11", "must be from 1 to"),
        ("MMGCS_DRAIN", "nan", "must be from 0 to"),
        ("MMGCS_THREADS", "many", "not a number"),
        ("MMGCS_THREADS", "0", "must be from 1 to"),
        ("MMGCS_APIKEY", "secret", "do you mean MMGCS_API_KEY?"),
        ("MMGCS_TRUSTED_PROXY", "1", "do you mean MMGCS_TRUST_PROXY?"),
        ("MMGCS_API_KEY", "  ", "is blank"),
        ("MMGCS_API_KEY", "cl\u00e9", "other than letters"),
        ("MMGCS_API_KEY", "two words", "other than letters"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(name: str, value: str, said: str) -> None:
    with pytest.raises(UsageError, match=said.replace("?", "[?]")):
        Settings.from_environment({name: value})


def test_names_that_others_set_with_our_prefix_are_left_alone() -> None:
    others = {"MMGCS_SERVICE_HOST": "10.0.0.1", "MMGCS_PORT_80_TCP": "tcp://10.0.0.1:80", "MMGCS_REALDATA": "films"}
    others |= {"MMGCS_TMDB_API_KEY": "k", "MMGCS_DATE": "2026", "MMGCS_TIMEOUT_PORT": "tcp://10.0.0.2:80"}
    assert Settings.from_environment(others) == Settings()
    assert Settings.from_environment({"MMGCS_DRAIN": "0", "MMGCS_API_KEY": " k-1 "}) == Settings(drain=0, api_key="k-1")


def test_the_compose_file_starts_without_anything_set() -> None:
    text = (Path(__file__).parents[2] / "compose.yaml").read_text(encoding="utf-8")
    left = dict(re.findall(r"(MMGCS_\w+): \$\{\w+:-(.*?)\}", text))
    assert "MMGCS_API_KEY" in left
    assert Settings.from_environment(left).api_key == ""


def test_a_blank_key_on_the_command_line_is_one_line_and_status_2(tiny_bundle: Path) -> None:
    command = [sys.executable, "-m", "mmgcs", "serve", "--model", str(tiny_bundle), "--port", "0", "--api-key", ""]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "API_KEY is blank" in done.stderr


@pytest.mark.parametrize("key", [(), ("--api-key", "secret")])
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_server_that_anyone_may_ask_says_so(tiny_bundle: Path, host: str, key: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "mmgcs", "serve", "--model", str(tiny_bundle), "--port", "0", "--host", host, *key]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as started:
        assert started.stderr is not None
        assert "Ctrl-C ends" in started.stderr.readline()
        started.terminate()
        said = started.stderr.read()
    assert ("anyone who reaches this port" in said) == (host == "0.0.0.0" and not key)


def test_proxies_are_believed_only_as_far_as_they_are_trusted(tiny_bundle: Path) -> None:
    def asked(trusted: int, forwarded: str) -> Any:
        client = create_app(tiny_bundle, Settings(rate=0.001, burst=1, trust_proxy=trusted)).test_client()
        plot = {"plot": "A haunted village"}
        client.post("/api/v1/predict", json=plot, headers={"X-Forwarded-For": "203.0.113.1"})
        return client.post("/api/v1/predict", json=plot, headers={"X-Forwarded-For": forwarded}).status_code

    assert asked(0, "203.0.113.2") == 429  # whatever it says, it is the same neighbour
    assert asked(1, "203.0.113.2") == 200
    assert asked(1, "203.0.113.2, 203.0.113.1") == 429  # only the last was written by the proxy
    assert asked(2, "203.0.113.2, 203.0.113.1") == 200
