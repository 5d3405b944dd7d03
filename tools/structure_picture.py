"""Draw which part of the package imports which, from import-linter's graph. Needs Graphviz's `dot`.

python tools/structure_picture.py [docs/images/structure.svg]
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import grimp

PLAIN = {"errors", "files", "film", "genres", "registry", "wording", "machine", "http", "labels", "progress"}
PLAIN |= {"version", "word_vectors", "__main__"}
"""Small modules that nearly everything imports; without them the picture stays readable."""


def dot_graph() -> str:
    """Return the graph in Graphviz's language, without edges that follow from others."""
    graph = grimp.build_graph("mmgcs")
    parts = sorted(graph.find_children("mmgcs"))
    for part in parts:
        graph.squash_module(part)
    names = [part.removeprefix("mmgcs.") for part in parts if part.removeprefix("mmgcs.") not in PLAIN]
    lines = ["digraph mmgcs {", 'node [shape=box, style="rounded,filled", fillcolor="#e8eaf6", fontname="sans-serif"]']
    for name in names:
        used = {found.removeprefix("mmgcs.") for found in graph.find_modules_directly_imported_by(f"mmgcs.{name}")}
        lines += [f'"{name}" -> "{other}"' for other in sorted(used & set(names) - {name})]
    text = "\n".join([*lines, "}"])
    return subprocess.run(["tred"], input=text, capture_output=True, text=True, check=True).stdout  # noqa: S607


def main() -> None:
    """Write the picture."""
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images/structure.svg")
    picture = subprocess.run(["dot", "-Tsvg"], input=dot_graph(), capture_output=True, text=True, check=True).stdout  # noqa: S607
    path.write_text(picture, encoding="utf-8")


if __name__ == "__main__":
    main()
