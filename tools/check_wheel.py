"""Check that a built wheel is complete, small, and holds nothing that does not belong in it.

    python tools/check_wheel.py dist/mmgcs-0.1.0-py3-none-any.whl [--version 0.1.0]

Prints one line per problem; the exit status is 1 if there are any.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import zipfile
from email.parser import Parser
from hashlib import sha256
from pathlib import Path

MAX_BYTES = 60_000_000
"""The largest wheel: the default bundle is half of it."""

BUNDLE = "mmgcs/bundles/default/"
NEEDED = ("mmgcs/__init__.py", "mmgcs/cli/main.py", "mmgcs/sample/films.csv", f"{BUNDLE}manifest.json")
# Only what is needed: no tests, caches, half-written files, checkpoints, or formats that run code when they are opened.
ALLOWED = re.compile(
    r"mmgcs/(?!tests/)[\w./-]*\.(py|typed|csv|jpg|json|npz|onnx|md|html|j2|js|css|svg|png|webp|ico|yaml|txt)|mmgcs-[^/]+\.dist-info/.+"
)
UNWANTED = re.compile(r"(^|/)(__pycache__|\.[^/]*|[^/]*\.(pyc|pkl|pickle|pt|pth|ckpt|part))(/|$)")
COMMAND = re.compile(r"^mmgcs\s*=\s*mmgcs\.__main__:command$", re.MULTILINE)
LEARNING = re.compile(r"^(torch|pytorch-lightning|transformers|scikit-learn|matplotlib)\b(?!.*extra\s*==)")


def problems(wheel: Path, version: str | None = None) -> list[str]:
    """Return one line for each problem of a wheel.

    Args:
        wheel: the file.
        version: the version that it must have; None for any.
    """
    found = []
    size = wheel.stat().st_size
    if size > MAX_BYTES:
        found.append(f"it has {size:,} bytes, over the limit of {MAX_BYTES:,}")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
        found += [f"{name} is missing" for name in NEEDED if name not in names]
        found += [f"{name} does not belong in it" for name in sorted(names) if unwanted(name)]
        if f"{BUNDLE}manifest.json" in names:
            found += _broken_bundle(archive, names)
        found += _metadata(archive, names, version)
    return found


def unwanted(name: str) -> bool:
    """Return True if a file of this name does not belong in a wheel."""
    return ALLOWED.fullmatch(name) is None or UNWANTED.search(name) is not None


def _broken_bundle(archive: zipfile.ZipFile, names: set[str]) -> list[str]:
    found = []
    for name, entry in json.loads(archive.read(f"{BUNDLE}manifest.json"))["files"].items():
        if BUNDLE + name not in names:
            found.append(f"{BUNDLE}{name} is missing")
        elif sha256(archive.read(BUNDLE + name)).hexdigest() != entry["sha256"]:
            found.append(f"{BUNDLE}{name} differs from the bundle's manifest")
    return found


def _metadata(archive: zipfile.ZipFile, names: set[str], version: str | None) -> list[str]:
    path = next((name for name in names if name.endswith(".dist-info/METADATA")), None)
    if path is None:
        return ["its METADATA is missing"]
    metadata = Parser().parsestr(archive.read(path).decode("utf-8"))
    found = []
    if version is not None and metadata["Version"] != version:
        found.append(f"its version is {metadata['Version']}, not {version}")
    found += [
        f"running would need {requirement}, which is for training"
        for requirement in metadata.get_all("Requires-Dist", [])
        if LEARNING.match(requirement)
    ]
    scripts = path.replace("METADATA", "entry_points.txt")
    if scripts not in names or not COMMAND.search(archive.read(scripts).decode("utf-8")):
        found.append("it does not install the command mmgcs")
    return found


def main() -> int:
    """Check the wheel named on the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--version", help="the version that it must have")
    given = parser.parse_args()
    found = problems(given.wheel, given.version)
    for problem in found:
        print(f"{given.wheel.name}: {problem}", file=sys.stderr)
    if not found:
        print(f"{given.wheel.name}: {given.wheel.stat().st_size / 1e6:.1f} MB, as it should be")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
