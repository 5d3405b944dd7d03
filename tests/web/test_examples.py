"""What the page on the API offers to copy works as it stands, with a key and without."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mmgcs.web import Settings

KEYS = ("", "secret")


def _examples(page: str) -> list[tuple[str, str]]:
    """(title, text) of everything that the page offers to copy."""
    found = re.findall(r'<pre [^>]*aria-label="([^"]+)"[^>]*>(.*?)</pre>', page, re.DOTALL)
    return [(html.unescape(title), html.unescape(text)) for title, text in found]


@pytest.mark.parametrize("key", KEYS)
def test_each_example_works_as_it_stands(serving: Any, tmp_path: Path, poster: bytes, key: str) -> None:
    (tmp_path / "poster.jpg").write_bytes(poster)
    (tmp_path / "films.csv").write_text("id,plot\n1,A haunted village\n")
    environment = {**os.environ, "KEY": "secret"}
    with serving(Settings(drain=0.1, threads=8, api_key=key)) as running:
        examples = _examples(running.ask("/api").content.decode())
        assert len(examples) == 8
        for title, text in examples:
            assert ("secret" not in text) and (("KEY" in text) is bool(key)), title
            shell = title.endswith("curl")
            if shell and shutil.which("curl") is None:
                continue
            command = ["bash", "-euo", "pipefail", "-c", text] if shell else [sys.executable, "-c", text]
            done = subprocess.run(
                command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
            )
            assert done.returncode == 0, (title, done.stderr)
            assert any(genre in done.stdout for genre in ("Crime", "Music")) or "tagged" in text, (title, done.stdout)
    assert "Horror" in (tmp_path / "tagged.csv").read_text()


def test_the_page_describes_every_address_and_shape_of_the_description(running: Any) -> None:
    page = running.ask("/api").content.decode()
    description = json.loads(running.ask("/openapi.json").content)
    assert {path for path in description["paths"] if f"<code>{path}</code>" not in page} == set()
    assert {name for name in description["components"]["schemas"] if f'id="schema-{name}"' not in page} == set()
    fields = [
        (name, field)
        for name, schema in description["components"]["schemas"].items()
        for field, value in schema["properties"].items()
        if not value.get("description")
    ]
    assert fields == []
