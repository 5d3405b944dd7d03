"""The examples on the API page work as they are, with and without an API key."""

from __future__ import annotations

import html
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mmgcs.web import Settings


def _examples(page: str) -> list[tuple[str, str]]:
    """Return (title, text) of every example on the page."""
    found = re.findall(r'<pre [^>]*aria-label="([^"]+)"[^>]*>(.*?)</pre>', page, re.DOTALL)
    return [(html.unescape(title), html.unescape(text)) for title, text in found]


@pytest.mark.parametrize("key", ["", "secret"])
def test_each_example_works_as_it_is(serving: Any, tmp_path: Path, poster: bytes, key: str) -> None:
    (tmp_path / "poster.jpg").write_bytes(poster)
    (tmp_path / "films.csv").write_text("id,plot\n1,A haunted village\n")
    environment = {**os.environ, "KEY": "secret"}
    with serving(Settings(drain=0.1, threads=8, **({"api_key": key} if key else {}))) as running:
        examples = [one for one in _examples(running.ask("/api").content.decode()) if one[0] != "Response"]
        assert len(examples) == 9
        for title, text in examples:
            assert ("secret" not in text) and (("KEY" in text) is bool(key)), title
            language = title.rpartition(", ")[2]
            command = {
                "curl": ["bash", "-euo", "pipefail", "-c", text],
                "Python": [sys.executable, "-c", text],
                "JavaScript": ["node", "--input-type=module", "-e", text],
            }[language]
            if shutil.which({"Python": sys.executable, "JavaScript": "node"}.get(language, language)) is None:
                continue
            done = subprocess.run(
                command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
            )
            assert done.returncode == 0, (title, done.stderr)
            assert any(genre in done.stdout for genre in ("Crime", "Music")) or "films-genres" in text, (
                title,
                done.stdout,
            )
    assert "Horror" in (tmp_path / "films-genres.csv").read_text()
