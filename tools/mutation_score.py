"""How many changes to the code a test noticed, module by module; too few are an error.

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
"""Outcomes of a change that a test noticed: it failed, or ran for ever, or the process died."""


def scores(lines: Iterable[str]) -> dict[str, tuple[int, int]]:
    """For each module the changes that were noticed, and those that were tried; `lines` are what mutmut prints."""
    noticed: Counter[str] = Counter()
    tried: Counter[str] = Counter()
    for line in lines:
        if (found := LINE.fullmatch(line.rstrip())) is not None and found["outcome"] != "not checked":
            tried[found["module"]] += 1
            noticed[found["module"]] += found["outcome"] in NOTICED
    return {module: (noticed[module], tried[module]) for module in sorted(tried)}


def main() -> int:
    """Print a line a module. Returns 1 where one is under the least share, or where nothing was tried."""
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
