"""Settings that make no sense are refused before anything is served."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mmgcs.errors import UsageError
from mmgcs.web import Settings, create_app, load_settings


@pytest.fixture(autouse=True)
def without_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("MMGCS_"):
            monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("MMGCS_TIMEOUT", "inf", "MMGCS_TIMEOUT must be at most"),
        ("MMGCS_DRAIN", "nan", "MMGCS_DRAIN must be"),
        ("MMGCS_THREADS", "many", "MMGCS_THREADS must be a whole number"),
        ("MMGCS_THREADS", "0", "MMGCS_THREADS must be at least 1"),
        ("MMGCS_APIKEY", "secret", "did you mean MMGCS_API_KEY?"),
        ("MMGCS_TRUSTED_PROXY", "1", "did you mean MMGCS_TRUST_PROXY?"),
        ("MMGCS_API_KEY", "  ", "MMGCS_API_KEY is blank"),
        ("MMGCS_API_KEY", "cl\u00e9", "may contain only ASCII"),
    ],
)
def test_an_invalid_setting_is_refused_by_its_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=re.escape(message)):
        load_settings()


def test_variables_of_others_with_our_prefix_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    others = {"MMGCS_SERVICE_HOST": "10.0.0.1", "MMGCS_PORT_80_TCP": "tcp://10.0.0.1:80", "MMGCS_REALDATA": "films"}
    others |= {"MMGCS_TMDB_API_KEY": "k", "MMGCS_DATE": "2026", "MMGCS_TIMEOUT_PORT": "tcp://10.0.0.2:80"}
    defaults = Settings()
    for name, value in others.items():
        monkeypatch.setenv(name, value)
    assert load_settings() == defaults


def test_the_environment_is_read_and_given_settings_override_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMGCS_DRAIN", "0")
    monkeypatch.setenv("MMGCS_API_KEY", " k-1 ")
    assert load_settings() == Settings(drain=0, api_key="k-1")
    assert load_settings(api_key="k-2", threads=None).api_key == "k-2"


def test_the_compose_file_starts_with_nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parents[2] / "compose.yaml").read_text(encoding="utf-8")
    defaults = dict(re.findall(r"(MMGCS_\w+): \$\{\w+:-(.*?)\}", text))
    assert "MMGCS_API_KEY" in defaults
    for name, value in defaults.items():
        monkeypatch.setenv(name, value)
    assert load_settings().api_key == ""


@pytest.mark.parametrize(
    ("host", "key", "warns"), [("127.0.0.1", "", False), ("0.0.0.0", "", True), ("0.0.0.0", "k", False)]
)
def test_a_server_that_anyone_can_use_says_so(tiny_bundle: Path, host: str, key: str, warns: bool) -> None:
    command = [sys.executable, "-m", "mmgcs", "serve", "--model", str(tiny_bundle), "--port", "0", "--host", host]
    command += ["--api-key", key] if key else []
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as started:
        assert started.stderr is not None
        assert "Ctrl-C to stop" in started.stderr.readline()
        started.terminate()
        assert ("anyone who can reach this port" in started.stderr.read()) == warns


def test_forwarded_headers_are_used_only_from_as_many_proxies_as_are_trusted(tiny_bundle: Path) -> None:
    def second_status(trusted: int, forwarded: str) -> Any:
        client = create_app(tiny_bundle, Settings(rate=0.001, burst=1, trust_proxy=trusted)).test_client()
        plot = {"plot": "A haunted village"}
        client.post("/api/v1/predict", json=plot, headers={"X-Forwarded-For": "203.0.113.1"})
        return client.post("/api/v1/predict", json=plot, headers={"X-Forwarded-For": forwarded}).status_code

    assert second_status(0, "203.0.113.2") == 429  # whatever it claims, it is the same client
    assert second_status(1, "203.0.113.2") == 200
    assert second_status(1, "203.0.113.2, 203.0.113.1") == 429  # only the last address was written by the proxy
    assert second_status(2, "203.0.113.2, 203.0.113.1") == 200


def test_a_proxy_can_serve_the_application_under_a_path_of_another_host(tiny_bundle: Path) -> None:
    client = create_app(tiny_bundle, Settings(trust_proxy=1)).test_client()
    headers = {"X-Forwarded-Host": "films.example.org", "X-Forwarded-Proto": "https", "X-Forwarded-Prefix": "/genres"}
    assert client.get("/openapi.json", headers=headers).json["servers"][0]["url"] == "https://films.example.org/genres"
    assert "/genres/static/" in client.get("/", headers=headers).text


def test_pages_of_the_origins_that_are_set_may_call_the_api(tiny_bundle: Path) -> None:
    client = create_app(tiny_bundle, Settings(cors_origins="https://a.example", api_key="k")).test_client()
    asked = {"Origin": "https://a.example", "Access-Control-Request-Method": "POST"}
    asked["Access-Control-Request-Headers"] = "content-type,x-api-key"
    allowed = client.options("/api/v1/predict", headers=asked)
    assert allowed.headers["Access-Control-Allow-Origin"] == "https://a.example"
    assert "x-api-key" in allowed.headers["Access-Control-Allow-Headers"].lower()
    other = client.options("/api/v1/predict", headers={**asked, "Origin": "https://b.example"})
    assert "Access-Control-Allow-Origin" not in other.headers
