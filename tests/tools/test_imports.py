"""A folder uses only what another folder's `__init__.py` exports."""

from __future__ import annotations

import ast
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src" / "mmgcs"


def test_no_import_reaches_past_another_folders_init() -> None:
    reaching = [
        f"{path.relative_to(SOURCE)}:{node.lineno} imports {module}"
        for path in sorted(SOURCE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for module in imported_by(node)
        if module.count(".") > 1 and module.split(".")[1] != path.relative_to(SOURCE).parts[0]
    ]
    assert reaching == []


def imported_by(node: ast.AST) -> list[str]:
    """The modules of mmgcs that a statement imports."""
    names: list[str] = []
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        names = [node.module or ""]
    return [name for name in names if name.startswith("mmgcs.")]
