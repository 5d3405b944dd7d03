"""Report how many mutations of each module the tests caught; exit with 1 if they caught too few.

mutmut results --all true | python tools/mutation_score.py [--least 0.8]
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from collections.abc import Iterable

LINE = re.compile(r"\s*(?P<module>[\w.]+)\.x[_ǁ]\S*__mutmut_\d+: (?P<outcome>[\w ]+)")
NOTICED = frozenset({"killed", "timeout", "segfault"})
"""Outcomes of a mutation that the tests caught: a test failed or never ended, or the process died."""


def scores(lines: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Return how many mutations of each module were caught, and how many were tried, from mutmut's output."""
    noticed: Counter[str] = Counter()
    tried: Counter[str] = Counter()
    for line in lines:
        if (found := LINE.fullmatch(line.rstrip())) is not None and found["outcome"] != "not checked":
            tried[found["module"]] += 1
            noticed[found["module"]] += found["outcome"] in NOTICED
    return {module: (noticed[module], tried[module]) for module in sorted(tried)}


def main() -> int:
    """Print one line per module. Return 1 if one is below the least share, or if nothing was tried."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--least", type=float, default=0.8, help="the least share that must be noticed")
    least = parser.parse_args().least
    found = scores(sys.stdin)
    for module, (noticed, tried) in found.items():
        low = "  too few" if noticed < least * tried else ""
        print(f"{module:32} {noticed:5} of {tried:5} noticed  {noticed / tried:4.0%}{low}")
    return int(not found or any(noticed < least * tried for noticed, tried in found.values()))


if __name__ == "__main__":
    sys.exit(main())
