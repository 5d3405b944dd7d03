"""The nginx configuration in the documentation: the real nginx takes it, and answers through it."""

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
from collections.abc import Iterator
from pathlib import Path

import pytest
from ports import free_port, wait_for

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "deploy-behind-nginx.md"


@pytest.fixture
def address(tmp_path: Path, tiny_bundle: Path) -> Iterator[str]:
    """The address of a server behind an nginx with the page's configuration; only its paths and ports are changed."""
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    openssl = shutil.which("openssl")
    if nginx is None or openssl is None:
        pytest.skip("nginx or openssl is not installed")
    (block,) = re.findall(r"^```nginx\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    port, behind = free_port(), free_port()
    places = {
        "/etc/ssl/genres.pem": str(tmp_path / "genres.pem"),
        "/etc/ssl/genres.key": str(tmp_path / "genres.key"),
        "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
        "127.0.0.1:10000": f"127.0.0.1:{behind}",
    }
    for place, ours in places.items():
        assert place in block
        block = block.replace(place, ours)
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
    command = [sys.executable, "-m", "mmgcs", "serve", "--port", str(behind), "--model", str(tiny_bundle)]
    environment = {**os.environ, "MMGCS_TRUST_PROXY": "1", "MMGCS_DRAIN": "0"}
    with (
        subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment) as server,
        subprocess.Popen([nginx, "-c", str(configuration)], stderr=subprocess.DEVNULL) as proxy,
    ):
        try:
            wait_for(behind, server)
            wait_for(port, proxy)
            yield f"https://127.0.0.1:{port}"
        finally:
            for process in (proxy, server):
                process.send_signal(signal.SIGTERM)
                process.wait(60)


@pytest.mark.slow
def test_the_shown_configuration_is_valid_and_answers_through_tls(address: str, tmp_path: Path) -> None:
    trust = ssl.create_default_context(cafile=str(tmp_path / "genres.pem"))
    trust.check_hostname = False  # the certificate names the example's host

    def ask(path: str, data: bytes | None = None) -> tuple[int, bytes]:
        request = urllib.request.Request(address + path, data, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, context=trust, timeout=60) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    assert ask("/readyz")[0] == 200
    status, answer = ask("/api/v1/predict", b'{"plot": "a ghost and a vampire"}')
    assert status == 200
    assert b"Horror" in answer
    assert ask("/metrics")[0] == 403
    assert ask("/api/v1/predict", b" " * (66 * 2**20))[0] == 413
    description = json.loads(ask("/genres/openapi.json")[1])
    assert description["servers"][0]["url"] == f"{address}/genres"
    assert b'"/genres/static/' in ask("/genres/")[1]
