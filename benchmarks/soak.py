"""Check that `mmgcs serve` withstands mixed load: wrong answers, and memory at the end compared with the beginning.

    python benchmarks/soak.py [--seconds 600] [--users 8] [--model DIR]

locust generates the load (`soak_users.py` defines the users); the server is a separate process, started here.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from serve import server, show


def resident(pid: int) -> int:
    """Return the resident memory of a process, in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def soak(port: int, pid: int, seconds: float, users: int) -> bool:
    """Load the server. Returns whether every answer was right and memory did not grow."""
    samples: list[tuple[float, int]] = []
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "locust", "-f", str(Path(__file__).with_name("soak_users.py")), "--headless"]
        command += ["--host", f"http://127.0.0.1:{port}", "--users", str(users), "--spawn-rate", str(users)]
        command += ["--run-time", f"{round(seconds)}s", "--csv", f"{folder}/soak", "--only-summary"]
        command += ["--loglevel", "ERROR", "--stop-timeout", "60"]
        began = time.monotonic()
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as locust:
            while locust.poll() is None:
                time.sleep(min(1.0, seconds / 100))
                samples.append((time.monotonic() - began, resident(pid)))
        with Path(folder, "soak_stats.csv").open() as table:
            rows = list(csv.DictReader(table))
        failures = Path(folder, "soak_failures.csv").read_text().splitlines()[1:]
    for row in rows:
        median = float(row["Median Response Time"] or 0)
        print(f"{row['Name']:<40} {row['Request Count']:>9} answers   median {median:.0f} ms")
    total = int(rows[-1]["Request Count"])
    show("wrong answers", str(len(failures)), f"{total:,}", len(failures), "0")
    print(*failures, sep="\n", end="\n" if failures else "")
    # A fifth is warm-up: graphs are opened and pools grow when first used.
    fifths = [
        statistics.median(size for at, size in samples if part <= 5 * at / seconds <= part + 1) for part in range(5)
    ]
    print("memory by fifths:", ", ".join(f"{size / 2**20:.0f}" for size in fifths), "MiB")
    print(f"largest: {max(size for _, size in samples) / 2**20:.0f} MiB; load of the machine: {os.getloadavg()[1]:.1f}")
    early, late = fifths[1], fifths[4]
    show(
        "memory: last fifth / second fifth",
        f"{late / 2**20:.0f} MiB",
        f"{early / 2**20:.0f} MiB",
        late / early,
        "≤ 1.05",
    )
    return total > 0 and not failures and late / early <= 1.05


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="a bundle's folder; the shipped one without it")
    parser.add_argument("--seconds", type=float, default=600.0, help="how long the load lasts")
    parser.add_argument("--users", type=int, default=8, help="how many ask at once, each without a pause")
    given = parser.parse_args()
    with server(given.model) as (port, pid):
        held = soak(port, pid, given.seconds, given.users)
    raise SystemExit(0 if held else 1)


if __name__ == "__main__":
    main()
