"""The history as a reader has it: made by the command, opened from disk in headless Chromium, narrow, wide and dark."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reports.record.run import CaseResult, Sample
from reports.record.settings import DecodingPoint, WorkloadDone
from reports.record.writer import RunWriter

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: pip install --editable .[dev]")
from selenium.webdriver.chrome.service import Service  # noqa: E402

BROWSERS, DRIVERS = ("chromium", "chromium-browser", "google-chrome"), ("chromedriver", "chromium.chromedriver")
RUNS = 8
NAME = "a-pair-with-a-long-name/t=none,d=none,bf16/assisted,k=3,p=0.4,heuristic,sampled,T=0.7,top_p=0.95,dynamic"
ASSISTED = DecodingPoint("assisted", assist_toks=3, confidence_threshold=0.4)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, run_reports: Callable[..., Any]) -> Path:
    """The page of eight runs, the last four a quarter slower, and of a file that is none."""
    folder = tmp_path_factory.mktemp("history")
    for number in range(RUNS):
        factor = (1.0 + 0.01 * (number % 3)) * (1.25 if number >= RUNS // 2 else 1.0)
        samples = tuple(
            Sample(i, factor * (1 + 0.1 * i), 10, 5, f"hash{i}", drafted=10, accepted=5, rejected=5) for i in range(3)
        )
        writer = RunWriter(folder / f"{number}.jsonl")
        writer.run({"study": {"name": "s"}, "environment": {}, "started_at": f"2026-01-{number + 1:02d}T00:00:00"})
        writer.case(CaseResult(NAME, "ok", point=ASSISTED, workload=WorkloadDone(gen_toks=10), samples=samples))
        writer.close()
    (folder / "broken.jsonl").write_text("no run file\n")
    made = run_reports("history", folder, "-o", folder / "history.html")
    assert made.returncode == 0, made.stderr
    return folder / "history.html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    found = [next(filter(None, map(shutil.which, names)), None) for names in (BROWSERS, DRIVERS)]
    if None in found:
        pytest.skip("needs Chromium and ChromeDriver: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = found[0]
    for flag in ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"):
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(found[1]))
    yield driver
    driver.quit()


@pytest.mark.parametrize(("width", "scheme"), [(375, "light"), (1440, "light"), (1440, "dark")])
def test_it_opens_without_errors_or_requests_and_fits(browser: Any, page: Path, width: int, scheme: str) -> None:
    browser.get_log("performance")
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get(page.as_uri())
    assert browser.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = {e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"}
    assert asked <= {page.as_uri(), "data:,"}
    root = "document.documentElement"
    assert browser.execute_script(f"return {root}.scrollWidth === {root}.clientWidth")
    marks = browser.execute_script(
        "return [...document.querySelectorAll('svg.chart')].map(svg => svg.querySelectorAll('.mark-symbol path'))"
        ".map(found => found.length)"
    )
    assert marks == [RUNS, RUNS]  # latency and accept rate
    ink, paper = browser.execute_script(
        "const page = getComputedStyle(document.body); return [page.color, page.backgroundColor]"
    )
    brightness = [sum(map(int, colour.strip("rgb()").split(","))) for colour in (ink, paper)]
    assert (brightness[0] > brightness[1]) == (scheme == "dark")
    text = browser.execute_script("return document.body.innerText")
    assert "Changes of level: 1" in text
    assert "worse" in text and "at run 5" in text
    assert "broken.jsonl" in text
