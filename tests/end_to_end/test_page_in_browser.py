"""The page as a reader has it: opened from disk in headless Chromium, by mouse, keyboard, phone and printer."""

from __future__ import annotations

import base64
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from reports.numbers.reading import read_measured
from reports.page.run_page import write_page

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: pip install --editable .[dev]")
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402

PUBLISHED = Path(__file__).resolve().parents[2] / "reports" / "published"
BROWSERS, DRIVERS = ("chromium", "chromium-browser", "google-chrome"), ("chromedriver", "chromium.chromedriver")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
A4_PIXELS = 718
"""Width of A4 less a centimetre of margin at each side, at 96 pixels per inch."""


@dataclass(frozen=True)
class Opened:
    """The page in the browser. js: run a function's body there and return what it returns."""

    driver: Any
    file: Path

    def js(self, body: str, *arguments: Any) -> Any:
        return self.driver.execute_script(body, *arguments)

    def devtools(self, command: str, **parameters: Any) -> Any:
        return self.driver.execute_cdp_cmd(command, parameters)

    def looks(self, width: int, *, scheme: str = "light", media: str = "") -> None:
        self.devtools(
            "Emulation.setEmulatedMedia", media=media, features=[{"name": "prefers-color-scheme", "value": scheme}]
        )
        self.devtools(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 500
        )

    def pages(self) -> int:
        """How many sheets of A4 a printer takes for it."""
        margins = dict.fromkeys(("marginTop", "marginBottom", "marginLeft", "marginRight"), 0.4)
        made = self.devtools("Page.printToPDF", paperWidth=8.27, paperHeight=11.69, printBackground=True, **margins)
        return len(re.findall(rb"/Type\s*/Page\b", base64.b64decode(made["data"])))

    def all(self, selector: str) -> Any:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> Any:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def press(self, element: Any, key: str) -> None:
        """Press a key on what has the focus, after giving the focus to the element."""
        self.js("arguments[0].focus()", element)
        self.driver.switch_to.active_element.send_keys(key)

    def column(self, number: int) -> list[float | None]:
        """What the shown rows of the first table of cases are sorted by, in a column counted from 0."""
        return self.js(
            "return [...document.querySelector('.cases tbody').rows].filter(row => !row.hidden)"
            ".map(row => row.cells[arguments[0]].dataset.sort ?? null).map(x => x === null ? null : Number(x))",
            number,
        )


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    """One browser with the page of the published run, which has every chart."""
    browser, driver_path = (next(filter(None, map(shutil.which, names)), None) for names in (BROWSERS, DRIVERS))
    if browser is None or driver_path is None:
        pytest.skip("needs Chromium and ChromeDriver: apt-get install chromium chromium-driver")
    folder = tmp_path_factory.mktemp("page")
    file = folder / "report.html"
    write_page([read_measured(PUBLISHED / "embedded.jsonl")], file)
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (*FLAGS, f"--user-data-dir={folder / 'profile'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(driver_path))
    try:
        driver.get(file.as_uri())
        yield Opened(driver, file)
    finally:
        driver.quit()


@pytest.fixture
def shown(opened: Opened) -> Opened:
    """The page as on a desktop, with nothing filtered."""
    opened.looks(1440)
    opened.one(".filter input").send_keys(Keys.CONTROL, "a", Keys.BACKSPACE)
    return opened


def test_it_is_small_and_opens_at_once(opened: Opened) -> None:
    loads = []
    for _ in range(3):
        loads.append(opened.js("return performance.getEntriesByType('navigation')[0].loadEventEnd"))
        opened.driver.refresh()

    assert opened.file.stat().st_size < 3_000_000
    assert 0 < min(loads) < 1000, "milliseconds; the best of three, as the machine may be busy"


def test_every_chart_has_marks_axes_and_words(shown: Opened) -> None:
    charts = shown.js(
        """return [...document.querySelectorAll('svg.chart')].map(chart => ({
            words: chart.getAttribute('aria-label'),
            marks: [...chart.querySelectorAll('.role-mark path, .role-mark line, .role-mark rect')]
                .filter(mark => mark.getBBox().width + mark.getBBox().height > 0).length,
            titles: [...chart.querySelectorAll('.role-axis-title text')].map(title => title.textContent),
            inside: chart.getBoundingClientRect().width <= chart.parentElement.getBoundingClientRect().width + 1,
        }))"""
    )
    figures = {figure.get_attribute("id") for figure in shown.all("figure")}

    keys = ("speedup", "pareto", "time", "acceptance", "telemetry", "length", "humaneval")
    assert {f"run1-{key}" for key in keys} <= figures
    assert len(charts) > len(figures)
    for chart in charts:
        assert chart["marks"] > 0, chart["words"]
        assert len(chart["words"]) > 20
        assert chart["titles"], chart["words"]
        assert all("(" in title or "per step" in title for title in chart["titles"]), "a unit on each axis"
        assert chart["inside"]
    assert len(shown.all("figure details table")) == len(figures), "the data of each chart as a table"


def test_the_table_sorts_by_click_and_by_key_and_keeps_the_unknown_last(shown: Opened) -> None:
    latency, rollbacks = 4, 9
    header = shown.all(".cases th[aria-sort]")[latency]
    button = header.find_element(By.TAG_NAME, "button")

    button.click()
    up = shown.column(latency)
    assert header.get_attribute("aria-sort") == "ascending", "the shortest wait comes first: the best"
    shown.press(button, Keys.ENTER)
    down = shown.column(latency)
    assert header.get_attribute("aria-sort") == "descending"
    shown.press(shown.all(".cases th[aria-sort] button")[rollbacks], Keys.SPACE)
    sparse = shown.column(rollbacks)

    known = [value for value in up if value is not None]
    assert known == sorted(known)
    assert len(set(known)) > 20
    assert down == [*reversed(known), *[None] * (len(up) - len(known))]
    found = [value for value in sparse if value is not None]
    assert found == sorted(found)
    assert sparse[len(found) :] == [None] * (len(sparse) - len(found)), "cases without the figure come last"
    assert header.get_attribute("aria-sort") == "none"
    assert shown.one("#said").get_attribute("textContent") == "Sorted by rollbacks, ascending"


def test_the_table_filters_by_words_and_says_how_many_are_left(shown: Opened) -> None:
    field = shown.one(".filter input")
    total = len(shown.column(0))

    field.send_keys("assisted 4BIT")

    rows = [row.text.lower() for row in shown.all(".cases tbody tr") if row.is_displayed()]
    assert 0 < len(rows) < total
    assert all("assisted" in row and "4bit" in row for row in rows)
    assert shown.one(".filter output").text == f"{len(rows)} of {total} cases"
    field.send_keys(" nosuchword")
    assert shown.one(".filter output").text == f"0 of {total} cases"
    assert shown.one(".filter label").get_attribute("for") == field.get_attribute("id")


def test_it_opens_sorted_by_speedup_and_a_click_on_speeds_gives_the_fastest_first(shown: Opened) -> None:
    shown.driver.refresh()
    header = shown.all(".cases th[aria-sort]")[1]
    assert (header.get_attribute("aria-sort"), header.text.split()[0]) == ("descending", "speedup")
    opening = [value for value in shown.column(1) if value is not None]
    assert opening == sorted(opening, reverse=True)
    shown.all(".cases th[aria-sort] button")[2].click()
    speeds = [value for value in shown.column(2) if value is not None]
    assert speeds == sorted(speeds, reverse=True)
    shown.driver.refresh()


@pytest.mark.parametrize(("words", "never"), [("k=1", "k=10"), ("p=0", "p=0.4"), ("10", "100")])
def test_a_number_in_the_filter_is_found_whole(shown: Opened, words: str, never: str) -> None:
    shown.one(".filter input").send_keys(words)
    rows = [
        row.find_element(By.CSS_SELECTOR, "code").text for row in shown.all(".cases tbody tr") if row.is_displayed()
    ]
    ids = [row.replace("\n", "") for row in rows]
    if "=" in words:
        assert ids and all(f",{words}," in row for row in ids), ids
    assert not any(never in row for row in ids)


def test_the_speedup_is_seen_on_a_phone_without_scrolling(opened: Opened) -> None:
    opened.looks(375)
    right = opened.js(
        """const cells = [...document.querySelectorAll('.cases tbody tr:first-child td')];
        return [cells[0].textContent, cells[0].getBoundingClientRect().right, innerWidth]"""
    )
    assert right[0].startswith("1.43 [") and right[1] <= right[2]


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (1440, "dark"), (375, "light")])
def test_axe_finds_no_violation(opened: Opened, width: int, scheme: str) -> None:
    package = find_spec("axe_playwright_python")
    if package is None or not package.submodule_search_locations:
        pytest.skip("needs axe-core: pip install --no-deps axe-playwright-python")
    opened.looks(width, scheme=scheme)
    axe = Path(next(iter(package.submodule_search_locations))) / "axe.min.js"
    opened.js(axe.read_text(encoding="utf-8"))
    found = opened.driver.execute_async_script("axe.run(document, {}).then(arguments[0])")
    assert len(found["passes"]) > 20
    assert [(each["id"], [node["target"] for node in each["nodes"]][:3]) for each in found["violations"]] == []


def test_a_case_s_command_and_settings_can_be_copied(shown: Opened) -> None:
    shown.devtools("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
    command, settings = shown.all(".cases tbody tr:nth-child(2) .copy")
    read = "navigator.clipboard.readText().then(arguments[0])"

    command.click()
    copied = shown.driver.execute_async_script(read)
    shown.press(settings, Keys.ENTER)
    as_json = json.loads(shown.driver.execute_async_script(read))

    name = shown.one(".cases tbody tr:nth-child(2) code").text.replace("\n", "")
    assert copied.startswith("pytest 'perf_tests/")
    assert f"[{name}]'" in copied
    assert as_json["id"] == name
    assert settings.get_attribute("data-state") == "copied"


def test_what_has_the_focus_is_seen(shown: Opened) -> None:
    shown.js("document.activeElement.blur(); scrollTo(0, 0)")
    seen = []
    for _ in range(8):
        shown.driver.switch_to.active_element.send_keys(Keys.TAB)
        seen.append(
            shown.js("const at = getComputedStyle(document.activeElement); return [at.outlineStyle, at.outlineWidth]")
        )

    assert all(style == "solid" and width == "3px" for style, width in seen)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [375, 1440])
def test_it_fits_a_phone_and_a_desktop_and_can_be_read(opened: Opened, width: int, scheme: str) -> None:
    opened.looks(width, scheme=scheme)

    assert opened.js("return [innerWidth, document.documentElement.scrollWidth <= innerWidth]") == [width, True]
    smallest = opened.js(
        """return Math.min(...[...document.querySelectorAll('svg.chart text')].map(
            text => parseFloat(getComputedStyle(text).fontSize) * text.getScreenCTM().a || 99))"""
    )
    assert smallest >= 9, "the smallest letters of the charts, in pixels"
    assert opened.js(CONTRASTS) >= 4.5


CONTRASTS = """
function light(colour) {
  const parts = colour.match(/[\\d.]+/g).slice(0, 3).map(value => value / 255)
    .map(value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
  return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
}
const card = light(getComputedStyle(document.querySelector('figure')).backgroundColor);
const texts = [...document.querySelectorAll('h1, .finding, .how, .fact strong, .sign, a, summary, th, svg.chart text')];
return Math.min(...texts.map(text => {
  const style = getComputedStyle(text);
  const colour = light(text.namespaceURI.endsWith('svg') ? style.fill : style.color);
  return (Math.max(card, colour) + 0.05) / (Math.min(card, colour) + 0.05);
}));
"""


def test_print_is_light_and_hides_and_clips_nothing(opened: Opened) -> None:
    opened.looks(A4_PIXELS, scheme="dark", media="print")
    opened.js("document.getElementById('print-tables').checked = true; dispatchEvent(new Event('beforeprint'))")

    clipped = opened.js(
        """return [...document.querySelectorAll('.scroll, pre, svg.chart, .card, .verdict')]
            .filter(each => each.getBoundingClientRect().right > innerWidth + 1
                || each.scrollWidth > each.clientWidth + 1)
            .map(each => each.className.toString() + ' ' + each.textContent.slice(0, 60))"""
    )
    ink = opened.js("return getComputedStyle(document.querySelector('h1')).color")
    closed = opened.js("return document.querySelectorAll('details:not([open])').length")
    unseen = opened.js(
        """return [...document.querySelectorAll('figure, table, .cases tbody tr, .missing, .fact')]
            .filter(each => each.getBoundingClientRect().height === 0).length"""
    )
    broken = opened.js(
        """return [...document.querySelectorAll('.cases td.number')].filter(cell => {
            const text = document.createRange();
            text.selectNodeContents(cell);
            return text.getClientRects().length > 1;
        }).length"""
    )
    opened.js("dispatchEvent(new Event('afterprint')); document.getElementById('print-tables').checked = false")

    assert clipped == []
    assert broken == 0, "a number that runs over two lines"
    assert closed == 0, "the data of every chart is printed"
    assert unseen == 0
    assert ink == "rgb(27, 31, 36)", "dark ink, though the screen is dark"
    assert opened.js("return document.querySelectorAll('details[open]').length") == 0, "and folded again afterwards"


def test_print_is_two_pages_unless_all_tables_are_asked_for(opened: Opened) -> None:
    opened.looks(1440)
    assert opened.pages() == 2
    opened.js("document.getElementById('print-tables').checked = true")
    assert opened.pages() > 5
    opened.js("document.getElementById('print-tables').checked = false")


def test_whatever_a_reader_does_asks_for_nothing_and_logs_no_error(opened: Opened) -> None:
    """Runs last, over all that the other tests did."""
    opened.looks(1440)
    opened.js("for (const each of document.querySelectorAll('.scroll')) each.scrollLeft = 0")
    opened.all(".cases th[aria-sort] button")[1].click()
    events = [json.loads(entry["message"])["message"] for entry in opened.driver.get_log("performance")]
    own = [
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent" and event["params"]["documentURL"].startswith("file:")
    ]

    assert opened.file.as_uri() in own, "requests are seen at all"
    assert set(own) == {opened.file.as_uri()}
    assert opened.driver.get_log("browser") == []
