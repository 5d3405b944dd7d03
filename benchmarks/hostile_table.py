"""Tag a table with every kind of damage mixed in, and check that nothing is lost and every problem is listed once.

    python benchmarks/hostile_table.py [--rows 100000] [--format csv|jsonl] [--model DIR] [--seed 1]

Every film must come out, in its place; each damaged row must stand once in `--problems`, with its line, and no sound
row may.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

PLOT = "A detective hunts a killer who is on the run, and the city is at war with itself in this tale of a family."
COLUMNS = ("id", "title", "year", "plot", "genres", "poster", "note")
HUGE = 2**20
HUGE_ROWS = 100
"""Plots of a megabyte in a table at most."""

Row = dict[str, object]


@dataclass
class Damage:
    """A way in which a row is bad.

    Attributes:
        said: what the problem says of it.
        error: whether the film is in error; else it has a warning.
        change: changes the row before it is written.
        spoil: changes its bytes after.
        times: problems that it gives rise to.
    """

    said: str
    error: bool = False
    change: Callable[[Row], None] = lambda row: None
    spoil: Callable[[bytes], bytes] = lambda line: line
    times: int = 1


def setting(**values: object) -> Callable[[Row], None]:
    return lambda row: row.update(values)


def without_last_field(line: bytes) -> bytes:
    return line.rstrip(b"\n").rpartition(b",")[0] + b"\n"


COMMON = {
    "invalid UTF-8": Damage("is not UTF-8", spoil=lambda line: line.replace(b"tale", b"caf\xe9")),
    "a year that is none": Damage("ignored invalid year", change=setting(year="soon")),
    "no such poster": Damage("does not exist", change=setting(poster="none.jpg")),
    "no such poster and no plot": Damage("does not exist", True, setting(poster="none.jpg", plot="")),
    "nothing to read": Damage("nothing to predict from", True, setting(plot="")),
    "a poster outside": Damage("is outside the posters folder", True, setting(poster="../../etc/passwd")),
    "a poster that links to itself": Damage(
        "is outside|cannot be read|does not exist", change=setting(poster="loop.jpg")
    ),
    "a poster that is text": Damage("is not a picture", change=setting(poster="text.jpg")),
    "an id that was there": Damage("occurs earlier", change=setting(id="first")),
    "a plot of a megabyte": Damage("only the first", change=setting(plot=(PLOT + " ") * (HUGE // len(PLOT)))),
}

DAMAGES: dict[str, dict[str, Damage]] = {
    "csv": COMMON
    | {
        "NUL bytes": Damage("has NUL bytes", spoil=lambda line: line.replace(b"hunts", b"hun\x00ts")),
        "stray quotes": Damage("has broken quotes", spoil=lambda line: line.replace(b",sound", b',"sound" or "not')),
        "a quote never closed": Damage("has broken quotes", spoil=lambda line: line.replace(b",sound", b',"sound')),
        "an opening quote": Damage("has broken quotes", spoil=lambda line: line.replace(b",,1999", b',",1999')),
        "a closing quote": Damage("", spoil=lambda line: line.replace(b",1999,", b',1999",'), times=0),
        "too few fields": Damage("fields where the header has", True, spoil=without_last_field),
        "too many fields": Damage("fields where", True, spoil=lambda line: line.replace(b"\n", b",more,more\n")),
    },
    "jsonl": COMMON
    | {
        "a plot that is a list": Damage("is a list|nothing to", True, setting(plot=["a", "list"]), times=2),
        "a poster that is a number": Damage("does not exist", change=setting(poster=7)),
        "half a line": Damage("is not JSON", True, spoil=lambda line: line[:40] + b"\n"),
        "no object": Damage("is not a JSON object", True, spoil=lambda line: b"[1, 2]\n"),
        "NUL bytes": Damage("is not JSON", True, spoil=lambda line: line.replace(b"hunts", b"hun\x00ts")),
        "nested past all reason": Damage(
            "is not JSON|nested", True, spoil=lambda line: b'{"id": ' + b"[" * 100_000 + b"\n"
        ),
    },
}


@dataclass
class Expected:
    """What a hostile table holds: the place of each film, and of these the damage of the bad ones."""

    places: list[str] = field(default_factory=list)
    ids: list[str | None] = field(default_factory=list)
    damaged: dict[str, str] = field(default_factory=dict)


def write_hostile(folder: Path, rows: int, kind: str, seed: int = 1) -> tuple[Path, Expected]:
    """Write a table of `rows` films, one in five damaged, and the posters folder that it speaks of, into `folder`."""
    chance = random.Random(seed)
    names = list(DAMAGES[kind])
    (folder / "text.jpg").write_text("no picture at all")
    (folder / "loop.jpg").symlink_to("loop.jpg")
    table, expected = folder / f"films.{kind}", Expected()
    line, huge = 1, 0
    with table.open("wb") as handle:
        if kind == "csv":
            line += handle.write(_csv([*COLUMNS]).encode()) > 0
        for number in range(rows):
            name = "first" if number == 0 else f"film{number}"
            row: Row = {"id": name, "title": "", "year": 1999, "plot": PLOT, "genres": "Drama", "poster": ""}
            row["note"] = f"sound {number}"
            bad = chance.choice(names) if number and chance.random() < 0.2 else None
            if bad == "a plot of a megabyte":
                huge += 1
                bad = bad if huge <= HUGE_ROWS else None
            elif bad is None and chance.random() < 0.1:
                row["plot"] = f'{PLOT}\nSecond line, "quoted".\n\n{PLOT}'  # sound, over several lines
            damage = DAMAGES[kind][bad] if bad else None
            if damage:
                damage.change(row)
            text = _csv([row[column] for column in COLUMNS]) if kind == "csv" else json.dumps(row) + "\n"
            data = damage.spoil(text.encode()) if damage else text.encode()
            place = f"line {line}"
            expected.places.append(place)
            unread = damage is not None and kind == "jsonl" and "JSON" in damage.said
            expected.ids.append(None if unread else str(row["id"]))
            if bad:
                expected.damaged[place] = bad
            handle.write(data)
            line += data.count(b"\n")
    return table, expected


def _csv(cells: list[object]) -> str:
    class Line(list[str]):
        write = list.append

    line = Line()
    csv.writer(line, lineterminator="\n").writerow(cells)
    return "".join(line)


def faults(expected: Expected, out: Path, problems: Path, kind: str) -> list[str]:
    """What is wrong with the output of a hostile table; empty where all is as it should be."""
    import re

    found: list[str] = []
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    listed = [json.loads(line) for line in problems.read_text(encoding="utf-8").splitlines()]
    if len(rows) != len(expected.places):
        found.append(f"{len(expected.places)} films went in and {len(rows)} came out")
    by_place = dict(zip(expected.places, rows, strict=False))
    found += [
        f"{place}: {row['id']!r} stands where {name!r} should"
        for (place, row), name in zip(by_place.items(), expected.ids, strict=False)
        if name is not None and row["id"] != name
    ]
    times = Counter(problem["place"] for problem in listed)
    for problem in listed:
        place, said = problem["place"], problem["problem"]
        bad = expected.damaged.get(place)
        if bad is None:
            found.append(f"{place} is sound, but: {said}")
        elif not re.search(DAMAGES[kind][bad].said, said) and times[place] == 1:
            found.append(f"{place} has {bad}, but: {said}")
        elif DAMAGES[kind][bad].error != (problem["kind"] == "error") and times[place] == 1:
            found.append(
                f"{place} has {bad}, which should{'' if DAMAGES[kind][bad].error else ' not'} be an error: {said}"
            )
    for place, bad in expected.damaged.items():
        if times[place] != DAMAGES[kind][bad].times:
            found.append(f"{place} has {bad}, listed {times[place]} times")
    return found


def run(folder: Path, rows: int, kind: str, model: Path | None, seed: int = 1) -> tuple[list[str], str]:
    """Tag a hostile table in a process of its own. Returns what is wrong, and a line that says what was done."""
    table, expected = write_hostile(folder, rows, kind, seed)
    out, problems = folder / "out.jsonl", folder / "problems.jsonl"
    command = [sys.executable, "-m", "mmgcs", "tag", str(table), "--out", str(out), "--problems", str(problems)]
    begun = time.perf_counter()
    done = subprocess.run(
        [*command, *(["--model", str(model)] if model else [])], capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - begun
    if done.returncode != 3:
        return [f"exit status {done.returncode}: {done.stderr}"], ""
    wrong = faults(expected, out, problems, kind)
    kinds = Counter(expected.damaged.values())
    return wrong, f"{rows:,} rows, {len(expected.damaged):,} damaged in {len(kinds)} ways, {seconds:.0f} s, {kind}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--format", choices=sorted(DAMAGES), default="csv")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        wrong, said = run(Path(folder), arguments.rows, arguments.format, arguments.model, arguments.seed)
    print(said)
    for line in wrong[:20]:
        print(line)
    print("nothing lost, every problem listed once" if not wrong else f"{len(wrong):,} faults")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
