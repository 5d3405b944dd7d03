"""Measure the first paint and the layout shift of the pages of `mmgcs serve`, in the system's chromium.

    python benchmarks/first_paint.py [--times 7] [--model DIR]

Each page's first contentful paint is compared with that of a one-word page from the same server, in turns.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from serve import server, show

PAGES = ("/", "/tables", "/model", "/scores", "/data", "/api", "/about")
BARE = "/healthz"
PAINT = """const done = arguments[0];
    const told = () => performance.getEntriesByName('first-contentful-paint').map(one => one.startTime);
    (function look() { told().length ? done(told()[0]) : setTimeout(look, 5); })()"""
SHIFTS = """const done = arguments[0]; let sum = 0;
    new PerformanceObserver(list => list.getEntries().forEach(one => { sum += one.value; }))
        .observe({type: 'layout-shift', buffered: true});
    setTimeout(() => done(sum), 200)"""


def browser() -> webdriver.Chrome:
    options = Options()
    options.binary_location = shutil.which("chromium") or ""
    for argument in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu", "window-size=1200,900"):
        options.add_argument(f"--{argument}")
    return webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))


def compare(port: int, times: int) -> None:
    driver = browser()
    try:
        found: dict[str, list[float]] = {page: [] for page in (BARE, *PAGES)}
        moved: dict[str, float] = {}
        for turn in range(times + 1):
            for page, seen in found.items():
                driver.get(f"http://127.0.0.1:{port}{page}")
                paint = driver.execute_async_script(PAINT)
                if turn:  # the first time fills the browser's cache
                    seen.append(paint)
                else:
                    moved[page] = driver.execute_async_script(SHIFTS)
    finally:
        driver.quit()
    bare = statistics.median(found[BARE])
    print(f"{'':<50} {'ours':>12} {'reference':>12} {'ratio':>8}")
    for page in PAGES:
        paint = statistics.median(found[page])
        what = f"{page}: first paint / that of one word"
        show(what, f"{paint:.0f} ms", f"{bare:.0f} ms", paint / bare, f"< 1000 ms; moved {moved[page]:.3f}, target 0")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="a bundle's folder; by default, the shipped one")
    parser.add_argument("--times", type=int, default=7, help="how many times to open each page")
    given = parser.parse_args()
    with server(given.model) as (port, _):
        compare(port, given.times)


if __name__ == "__main__":
    main()
