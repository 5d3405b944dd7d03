"""Make the documentation's pictures of the pages, from the sample films, in the system's chromium.

python tools/page_pictures.py docs/images
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
from pathlib import Path
from typing import Any

from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

FILM = "The Phantom of the Opera (1925)"


def open_browser() -> webdriver.Chrome:
    """The system's chromium, without a window."""
    options = Options()
    options.binary_location = shutil.which("chromium") or ""
    for argument in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu", "hide-scrollbars"):
        options.add_argument(f"--{argument}")
    return webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))


def look(driver: webdriver.Chrome, width: int, scheme: str) -> None:
    """Set the screen's width and the colours that are preferred."""
    size = {"width": width, "height": 800, "deviceScaleFactor": 1 if width > 600 else 2, "mobile": width <= 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    wish = [{"name": "prefers-color-scheme", "value": scheme}, {"name": "prefers-reduced-motion", "value": "reduce"}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": wish})


def ask(driver: webdriver.Chrome, url: str) -> None:
    """Let the page answer for a sample film."""
    driver.get(url)
    Select(driver.find_element(By.ID, "sample")).select_by_visible_text(FILM)
    done = "return !document.getElementById('why').hidden && !document.getElementById('frame').hidden"
    WebDriverWait(driver, 60).until(lambda _: driver.execute_script(done))
    driver.execute_script("document.activeElement.blur()")


def shoot(driver: webdriver.Chrome, path: Path) -> None:
    """Write the whole page as a PNG of 128 colours."""
    box: dict[str, Any] = driver.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
    clip = {"x": 0, "y": 0, "width": box["width"], "height": box["height"], "scale": 1}
    shot = driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
    picture = Image.open(io.BytesIO(base64.b64decode(shot["data"]))).convert("RGB")
    picture.quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)


def main() -> None:
    """Start the server, take the pictures, end it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where they go")
    folder = parser.parse_args().folder
    command = [sys.executable, "-m", "mmgcs", "serve", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:  # noqa: S603  our own command
        assert server.stderr is not None
        found = re.search(r"http://\S+", server.stderr.readline())
        threading.Thread(target=server.stderr.read, daemon=True).start()
        driver = open_browser()
        try:
            assert found is not None
            look(driver, 1200, "light")
            ask(driver, found[0])
            shoot(driver, folder / "page-light.png")
            driver.get(f"{found[0]}scores")
            shoot(driver, folder / "scores.png")
            driver.get(f"{found[0]}tables")
            driver.find_element(By.ID, "try").click()
            WebDriverWait(driver, 60).until(lambda _: driver.find_element(By.ID, "result").is_displayed())
            shoot(driver, folder / "batch.png")
            look(driver, 390, "dark")
            ask(driver, found[0])
            shoot(driver, folder / "page-dark-phone.png")
        finally:
            driver.quit()
            server.terminate()


if __name__ == "__main__":
    main()
