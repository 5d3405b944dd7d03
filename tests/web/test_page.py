"""The pages in the system's own browser, used as a person would: pointer, keyboard, dark, narrow, and wrong files."""

from __future__ import annotations

import base64
import json
import re
import shutil
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("selenium")

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

from mmgcs import load
from mmgcs.bundle import CARD_JSON, DEFAULT_BUNDLE, seal
from mmgcs.evaluation import evaluate
from mmgcs.sample import sample_films
from mmgcs.training.card import summarised

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None, reason="Debian's chromium and chromium-driver are not installed"
)

PLOT = "Two detectives hunt a killer through the city"
PAGES = ("/", "/tables", "/model", "/scores", "/data", "/api", "/about")


class Person:
    """Someone at the browser."""

    def __init__(self, driver: Any, url: str) -> None:
        self.driver, self.url = driver, url

    def open(self, path: str = "/") -> None:
        self.driver.get(self.url + path)
        # The first time, a busy browser comes back from `get` while the page is still loading.
        self.wait(lambda: self.js("return document.readyState") == "complete")

    def find(self, name: str) -> Any:
        return self.driver.find_element(By.ID, name)

    def js(self, script: str, *values: Any) -> Any:
        return self.driver.execute_script(script, *values)

    def wait(self, what: Any) -> Any:
        return WebDriverWait(self.driver, 30, poll_frequency=0.05).until(lambda _: what())

    def see_width(self, width: int, height: int = 844) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def prefer(self, scheme: str) -> None:
        wish = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": wish})

    def drop(self, path: Path, name: str = "drop") -> None:
        """Drag a file from the desktop onto an element."""
        box = self.js("const b = arguments[0].getBoundingClientRect(); return [b.x + 20, b.y + 20]", self.find(name))
        data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            event = {"type": kind, "x": box[0], "y": box[1], "data": data}
            self.driver.execute_cdp_cmd("Input.dispatchDragEvent", event)

    def keys(self, *keys: str) -> None:
        """Press keys, wherever the focus is."""
        ActionChains(self.driver).send_keys(*keys).perform()

    def press(self) -> None:
        self.find("go").click()

    def answer(self) -> str:
        """The answer's line, once it is there."""
        return str(self.wait(lambda: not self.find("why").get_attribute("hidden") and self.find("status").text))

    def chosen(self) -> list[str]:
        bars = self.driver.find_elements(By.CSS_SELECTOR, ".bar.chosen")
        return [bar.get_attribute("data-genre") for bar in bars]

    def complaints(self) -> list[Any]:
        """What the console says went wrong, except answers of 4xx, which it lists too."""
        return [entry for entry in self.driver.get_log("browser") if "Failed to load resource" not in entry["message"]]


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    options = Options()
    options.binary_location = CHROMIUM or ""
    # Tests run as root in containers, where Chromium's sandbox and /dev/shm are not to be had.
    for argument in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu", "window-size=1200,900"):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = Service(DRIVER)
    found = webdriver.Chrome(options=options, service=service)
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
def measured(serving: Any, tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server whose model was measured, so that its pages have scores and curves."""
    bundle = Path(shutil.copytree(tiny_bundle, tmp_path_factory.mktemp("measured") / "bundle"))
    report = evaluate(load(bundle), sample_films(), split="test", bootstrap=20)
    (bundle / CARD_JSON).write_text(json.dumps({"name": "tiny", "evaluation": summarised(report)}))
    seal(bundle)
    with serving(bundle=bundle) as other:
        yield other.url


@pytest.fixture
def picture(tmp_path: Path, poster: bytes) -> Path:
    path = tmp_path / "poster.jpg"
    path.write_bytes(poster)
    return path


def test_a_plot_is_answered_explained_and_answered_anew_when_it_changes(person: Person) -> None:
    person.open()
    person.js("window.same = true")
    person.find("plot").send_keys(PLOT)
    person.press()
    assert person.answer().startswith("Crime, Thriller")
    assert person.chosen() == ["Crime", "Thriller"]
    assert "detectives" in person.js("return [...document.querySelectorAll('mark')].map(m => m.textContent)")
    person.find("plot").clear()
    person.find("plot").send_keys("A haunted village")
    person.wait(lambda: person.chosen() == ["Horror"])
    assert person.js("return window.same")


def test_another_genre_can_be_asked_about(person: Person) -> None:
    person.open()
    person.find("plot").send_keys(PLOT)
    person.press()
    person.answer()
    person.driver.find_element(By.CSS_SELECTOR, '[data-genre="Horror"]').click()
    assert person.find("why-genre").text == "Horror"


def test_a_poster_is_dragged_in_and_shown(person: Person, picture: Path) -> None:
    person.open()
    person.drop(picture)
    person.wait(lambda: person.find("preview").is_displayed())
    person.press()
    person.answer()
    assert person.find("shares").text == "All from the poster."
    assert person.js("return document.getElementById('preview').naturalWidth") == 200


def test_of_plot_and_poster_it_says_how_much_came_from_each(person: Person, picture: Path) -> None:
    person.open()
    person.find("plot").send_keys(PLOT)
    person.drop(picture)
    person.press()
    person.answer()
    assert "plot" in person.find("shares").text
    assert "poster" in person.find("shares").text
    assert person.js("return document.getElementById('heat').height") == 5  # rows of regions beside a plot
    widths = [part.size["width"] for part in person.driver.find_elements(By.CSS_SELECTOR, "#split span")]
    assert sum(widths) > 300
    person.find("remove").click()
    person.wait(lambda: person.find("shares").text == "All from the plot.")
    assert not person.find("split").is_displayed()


def test_a_sample_film_is_answered_at_once(person: Person) -> None:
    person.open()
    Select(person.find("sample")).select_by_index(1)
    assert person.answer()
    assert person.find("plot").get_attribute("value")


def test_a_file_that_is_no_picture_is_named_as_such_and_harms_nothing(
    person: Person, picture: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "poster.jpg.svg"
    bad.write_text("<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>")
    person.open()
    person.drop(bad)
    person.press()
    assert "not a picture" in person.wait(lambda: person.find("error").text)
    person.drop(picture)
    assert person.answer()
    assert not person.find("error").is_displayed()


def test_the_regions_of_a_poster_that_mattered_glow(person: Person, serving: Any) -> None:
    with serving(bundle=DEFAULT_BUNDLE) as other:
        Person(person.driver, other.url).open()
        Select(person.find("sample")).select_by_index(2)
        person.answer()
        # The strongest region is as yellow as can be, the weakest as dark.
        reds = """const canvas = document.getElementById('heat'), context = canvas.getContext('2d');
            return [...context.getImageData(0, 0, canvas.width, canvas.height).data].filter((_, at) => at % 4 === 0)"""
        found = person.js(reds)
        assert len(found) == 5 * 4
        assert max(found) > 240
        assert min(found) < 30
        assert re.search(r"lies in the (upper|middle|lower) (left|centre|right)", person.find("heat").accessible_name)
        person.find("show-heat").click()
        assert not person.find("heat").is_displayed()
        person.find("show-heat").click()
        assert person.find("heat").is_displayed()


def test_who_listens_is_told_the_words_that_mattered(person: Person) -> None:
    person.open()
    person.find("plot").send_keys(PLOT)
    person.press()
    person.answer()
    told = person.find("strongest").get_attribute("textContent")
    assert told.startswith("Most for it: ")
    assert "detectives" in told


def test_of_what_it_is_not_sure_it_says_so_and_what_it_could_be(person: Person, serving: Any) -> None:
    with serving(bundle=DEFAULT_BUNDLE) as other:
        asked = [(film.plot, other.post("/api/v1/predict", {"plot": film.plot}).json) for film in sample_films()[:20]]
        plot, answer = next((plot, answer) for plot, answer in asked if not answer["sure"] and answer["possible"])
        Person(person.driver, other.url).open()
        person.find("plot").send_keys(plot)
        person.press()
        assert person.answer().startswith("Not sure")
        assert person.find("status").get_attribute("className") == "unsure"
        assert person.find("possible").text == f"Its genres are very likely among {', '.join(answer['possible'])}."


def test_a_poster_is_pasted(person: Person, picture: Path) -> None:
    person.open()
    # A page cannot fill the clipboard with a file: the event is made, as the browser makes it on Ctrl-V.
    paste = """const data = new DataTransfer(), bytes = Uint8Array.from(atob(arguments[0]), c => c.charCodeAt(0));
        data.items.add(new File([bytes], 'image.png', {type: 'image/png'}));
        document.dispatchEvent(new ClipboardEvent('paste', {clipboardData: data, bubbles: true}))"""
    person.js(paste, base64.b64encode(picture.read_bytes()).decode())
    person.wait(lambda: person.find("preview").is_displayed())
    person.press()
    person.answer()
    assert person.find("shares").text == "All from the poster."


def test_nothing_given_is_said_so(person: Person) -> None:
    person.open()
    person.press()
    assert "plot, a poster, or both" in person.wait(lambda: person.find("error").text)


def test_a_plot_with_markup_is_shown_as_text(person: Person) -> None:
    person.open()
    person.find("plot").send_keys("<img src=x onerror=alert(1)> detectives <script>alert(2)</script>")
    person.press()
    person.answer()
    assert "<script>" in person.find("words").text
    assert person.js("return document.querySelectorAll('#words img, #words script').length") == 0


def test_a_table_is_dropped_tagged_and_downloaded(person: Person, running: Any, tmp_path: Path) -> None:
    table = tmp_path / "films.csv"
    table.write_text(f"title,plot\nOne,{PLOT}\nTwo,A haunted village\nThree,\n")
    person.open("/tables")
    person.drop(table)
    link = person.wait(lambda: person.find("result").is_displayed() and person.find("result").get_attribute("href"))
    assert person.find("status").text.startswith("Done: 3 films of films.csv;")
    assert float(person.find("progress").get_attribute("value")) == 1
    assert not person.find("stop").is_displayed()
    lines = running.ask(link.removeprefix(running.url)).content.decode().splitlines()
    assert len(lines) == 4
    assert "Horror" in lines[2]


def test_a_table_that_cannot_be_read_is_named_as_such(person: Person, tmp_path: Path) -> None:
    table = tmp_path / "films.parquet"
    table.write_text("this is not Parquet")
    person.open("/tables")
    person.drop(table)
    assert person.wait(lambda: person.find("error").text)
    assert not person.find("result").is_displayed()


def test_the_sample_films_can_be_tagged_as_a_table(person: Person) -> None:
    person.open("/tables")
    person.find("try").click()
    person.wait(lambda: person.find("result").is_displayed())
    assert person.find("status").text.startswith("Done: 54 films of samples.csv;")


def test_of_a_large_table_progress_is_seen_and_it_can_be_stopped(person: Person, running: Any, tmp_path: Path) -> None:
    table = tmp_path / "films.csv"
    table.write_text("plot\n" + f"{PLOT}\n" * 90_000)
    person.open("/tables")
    person.js("""window.jobs = []; const before = fetch;
        window.fetch = (...given) => { window.jobs.push(given[0]); return before(...given); }""")
    person.drop(table)
    person.wait(lambda: 0 < float(person.find("progress").get_attribute("value") or 0) < 1)
    assert re.search(r"^[\d,]+ films tagged, \d+%$", person.find("status").text)
    person.find("stop").click()
    assert person.find("status").text == "Stopped; nothing is kept."
    assert not person.find("progress").is_displayed()
    job = person.js("return window.jobs.find(one => one.startsWith('/api/v1/batch/'))")
    person.wait(lambda: running.ask(job).status == 404)


def test_an_example_is_copied_with_and_without_a_clipboard(person: Person) -> None:
    copied = "return document.querySelector('.copy').textContent"
    person.open("/api")
    expected = person.js("return document.querySelector('pre').textContent")
    person.driver.execute_cdp_cmd(
        "Browser.grantPermissions", {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    )
    person.js("document.querySelector('.copy').click()")
    person.wait(lambda: person.js(copied) == "Copied")
    assert person.driver.execute_async_script("navigator.clipboard.readText().then(arguments[0])") == expected
    person.open("/api")
    person.js("Object.defineProperty(navigator, 'clipboard', {value: undefined})")  # as on plain http elsewhere
    person.driver.find_elements(By.CSS_SELECTOR, ".copy")[1].click()
    person.wait(lambda: "Copied" in person.js("return [...document.querySelectorAll('.copy')].map(b => b.textContent)"))


def test_a_link_to_a_shape_opens_it(person: Person) -> None:
    person.open("/api#schema-PredictionOut")
    person.wait(lambda: person.js("return document.getElementById('schema-PredictionOut').open"))


def test_everything_can_be_done_from_the_keyboard(person: Person) -> None:
    person.open()
    person.keys(Keys.TAB, Keys.ENTER)  # skip to the content
    reached = []
    for keys in ((PLOT,), (), ()):
        person.keys(Keys.TAB)
        reached.append(person.driver.switch_to.active_element.get_attribute("id"))
        person.keys(*keys)
    assert reached == ["plot", "poster", "go"]
    person.keys(Keys.ENTER)
    assert person.answer().startswith("Crime, Thriller")
    person.keys(Keys.TAB, Keys.TAB, Keys.ENTER)  # past the sample films, to the first genre
    assert person.find("why-genre").text == "Action"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(person: Person, measured: str, scheme: str) -> None:
    package = pytest.importorskip("axe_selenium_python")
    axe = (files(package) / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")
    person.prefer(scheme)
    found = []
    person.url = measured
    for page in PAGES:
        person.open(page)
        if page == "/":
            Select(person.find("sample")).select_by_index(2)  # a plot and a poster
            person.answer()
            person.wait(lambda: person.find("frame").is_displayed())
        if page == "/tables":
            person.find("try").click()
            person.wait(lambda: person.find("result").is_displayed())
        person.js("document.querySelectorAll('details').forEach(one => { one.open = true; })")
        person.wait(lambda: person.js("return document.getAnimations().length") == 0)
        person.js(axe)
        result = person.driver.execute_async_script("axe.run().then(arguments[0])")
        found += [
            (page, one["id"], one["nodes"][0]["html"])
            for one in result["violations"]
            if one["impact"] in ("serious", "critical")
        ]
    assert found == []


def test_dark_is_dark_and_light_is_light(person: Person) -> None:
    brightness = """return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3)
        .reduce((sum, part) => sum + Number(part), 0)"""
    person.open()
    assert person.js(brightness) > 600
    person.prefer("dark")
    assert person.js(brightness) < 150


@pytest.mark.parametrize("width", [320, 390])
def test_on_a_phone_no_page_is_wider_than_the_screen(person: Person, width: int) -> None:
    person.see_width(width)
    for page in PAGES:
        person.open(page)
        assert person.js("return document.documentElement.scrollWidth") <= width, page


@pytest.mark.parametrize("width", [390, 1200])
def test_an_answer_an_error_and_a_change_move_nothing(person: Person, width: int) -> None:
    watch = """window.moved = []; new PerformanceObserver(list => list.getEntries().forEach(one => moved.push(
        [one.value, one.sources.map(part => part.node && (part.node.id || part.node.className))]
    ))).observe({type: 'layout-shift', buffered: true})"""
    script = person.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": watch})
    try:
        person.see_width(width)
        person.open()
        person.press()
        person.wait(lambda: person.find("error").is_displayed())
        person.find("plot").send_keys(PLOT)
        assert person.answer().startswith("Crime, Thriller")
        person.find("plot").send_keys(" A haunted village")
        person.wait(lambda: "Horror" in person.chosen())
        person.wait(lambda: person.js("return document.getAnimations().length") == 0)
        moved = person.js("return moved")
        assert sum(value for value, _ in moved) < 0.05, moved
    finally:
        person.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)


def test_nothing_moves_while_it_loads_and_nothing_comes_from_elsewhere(person: Person, running: Any) -> None:
    shifts = """const done = arguments[0];
        new PerformanceObserver(list => done(list.getEntries().filter(one => !one.hadRecentInput)
            .reduce((sum, one) => sum + one.value, 0))).observe({type: 'layout-shift', buffered: true});
        setTimeout(() => done(0), 300)"""
    for page in PAGES:
        person.open(page)
        assert person.driver.execute_async_script(shifts) < 0.05, page
        loaded = person.js("return performance.getEntriesByType('resource').map(one => one.name)")
        assert loaded
        assert all(name.startswith(running.url) for name in loaded)
