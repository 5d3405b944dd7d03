"""Take pictures of the pages, with a film of the sample, in the system's chromium.

python tools/page_pictures.py docs/images        the documentation's pictures
python tools/page_pictures.py /tmp/look --all    every page at four widths, light and dark, to look at
"""

from __future__ import annotations

import argparse
import base64
import io
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from selenium import webdriver
from selenium.common.exceptions import TimeoutException
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

FILM = "The Black Pirate"
PAGES = ("", "film", "tables", "tagged", "model", "scores", "data", "api", "about")
WIDTHS = (1440, 820, 390, 320)


def open_browser() -> webdriver.Chrome:
    """Start the system's chromium, without a window."""
    options = Options()
    options.binary_location = shutil.which("chromium") or ""
    for argument in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu", "hide-scrollbars"):
        options.add_argument(f"--{argument}")
    return webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))


def set_screen(driver: webdriver.Chrome, width: int, scheme: str, scale: int = 1) -> None:
    """Set the screen's width, the pixels per CSS pixel, and the preferred colours."""
    size = {"width": width, "height": 800, "deviceScaleFactor": scale, "mobile": width <= 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [
        {"name": "prefers-color-scheme", "value": scheme},
        {"name": "prefers-reduced-motion", "value": "reduce"},
    ]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def film_card(driver: webdriver.Chrome) -> WebElement:
    """Find the film on the start page. Exits with what the page shows instead, such as an error of the server."""
    path = f"//button[contains(@class, 'film-card')][contains(., '{FILM}')]"
    try:
        return WebDriverWait(driver, 20).until(lambda _: driver.find_element(By.XPATH, path))
    except TimeoutException:
        shown = driver.find_element(By.TAG_NAME, "body").text
        sys.exit(f"{driver.current_url} does not offer the film {FILM}; it shows: {shown or 'nothing'}")


def open_page(driver: webdriver.Chrome, url: str, page: str) -> None:
    """Open a page: "film" is the start page with a film's answer, "tagged" the page for tables with a result."""
    driver.get(url + {"film": "", "tagged": "tables"}.get(page, page))
    wait = WebDriverWait(driver, 60)
    if page == "film":
        driver.execute_script("arguments[0].click()", film_card(driver))
        wait.until(lambda _: driver.find_element(By.ID, "why-body").is_displayed())
        wait.until(lambda _: driver.execute_script("return document.getElementById('heat-poster').complete"))
    if page == "tagged":
        driver.find_element(By.ID, "try").click()
        wait.until(lambda _: driver.find_element(By.ID, "result").is_displayed())
    driver.execute_script("document.activeElement.blur(); scrollTo(0, 0)")


def shoot(driver: webdriver.Chrome, path: Path, height: int | None = None) -> None:
    """Write the page, or its upper `height` pixels, as a PNG of 128 colours."""
    box: dict[str, Any] = driver.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
    clip = {"x": 0, "y": 0, "width": box["width"], "height": min(height or 2800, box["height"]), "scale": 1}
    shot = driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
    picture = Image.open(io.BytesIO(base64.b64decode(shot["data"]))).convert("RGB")
    picture.quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)


@contextmanager
def server(url: str | None) -> Iterator[str]:
    """Start `mmgcs serve` unless there is a server at `url`; yield the address."""
    if url:
        yield url
        return
    command = [sys.executable, "-m", "mmgcs", "serve", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:  # noqa: S603  our own command
        assert process.stderr is not None
        found = re.search(r"http://\S+", process.stderr.readline())
        assert found is not None
        threading.Thread(target=process.stderr.read, daemon=True).start()
        try:
            yield found[0]
        finally:
            process.terminate()


def main() -> None:
    """Take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where to write them")
    parser.add_argument("--all", action="store_true", help="every page at every width, light and dark")
    parser.add_argument("--pages", nargs="*", default=PAGES, help="with --all, only these pages")
    parser.add_argument("--widths", nargs="*", type=int, default=WIDTHS, help="with --all, only these widths")
    parser.add_argument("--schemes", nargs="*", default=("light", "dark"), help="with --all, only these themes")
    parser.add_argument("--url", help="the address of a running server, ending in /; by default one is started")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    with server(given.url) as url:
        driver = open_browser()
        try:
            if given.all:
                for page in given.pages:
                    open_page(driver, url, page)
                    for width in given.widths:
                        for scheme in given.schemes:
                            set_screen(driver, width, scheme)
                            shoot(driver, given.folder / f"{page or 'start'}-{width}-{scheme}.png")
                return
            for name, page, width, scheme, height in (
                ("page-light", "film", 1280, "light", 1100),
                ("scores", "scores", 1280, "light", 1300),
                ("batch", "tagged", 1280, "light", 1100),
                ("page-dark-phone", "film", 390, "dark", 2400),
            ):
                set_screen(driver, width, scheme, scale=1 if width > 600 else 2)
                open_page(driver, url, page)
                shoot(driver, given.folder / f"{name}.png", height)
        finally:
            driver.quit()


if __name__ == "__main__":
    main()
