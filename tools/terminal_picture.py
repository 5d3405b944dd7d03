"""Draw what `mmgcs predict` really prints as a picture of a terminal, for the README and the documentation.

python tools/terminal_picture.py [docs/images/terminal.svg]
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

PLOT = "A vampire count preys on a sleepy village."
# The picture would otherwise ask another host for its font; every system has a monospaced one.
FONTS = re.compile(r"@font-face\s*\{.*?\}\s*", re.DOTALL)


def draw(path: Path) -> None:
    """Run the command and write the picture to `path`."""
    command = [sys.executable, "-m", "mmgcs", "predict", "--plot", PLOT]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603  our own command
    with Path("/dev/null").open("w", encoding="utf-8") as nowhere:
        console = Console(record=True, width=76, file=nowhere, force_terminal=True, color_system="truecolor")
        console.print(Text.assemble(("$ ", "bold green"), f'mmgcs predict --plot "{PLOT}"'))
        for line in shown.splitlines():
            text = Text(line, style="bold" if line.startswith("*") else "")
            text.highlight_regex(r"█+", "green" if line.startswith("*") else "blue")
            text.highlight_regex(r"·+", "dim")
            console.print(text)
        picture = console.export_svg(title="mmgcs", theme=MONOKAI, unique_id="terminal")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(FONTS.sub("", picture).replace("Fira Code", "ui-monospace"), encoding="utf-8")


if __name__ == "__main__":
    draw(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images/terminal.svg"))
