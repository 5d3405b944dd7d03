"""The proxy configurations in the documentation: the real nginx and Caddy take them, and answer through them."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from ports import free_port, wait_for

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "deploy-behind-nginx.md"
HEADERS = {"Content-Type": "application/json"}

Ask = Callable[..., tuple[int, bytes]]


def shown(start: str, places: dict[str, str]) -> str:
    """The page's block that begins with `start`; only its names, paths and ports are changed."""
    (block,) = re.findall(rf"^```{start}.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    for place, ours in places.items():
        assert place in block
        block = block.replace(place, ours)
    return str(block)


@contextmanager
def running(proxy: list[str], port: int, behind: int, bundle: Path, **environment: str) -> Iterator[None]:
    """Run a server at the port `behind`, and a proxy in front of it."""
    command = [sys.executable, "-m", "mmgcs", "serve", "--port", str(behind), "--model", str(bundle)]
    ours = {**os.environ, "MMGCS_TRUST_PROXY": "1", "MMGCS_DRAIN": "0", **environment}
    with (
        subprocess.Popen(command, stderr=subprocess.DEVNULL, env=ours) as server,
        subprocess.Popen(proxy, stderr=subprocess.DEVNULL, env=ours) as front,
    ):
        try:
            wait_for(behind, server)
            wait_for(port, front)
            yield
        finally:
            for process in (front, server):
                process.send_signal(signal.SIGTERM)
                process.wait(60)


def asking(address: str, trust: ssl.SSLContext | None = None) -> Ask:
    def ask(path: str, data: bytes | None = None) -> tuple[int, bytes]:
        request = urllib.request.Request(address + path, data, HEADERS)
        try:
            with urllib.request.urlopen(request, context=trust, timeout=60) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    return ask


def check_sub_path(ask: Ask, address: str) -> None:
    description = json.loads(ask("/genres/openapi.json")[1])
    assert description["servers"][0]["url"] == f"{address}/genres"
    page = ask("/genres")[1]  # redirected to /genres/
    assert b'"/genres/static/' in page
    assert ask("/genres/samples/0/poster")[0] == 200
    status, answer = ask("/genres/api/v1/predict", b'{"plot": "a ghost and a vampire"}')
    assert status == 200
    assert b"Horror" in answer
    assert [ask(path)[0] for path in ("/genres/metrics", "/genres/metrics/")] == [403, 403]


@pytest.mark.slow
def test_nginx_answers_through_tls_at_the_root_and_under_a_path(tmp_path: Path, tiny_bundle: Path) -> None:
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    openssl = shutil.which("openssl")
    if nginx is None or openssl is None:
        pytest.skip("nginx or openssl is not installed")
    port, behind = free_port(), free_port()
    places = {
        "/etc/ssl/genres.pem": str(tmp_path / "genres.pem"),
        "/etc/ssl/genres.key": str(tmp_path / "genres.key"),
        "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
        "127.0.0.1:10000": f"127.0.0.1:{behind}",
    }
    block = shown("nginx\n(", places)
    certificate = ["-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=genres.example.org"]
    files = ["-keyout", places["/etc/ssl/genres.key"], "-out", places["/etc/ssl/genres.pem"]]
    subprocess.run([openssl, "req", *certificate, *files], check=True, capture_output=True)
    folders = [f"{kind}_temp_path {tmp_path / kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")]
    outside = f"daemon off; pid {tmp_path}/pid; error_log {tmp_path}/error.log;"
    if os.getuid() == 0:
        outside += " user root;"
    inside = f"access_log off; {' '.join(folders)}"
    configuration = tmp_path / "nginx.conf"
    configuration.write_text(f"{outside}\nevents {{}}\nhttp {{\n{inside}\n{block}\n}}\n", encoding="utf-8")
    checked = subprocess.run([nginx, "-t", "-c", str(configuration)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    assert "[warn]" not in checked.stderr
    trust = ssl.create_default_context(cafile=str(tmp_path / "genres.pem"))
    trust.check_hostname = False  # the certificate names the example's host
    address = f"https://127.0.0.1:{port}"
    with running([nginx, "-c", str(configuration)], port, behind, tiny_bundle):
        ask = asking(address, trust)
        assert ask("/readyz")[0] == 200
        assert b"Horror" in ask("/api/v1/predict", b'{"plot": "a ghost and a vampire"}')[1]
        assert [ask(path)[0] for path in ("/metrics", "/metrics/", "//metrics")] == [403, 403, 403]
        assert ask("/api/v1/predict", b" " * (66 * 2**20))[0] == 413
        check_sub_path(ask, address)


@pytest.mark.slow
def test_caddy_answers_under_a_path(tmp_path: Path, tiny_bundle: Path) -> None:
    caddy = shutil.which("caddy")
    if caddy is None:
        pytest.skip("caddy is not installed")
    port, behind = free_port(), free_port()
    address = f"http://127.0.0.1:{port}"  # with http://, Caddy does not ask for a certificate
    places = {"genres.example.org": address, "127.0.0.1:10000": f"127.0.0.1:{behind}"}
    configuration = tmp_path / "Caddyfile"
    configuration.write_text("{\nadmin off\n}\n" + shown("text\n(genres.example.org", places), encoding="utf-8")
    command = [caddy, "run", "--config", str(configuration), "--adapter", "caddyfile"]
    folders = {"XDG_DATA_HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    with running(command, port, behind, tiny_bundle, **folders):
        check_sub_path(asking(address), address)
