"""The part of the Hugging Face hub that mmgcs uses, on 127.0.0.1: files in memory, one revision per repository."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class HubServer:
    """Serves `repos`: "models/owner/name" or "datasets/owner/name" to the contents of its files."""

    def __init__(self) -> None:
        self.repos: dict[str, dict[str, bytes]] = {}
        self.created: list[dict[str, Any]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                self.do_GET()

            def do_GET(self) -> None:
                path = unquote(self.path.partition("?")[0])
                if found := re.fullmatch(r"/api/((?:models|datasets)/[^/]+/[^/]+)(/revision/.+|/tree/.+)?", path):
                    repo, what = outer.repos.get(found[1]), found[2] or ""
                    if repo is None:
                        return self.refuse("RepoNotFound")
                    if what.startswith("/tree/"):
                        entries = [
                            {"type": "file", "path": name, "size": len(body), "oid": hashlib.sha1(body).hexdigest()}
                            for name, body in repo.items()
                        ]
                        return self.answer(json.dumps(entries).encode())
                    siblings = [{"rfilename": name} for name in repo]
                    value = {"id": found[1].partition("/")[2], "sha": COMMIT, "siblings": siblings, "private": False}
                    return self.answer(json.dumps(value).encode())
                found = re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/[^/]+/(.+)", path)
                repo = outer.repos.get(f"{found[1] or 'models/'}{found[2]}") if found else None
                if found is None or repo is None:
                    return self.refuse("RepoNotFound")
                if found[3] not in repo:
                    return self.refuse("EntryNotFound")
                body = repo[found[3]]
                tag = hashlib.sha1(body).hexdigest()
                return self.answer(body, **{"X-Repo-Commit": COMMIT, "ETag": f'"{tag}"'})

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if self.path == "/api/repos/create":
                    value = json.loads(body)
                    outer.created.append(value)
                    name = f"{value['organization']}/{value['name']}" if value.get("organization") else value["name"]
                    outer.repos.setdefault(f"models/{name}", {})
                    self.answer(json.dumps({"url": f"{outer.url}/{name}", "id": name}).encode())
                elif self.path == "/api/validate-yaml":
                    self.answer(b'{"errors": [], "warnings": []}')
                elif found := re.fullmatch(r"/api/(models/.+)/preupload/main", self.path):
                    files = [
                        {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                        for file in json.loads(body)["files"]
                    ]
                    self.answer(json.dumps({"files": files}).encode())
                elif found := re.fullmatch(r"/api/(models/.+)/commit/main", self.path):
                    for line in body.splitlines():
                        entry = json.loads(line)
                        if entry["key"] == "file":
                            value = entry["value"]
                            outer.repos[found[1]][value["path"]] = base64.b64decode(value["content"])
                    commit = {"commitUrl": f"{outer.url}/o/n/commit/{COMMIT}", "commitOid": COMMIT, "success": True}
                    self.answer(json.dumps(commit).encode())
                else:
                    self.refuse("EntryNotFound")

            def answer(self, body: bytes, status: int = 200, **headers: str) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def refuse(self, code: str) -> None:
                self.answer(b"{}", 404, **{"X-Error-Code": code})

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
