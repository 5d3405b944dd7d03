"""import-linter holds the directions of imports; each folder needs a contract of its own there."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_folder_is_protected_against_imports_past_its_init() -> None:
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    protected = {
        name for contract in tools["importlinter"]["contracts"] for name in contract.get("protected_modules", ())
    }
    source = ROOT / "src" / "mmgcs"
    folders = {path.parent.name for path in source.glob("*/*.py") if path.name != "__init__.py"} - {"cli"}
    assert protected == {f"mmgcs.{folder}.*" for folder in folders}  # nothing but __main__ imports the command line
