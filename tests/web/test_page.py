"""The pages in the system's own browser, used as a person would: pointer, keyboard, dark, narrow, and wrong files."""

from __future__ import annotations

import base64
import json
import math
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("selenium")

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

from mmgcs.bundle import DEFAULT_BUNDLE
from mmgcs.sample import sample_films
from mmgcs.web import Settings

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None, reason="Debian's chromium and chromium-driver are not installed"
)

PLOT = "Two detectives hunt a killer through the city"
PAGES = ("/", "/tables", "/model", "/scores", "/data", "/api", "/about", "/no-such-page")


class Person:
    """Someone at the browser."""

    def __init__(self, driver: Any, url: str) -> None:
        self.driver, self.url = driver, url

    def open(self, path: str = "/") -> None:
        self.driver.get(self.url + path)
        # The first time, a busy browser returns from `get` while the page is still loading.
        self.wait(lambda: self.js("return document.readyState") == "complete")

    def find(self, name: str) -> Any:
        return self.driver.find_element(By.ID, name)

    def all(self, selector: str) -> list[Any]:
        return list(self.driver.find_elements(By.CSS_SELECTOR, selector))

    def texts(self, selector: str) -> list[str]:
        return [one.text for one in self.all(selector)]

    def js(self, script: str, *values: Any) -> Any:
        return self.driver.execute_script(script, *values)

    def wait(self, what: Any) -> Any:
        ignored = (StaleElementReferenceException,)  # the page was left meanwhile
        return WebDriverWait(self.driver, 60, 0.05, ignored).until(lambda _: what())

    def see_width(self, width: int, height: int = 844) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def prefer(self, scheme: str) -> None:
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def drop(self, path: Path) -> None:
        """Drag a file from the desktop onto the page's drop zone."""
        box = self.js("const b = arguments[0].getBoundingClientRect(); return [b.x + 20, b.y + 20]", self.find("drop"))
        data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            event = {"type": kind, "x": box[0], "y": box[1], "data": data}
            self.driver.execute_cdp_cmd("Input.dispatchDragEvent", event)

    def keys(self, *keys: str) -> None:
        """Press keys, wherever the focus is."""
        ActionChains(self.driver).send_keys(*keys).perform()

    def write(self, plot: str) -> None:
        self.find("plot").clear()
        self.find("plot").send_keys(plot)

    def said(self) -> str:
        """What a screen reader says of the answer, once it is there."""
        busy = "return document.getElementById('answer').getAttribute('aria-busy')"
        self.wait(lambda: self.find("result").is_displayed() and self.js(busy) == "false")
        return str(self.find("status").get_attribute("textContent"))

    def reasons(self) -> str:
        """The line about the inputs' contributions, once the explanation is there."""
        busy = "return document.getElementById('why-body').getAttribute('aria-busy')"
        self.wait(lambda: self.find("why-body").is_displayed() and self.js(busy) == "false")
        return str(self.find("contributions-text").text)

    def clipboard(self) -> str:
        read = "setTimeout(() => navigator.clipboard.readText().then(arguments[0]), 200)"
        return str(self.driver.execute_async_script(read))

    def predicted(self) -> list[str]:
        return [bar.get_attribute("data-genre") for bar in self.all(".bar.predicted")]

    def error(self) -> str:
        return str(self.wait(lambda: self.find("error").text))

    def complaints(self) -> list[Any]:
        """What the console says went wrong, except responses of 4xx, which it lists too."""
        return [entry for entry in self.driver.get_log("browser") if "Failed to load resource" not in entry["message"]]


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    options = Options()
    options.binary_location = CHROMIUM or ""
    # Tests run as root in containers, where Chromium's sandbox and /dev/shm are not available.
    for argument in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu", "window-size=1200,900"):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    found = webdriver.Chrome(options=options, service=Service(DRIVER))
    permissions = {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    found.execute_cdp_cmd("Browser.grantPermissions", permissions)
    try:
        yield found
    finally:
        found.quit()


@pytest.fixture
def person(driver: Any, running: Any) -> Iterator[Person]:
    found = Person(driver, running.url)
    found.see_width(1200, 900)
    found.prefer("light")
    driver.get_log("browser")
    yield found
    assert found.complaints() == []


@pytest.fixture(scope="module")
def default_server(serving: Any) -> Iterator[Any]:
    """A server with the default model."""
    with serving(bundle=DEFAULT_BUNDLE) as found:
        yield found


def run(command: str, folder: Path) -> str:
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=True, cwd=folder)
    return done.stdout


def test_a_plot_is_predicted_then_explained_and_predicted_again_when_it_changes(person: Person) -> None:
    person.open()
    person.js("window.same = true")
    person.write(PLOT)
    person.find("go").click()
    assert re.fullmatch(r"Predicted genres: Crime \d+%, Thriller \d+%\. Confidence \d+%\.", person.said())
    assert [text.split()[0] for text in person.texts("#predicted li")] == person.predicted() == ["Crime", "Thriller"]
    values = [int(text.rstrip("%")) for text in person.texts(".bar .value") if text]
    assert values == sorted(values, reverse=True)
    assert person.reasons() == "Based on the plot alone."
    marked = " ".join(person.texts("#words mark.for"))
    assert "detectives" in marked
    assert not {"a", "the", "through"} & {text.lower() for text in person.texts("#words mark")}
    assert "“" in person.find("strongest").text
    person.driver.find_element(By.CSS_SELECTOR, '[data-genre="Comedy"]').click()
    assert person.find("why-genre").text == "Comedy"
    person.write("A haunted village")
    person.wait(lambda: person.predicted() == ["Horror"])
    assert person.js("return window.same")
    person.find("plot").send_keys(Keys.CONTROL, "a", Keys.DELETE)
    person.wait(lambda: person.find("empty").is_displayed())
    assert not person.find("error").is_displayed()
    person.write(PLOT)
    person.find("go").click()
    person.said()
    person.find("plot").send_keys(" again")
    person.find("clear").click()
    time.sleep(0.7)  # longer than the page waits before it predicts what was typed
    assert not person.find("error").is_displayed()


def test_browsing_the_gallery_predicts_at_once_and_destroys_nothing(person: Person) -> None:
    person.open()
    cards = [card for card in person.all(".film-card") if card.is_displayed()]
    assert len(cards) == 8
    assert all(person.js("return arguments[0].querySelector('img') !== null", card) for card in cards)
    person.find("title").send_keys("Mine")
    person.write("My own plot about detectives")
    cards[0].click()
    person.said()
    assert person.find("title").get_attribute("value") == cards[0].text.rsplit(maxsplit=1)[0]
    assert person.find("plot").get_attribute("value") != "My own plot about detectives"
    assert person.find("preview").is_displayed()
    person.find("copy-link").click()
    assert person.clipboard() == f"{person.url}/?film=0"
    person.find("bring-back").click()
    person.said()
    assert person.find("title").get_attribute("value") == "Mine"
    assert person.find("plot").get_attribute("value") == "My own plot about detectives"
    assert not person.find("preview").is_displayed()
    person.find("more-films").click()
    assert len([card for card in person.all(".film-card") if card.is_displayed()]) == len(sample_films())


def test_a_poster_is_dropped_pasted_and_removed_and_a_wrong_file_is_named(
    person: Person, poster: bytes, tmp_path: Path
) -> None:
    person.open()
    notes, drawing, picture = tmp_path / "notes.txt", tmp_path / "poster.svg", tmp_path / 'One, two; "three".jpg'
    picture.write_bytes(poster)
    notes.write_text("not a poster")
    drawing.write_text("<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>")
    person.drop(notes)
    assert person.error() == "notes.txt is not an image. Choose a JPEG, PNG or WebP file."
    person.drop(drawing)  # an image, but none that the server reads
    person.wait(lambda: "notes.txt" not in person.error())
    person.drop(picture)
    person.said()
    assert not person.find("error").is_displayed()
    assert person.find("poster-name").text == picture.name
    assert person.reasons() == "Based on the poster alone."
    if shutil.which("curl"):
        command = person.find("api-code").get_attribute("textContent")
        assert json.loads(run(command, tmp_path))["inputs"] == ["poster"]
    person.find("remove").click()
    assert not person.find("result").is_displayed()
    # A page cannot fill the clipboard with a file: the event is made, as the browser makes it on Ctrl-V.
    paste = """const data = new DataTransfer(), bytes = Uint8Array.from(atob(arguments[0]), c => c.charCodeAt(0));
        data.items.add(new File([bytes], 'image.png', {type: 'image/png'}));
        if (arguments[2]) data.setData('text/plain', arguments[2]);
        const event = new ClipboardEvent('paste', {clipboardData: data, bubbles: true, cancelable: true});
        return arguments[1].dispatchEvent(event)"""
    image, plot = base64.b64encode(poster).decode(), person.find("plot")
    assert person.js(paste, image, plot, "a cell of a spreadsheet")  # the browser pastes the text
    assert not person.js(paste, image, plot)
    person.said()
    assert person.find("preview").is_displayed()


def test_contributions_are_signed_and_the_heat_map_is_clear_where_nothing_matters(
    person: Person, default_server: Any
) -> None:
    page = Person(person.driver, default_server.url)
    page.open("/?film=0")
    page.said()
    line = page.reasons()
    shown = {name.lower(): int(value.replace("−", "-")) for name, value in re.findall(r"(\w+) ([+−]\d+)", line)}
    film, genre = sample_films()[0], page.find("why-genre").text
    sent = {"plot": film.plot, "title": film.title, "genres": [genre]}
    sent["poster"] = base64.b64encode(Path(str(film.poster)).read_bytes()).decode()
    answer = default_server.post("/api/v1/explain", sent).json()
    odds = math.log(answer["probabilities"][genre] / (1 - answer["probabilities"][genre]))
    for name, drop in answer["explanation"]["inputs"][genre].items():
        without = 1 / (1 + math.exp(drop - odds))
        assert shown[name] == pytest.approx(100 * (answer["probabilities"][genre] - without), abs=0.6)
    alphas = """const heat = document.getElementById('heat'), context = heat.getContext('2d');
        return [...context.getImageData(0, 0, heat.width, heat.height).data].filter((_, at) => at % 4 === 3)"""
    found = page.js(alphas)
    if page.find("opacity").is_displayed():
        assert max(found) > 150
        assert min(found) < 40
        page.js("const o = arguments[0]; o.value = 20; o.dispatchEvent(new Event('input'))", page.find("opacity"))
        assert float(page.js("return getComputedStyle(document.getElementById('heat')).opacity")) == 0.2
    else:
        assert max(found) == 0
    assert re.search(r"speaks (most )?for", page.find("heat").accessible_name)


def test_the_reasons_of_one_film_are_not_shown_for_the_next(person: Person) -> None:
    person.open("/?film=0")
    person.said()
    person.reasons()
    assert person.find("poster-reasons").is_displayed()
    person.find("remove").click()
    person.wait(lambda: person.find("contributions-text").text == "Based on the plot alone.")
    assert not person.find("poster-reasons").is_displayed()
    assert not [entry for entry in person.driver.get_log("browser") if "/null" in entry["message"]]


def test_what_needs_review_says_why_and_nothing_is_both_predicted_and_open(person: Person, default_server: Any) -> None:
    page = Person(person.driver, default_server.url)
    asked = [(film.plot, default_server.post("/api/v1/predict", {"plot": film.plot}).json()) for film in sample_films()]
    plot, answer = next(
        (plot, answer)
        for plot, answer in asked
        if not answer["sure"] and not answer["warnings"] and answer["undecided"]
    )
    page.open()
    page.write(plot)
    page.find("go").click()
    page.said()
    assert re.match(r"Needs review: (the confidence of \d+% is below|no genre is likely)", page.find("verdict").text)
    predicted = [text.rsplit(maxsplit=1)[0] for text in page.texts("#predicted li")]
    could = [text.rsplit(maxsplit=1)[0] for text in page.texts("#could li")]
    assert predicted == page.predicted() == answer["genres"]  # what the API and tables predict
    assert could == [genre for genre in answer["undecided"] if genre not in predicted]


def test_without_an_explanation_the_answer_stays(person: Person) -> None:
    person.open()
    person.js("""const real = window.fetch; window.fetch = (address, options) =>
        String(address).endsWith("explain")
        ? Promise.resolve(new Response("<html>", {status: 503, headers: {"Content-Type": "text/html"}}))
        : real(address, options)""")
    person.write(PLOT)
    person.find("go").click()
    person.wait(lambda: "not available" in person.find("why-status").text)
    assert person.predicted() == ["Crime", "Thriller"]
    assert person.find("why-again").is_displayed()


def test_a_link_json_and_curl_hold_the_present_film(person: Person, tmp_path: Path) -> None:
    plot = "Detectives hunt O'Hara, a killer"
    person.open()
    person.find("title").send_keys("Night & Day")
    person.write(plot)
    person.find("go").click()
    person.said()
    person.find("copy-json").click()
    value = json.loads(person.clipboard())
    assert (value["title"], value["plot"]) == ("Night & Day", plot)
    assert value["prediction"]["genres"] == person.predicted()
    command = person.find("api-code").get_attribute("textContent")
    if shutil.which("curl"):
        assert json.loads(run(command, tmp_path))["genres"] == person.predicted()
    person.find("copy-link").click()
    person.open(person.clipboard().removeprefix(person.url))
    person.said()
    assert person.find("title").get_attribute("value") == "Night & Day"
    assert person.find("plot").get_attribute("value") == plot


def test_what_is_sent_before_the_script_is_loaded_is_not_lost(person: Person) -> None:
    person.driver.execute_cdp_cmd("Network.enable", {})
    person.driver.execute_cdp_cmd("Network.setBlockedURLs", {"urls": ["*/film.js*"]})
    person.open()
    person.write(PLOT)
    person.find("go").click()
    person.wait(lambda: "plot=" in person.driver.current_url)
    person.driver.execute_cdp_cmd("Network.setBlockedURLs", {"urls": []})
    person.driver.refresh()
    assert person.said().startswith("Predicted genres: Crime")
    assert person.find("plot").get_attribute("value") == PLOT


def test_errors_are_in_plain_words_and_markup_stays_text(person: Person) -> None:
    person.open()
    person.find("go").click()
    assert person.error() == "Enter a plot or add a poster first."
    person.write("<img src=x onerror=alert(1)> detectives <script>alert(2)</script>")
    person.find("go").click()
    person.reasons()
    assert "<script>" in person.find("words").text
    assert person.all("#words img, #words script") == []
    for status, message in ((413, "larger than this server accepts"), (502, "not running"), (599, "status 599")):
        person.js(f"window.fetch = async () => new Response('<html>', {{status: {status}}})")
        person.find("go").click()
        person.wait(lambda message=message: message in person.error())


def test_an_api_key_is_asked_for_and_kept_for_the_tab(person: Person, serving: Any) -> None:
    with serving(Settings(drain=0.1, threads=4, api_key="secret")) as other:
        page = Person(person.driver, other.url)
        page.open()
        page.write(PLOT)
        page.find("go").click()
        assert page.error() == "Enter this server's API key."
        page.find("key").send_keys("wrong")
        page.find("go").click()
        page.wait(lambda: page.error() == "The server does not accept this API key.")
        page.find("key").clear()
        page.find("key").send_keys("secret")
        page.find("go").click()
        page.said()
        page.open()
        assert page.find("key").get_attribute("value") == "secret"


def test_a_table_is_tagged_previewed_filtered_and_found_again_after_a_reload(
    person: Person, running: Any, tmp_path: Path
) -> None:
    table, wrong = tmp_path / "films.csv", tmp_path / "films.docx"
    table.write_text(f"title,plot\nOne,{PLOT}\nTwo,A haunted village\nThree,\nFour,Nothing known\n")
    wrong.write_text("?")
    person.open("/tables")
    person.drop(wrong)
    assert person.error().startswith("films.docx is not a table this page can read.")
    person.drop(table)
    person.wait(lambda: person.find("result").is_displayed())
    assert person.find("progress-text").text.startswith("Done: 4 films of films.csv.")
    for _ in range(2):  # the second time after a reload
        assert person.texts("#preview th") == ["One", "Two", "Three", "Four"]
        assert "Horror" in person.texts("#preview tr")[1]
        assert any(text.startswith("Horror") for text in person.texts("#counts tr"))
        person.find("review-only").click()
        assert "One" not in person.find("preview").text
        lines = running.ask(person.find("result").get_attribute("href").removeprefix(running.url)).content.decode()
        assert "Horror" in lines.splitlines()[2]
        person.driver.refresh()
        person.wait(lambda: person.find("result").is_displayed())
    job = person.driver.current_url
    person.open("/")
    person.driver.execute_cdp_cmd("Network.enable", {})
    person.driver.execute_cdp_cmd("Network.setBlockedURLs", {"urls": ["*/api/v1/batch/*"]})
    person.driver.get(job)
    person.wait(lambda: "Trying again" in person.find("progress-text").text)
    person.driver.execute_cdp_cmd("Network.setBlockedURLs", {"urls": []})
    person.wait(lambda: person.find("result").is_displayed())
    first = person.find("result").get_attribute("href")
    person.drop(table)
    person.wait(lambda: person.find("result").is_displayed() and person.find("result").get_attribute("href") != first)
    assert running.ask(first.removeprefix(running.url)).status_code == 200  # its address is still valid
    person.open("/tables?job=gone")
    assert "no longer on the server" in person.error()
    damaged = tmp_path / "films.parquet"
    damaged.write_text("this is not Parquet")
    person.open("/tables")
    person.drop(damaged)
    assert person.error()[0].isupper()
    assert not person.find("result").is_displayed()


@pytest.mark.slow
def test_progress_of_a_large_table_is_announced_by_tenths_and_it_can_be_stopped(
    person: Person, running: Any, tmp_path: Path
) -> None:
    table = tmp_path / "films.csv"
    table.write_text("plot\n" + f"{PLOT}\n" * 90_000)
    person.open("/tables")
    person.js("""window.said = []; const status = document.getElementById("status");
        new MutationObserver(() => said.push(status.textContent)).observe(status, {childList: true})""")
    person.drop(table)
    person.wait(lambda: float(person.find("progress").get_attribute("value") or 0) > 0.12)
    progress = r"[\d,]+ of [\d,]+ films tagged \(\d+%\), about \d+ (seconds|minutes) left"
    person.wait(lambda: re.fullmatch(progress, person.find("progress-text").text))
    job = person.js("return new URLSearchParams(location.search).get('job')")
    person.find("stop").click()
    assert person.find("progress-text").text == "Stopped. The table was deleted from the server."
    assert len(person.js("return said")) <= 4
    person.wait(lambda: running.ask(f"/api/v1/batch/{job}").status_code == 404)
    assert "job=" not in person.driver.current_url


def test_the_api_page_sends_a_request_copies_examples_and_opens_schemas(person: Person) -> None:
    person.open("/api")
    person.driver.find_element(By.CSS_SELECTOR, "#request button[type=submit]").click()
    person.wait(lambda: person.find("response-status").text == "200")
    assert json.loads(person.find("response").get_attribute("textContent"))["genres"]
    copy = person.all(".copy")[1]
    expected = person.js("return arguments[0].closest('.code').querySelector('pre').textContent", copy)
    copy.click()
    person.wait(lambda: copy.text == "Copied")
    assert person.clipboard() == expected
    person.js("Object.defineProperty(navigator, 'clipboard', {value: undefined})")  # as on plain http elsewhere
    person.all(".copy")[0].click()
    person.wait(lambda: person.all(".copy")[0].text == "Copied")
    person.open("/api#schema-PredictionOut")
    person.wait(lambda: person.js("return document.getElementById('schema-PredictionOut').open"))


def test_everything_can_be_done_from_the_keyboard(person: Person) -> None:
    person.open()
    person.keys(Keys.TAB, Keys.ENTER)  # skip to the content
    reached = []
    for keys in ((), ("Title",), (PLOT,), ()):
        person.keys(Keys.TAB)
        reached.append(person.driver.switch_to.active_element.get_attribute("id"))
        person.keys(*keys)
    assert reached == ["poster", "title", "plot", "go"]
    person.find("plot").send_keys(Keys.CONTROL, Keys.ENTER)
    assert person.said().startswith("Predicted genres: Crime")
    info = person.driver.find_element(By.CSS_SELECTOR, '[popovertarget="about-confidence"]')
    info.send_keys(Keys.ENTER)
    assert person.find("about-confidence").is_displayed()
    person.keys(Keys.ESCAPE)
    assert not person.find("about-confidence").is_displayed()
    bar = person.driver.find_element(By.CSS_SELECTOR, '[data-genre="Thriller"]')
    bar.send_keys(Keys.ENTER)
    assert person.find("why-genre").text == "Thriller"
    assert re.match("Thriller ?, predicted", bar.accessible_name)


def test_the_theme_follows_the_system_until_one_is_chosen(person: Person) -> None:
    brightness = """return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3)
        .reduce((sum, part) => sum + Number(part), 0)"""
    person.open()
    assert person.js(brightness) > 600
    person.prefer("dark")
    assert person.js(brightness) < 150
    Select(person.find("theme")).select_by_value("light")
    assert person.js(brightness) > 600
    person.open("/about")
    assert person.js(brightness) > 600
    Select(person.find("theme")).select_by_value("")
    assert person.js(brightness) < 150


@pytest.fixture(scope="module")
def measured_server(serving: Any, measured: Path) -> Iterator[Any]:
    with serving(bundle=measured) as found:
        yield found


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_any_page_in_any_state(person: Person, measured_server: Any, scheme: str) -> None:
    package = pytest.importorskip("axe_selenium_python")
    axe = (files(package) / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")
    person.prefer(scheme)
    person.url = measured_server.url
    found: list[Any] = []

    def check(state: str) -> None:
        person.wait(lambda: person.js("return document.getAnimations().length") == 0)
        person.js(axe)
        result = person.driver.execute_async_script("axe.run().then(arguments[0])")
        found.extend((state, one["id"], one["nodes"][0]["html"]) for one in result["violations"])

    for page in PAGES:
        person.open(page)
        person.js("document.querySelectorAll('details').forEach(one => { one.open = true; })")
        check(page)
    person.open()
    person.find("go").click()
    person.error()
    check("an error")
    person.all(".film-card")[2].click()
    person.reasons()
    person.find("all-genres").click()
    person.js("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    check("an answer")
    person.driver.find_element(By.CSS_SELECTOR, '[popovertarget="about-why"]').click()
    check("a sign explained")
    person.open("/tables")
    person.find("try").click()
    person.wait(lambda: person.find("result").is_displayed())
    check("a tagged table")
    assert found == []


@pytest.mark.parametrize("width", [320, 390])
def test_on_a_phone_no_page_is_wider_than_the_screen(person: Person, width: int) -> None:
    person.see_width(width)
    for page in ("/?film=0", f"/?plot=detectives+{'a' * 200}", *PAGES):
        person.open(page)
        if "=" in page:
            person.reasons()
        assert person.js("return document.documentElement.scrollWidth") <= width, page


@pytest.mark.parametrize("width", [390, 1200])
def test_nothing_moves_by_itself_and_nothing_comes_from_elsewhere(person: Person, width: int) -> None:
    watch = """window.moved = []; new PerformanceObserver(list => list.getEntries().forEach(one =>
        one.hadRecentInput || moved.push([one.value, one.sources.map(part => part.node?.id || part.node?.className)])
        )).observe({type: 'layout-shift', buffered: true})"""
    script = person.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": watch})
    try:
        person.see_width(width)
        for page in PAGES:
            person.open(page)
            loaded = person.js("return performance.getEntriesByType('resource').map(one => one.name)")
            assert loaded
            assert all(name.startswith(person.url) for name in loaded)
            assert sum(value for value, _ in person.js("return moved")) < 0.05, page
        person.open()
        person.find("plot").send_keys(PLOT)
        person.find("go").click()
        person.reasons()
        person.find("plot").send_keys(" in a haunted village")
        person.wait(lambda: "Horror" in person.predicted())
        person.reasons()
        moved = person.js("return moved")
        assert sum(value for value, _ in moved) < 0.05, moved
    finally:
        person.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)


def test_a_person_walks_through_the_site_under_a_sub_path(person: Person, serving: Any) -> None:
    # The headers of proxies are tested in test_settings.py.
    with serving(prefix="/films") as other:
        page = Person(person.driver, other.url)
        page.open("/")
        page.all(".film-card")[0].click()
        page.reasons()
        for name in ("Model", "Scores", "Data", "API", "About", "Tables"):
            page.driver.find_element(By.LINK_TEXT, name).click()
            page.wait(lambda name=name: page.texts("nav [aria-current]") == [name])
            assert page.driver.current_url.startswith(f"{other.url}/")
        page.find("try").click()
        page.wait(lambda: page.find("result").is_displayed())
        assert page.find("result").get_attribute("href").startswith(f"{other.url}/api/v1/batch/")
        page.open("/api")
        assert f"curl {other.url}/api/v1/predict" in page.driver.page_source
        page.driver.find_element(By.CSS_SELECTOR, "#request button[type=submit]").click()
        page.wait(lambda: page.find("response-status").text == "200")
