"""The reports in a real browser: nothing overflows, every image is there, and no request leaves the page.

Needs Chromium and its driver (Debian: chromium, chromium-driver) and selenium; without them these tests fail.
"""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

from studies.report import report_of
from studies.reporting.page import write_comparison, write_report
from tests.studies.synthetic_measurements import make_estimator_run, make_throughput_run
from tests.studies.synthetic_run import make_many, make_run, make_sampler_run, with_truth

PHONE, DESK = (360, 800), (1280, 900)
WIDTHS = (400, 800, 1152, 1600)
WIDER_THAN_THEIR_BOX = """
for (const fold of document.querySelectorAll('details')) fold.open = true;
const beyond = [];
for (const e of document.querySelectorAll('table, figure, figure img, figure .keys, figure p')) {
  const box = (e.tagName === 'TABLE' ? e.parentElement : e.closest('main')).getBoundingClientRect();
  const own = e.getBoundingClientRect();
  if (own.right > box.right + 1 || own.left < box.left - 1 || e.scrollWidth > e.clientWidth + 1)
    beyond.push(`${e.tagName} ${Math.round(own.width)} in ${Math.round(box.width)}`);
}
for (const e of document.querySelectorAll('th, td'))
  if (e.getClientRects().length && e.scrollWidth > e.clientWidth + 1) beyond.push(`${e.tagName} ${e.innerText}`);
return beyond;
"""
INNER_BOXES_ASIDE = """
const clipped = [];
for (const e of document.querySelectorAll('main *')) {
  if (e.closest('.table, pre, svg, picture') && !e.matches('.table, pre, img')) continue;
  const box = e.getBoundingClientRect();
  if (box.width && (box.right > window.innerWidth + 1 || box.left < -1)) clipped.push(e.tagName + ' ' + e.className);
}
return clipped;
"""
OVERLAPPING = """
const blocks = [...document.querySelectorAll('h1, h2, h3, h4, p, li, table, img, pre, dl, .keys')]
  .filter(e => e.getClientRects().length).map(e => [e, e.getBoundingClientRect()]);
const found = [];
for (let i = 0; i < blocks.length; i++) for (let j = i + 1; j < blocks.length; j++) {
  const [a, p] = blocks[i], [b, q] = blocks[j];
  if (a.contains(b) || b.contains(a)) continue;
  const w = Math.min(p.right, q.right) - Math.max(p.left, q.left);
  const h = Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top);
  if (w > 2 && h > 2 && !a.closest('.table') && !b.closest('.table')) found.push(a.tagName + '/' + b.tagName);
}
return found;
"""
SIZES_OF_SVG_TEXT = """
return Promise.all([...document.images].map(async image => {
  const svg = new DOMParser().parseFromString(atob(image.currentSrc.split(',')[1]), 'image/svg+xml');
  const scale = image.getBoundingClientRect().width / image.naturalWidth;
  const pixels = e => parseFloat(e.getAttribute('style').match(/([0-9.]+)px/)[1]);
  const sizes = [...svg.querySelectorAll('text')].map(pixels);
  return Math.min(99, ...sizes) * scale * image.naturalWidth / svg.documentElement.viewBox.baseVal.width;
})).then(sizes => Math.min(...sizes));
"""


FOLDERS = {
    "compare_objectives": lambda folder: with_truth(make_run(folder)),
    "compare_samplers": make_sampler_run,
    "compare_estimators": make_estimator_run,
    "compare_throughput": make_throughput_run,
}
FEWEST_IMAGES = {"compare_objectives": 15, "compare_samplers": 3, "compare_estimators": 4, "compare_throughput": 4}


def comparison_page(folder: Path) -> Path:
    runs = [make_run(folder / name, schedules=[name], samples=False, curves=False) for name in ("linear", "cosine")]
    return write_comparison(runs, folder / "comparison")


def many_page(folder: Path) -> Path:
    return write_report(make_many(folder, samples=False, curves=False, samplers=["ancestral-100"]))


@pytest.fixture(scope="module", params=FOLDERS)
def page(request, tmp_path_factory) -> Path:
    """The page of each study that has one of its own."""
    folder = FOLDERS[request.param](tmp_path_factory.mktemp("browser") / request.param)
    _, path = report_of(folder)(folder)
    return path


@pytest.fixture(scope="module", params=[many_page, comparison_page])
def other_page(request, tmp_path_factory) -> Path:
    """Pages of other shapes: many recipes, and several runs compared."""
    return request.param(tmp_path_factory.mktemp("other") / "run")


@pytest.fixture(scope="module", params=["light", "dark"])
def browser(request) -> Iterator[webdriver.Chrome]:
    binary, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    assert binary, "no chromium on the path; install it (Debian: apt-get install chromium)"
    assert driver, "no chromedriver on the path; install it (Debian: apt-get install chromium-driver)"
    options = Options()
    options.binary_location = binary
    quiet = ("background-networking", "component-update", "sync", "default-apps", "extensions")
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "no-first-run", *(f"disable-{name}" for name in quiet)):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    chrome = webdriver.Chrome(options=options, service=Service(driver))
    feature = {"name": "prefers-color-scheme", "value": request.param}
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    chrome.scheme = request.param
    yield chrome
    chrome.quit()


def open_at(browser: webdriver.Chrome, page: Path, size: tuple[int, int]) -> None:
    width, height = size
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get(page.as_uri())
    assert browser.execute_script("return window.innerWidth") == width


def test_the_sections_are_there_in_order(browser, page):
    open_at(browser, page, DESK)
    found = browser.execute_script("return [...document.querySelectorAll('main > [id]')].map(e => e.id)")
    assert sorted(found) == ["figures", "method", "numbers", "verdict"]
    assert (found[0], found[-1]) == ("verdict", "method")
    headings = browser.execute_script("return [...document.querySelectorAll('h1, h2, h3')].map(e => e.innerText)")
    if page.parent.name in ("compare_objectives", "compare_samplers"):
        assert "What the sample metrics mean" in headings
    assert {"How to reproduce", "Settings", "Hardware and versions"} <= set(headings)
    assert "python studies/" in browser.execute_script("return document.querySelector('pre').innerText")


@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
def test_nothing_is_cut_or_overlaps(browser, page, size):
    open_at(browser, page, size)
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    assert browser.execute_script(INNER_BOXES_ASIDE) == []
    assert browser.execute_script(OVERLAPPING) == []


def test_tables_and_figures_of_other_pages_fit_their_boxes(browser, other_page):
    check_that_all_fits(browser, other_page)


def test_tables_and_figures_fit_their_boxes(browser, page):
    check_that_all_fits(browser, page)


def check_that_all_fits(browser: webdriver.Chrome, page: Path) -> None:
    """At every width no table is wider than its box, no figure than the page, and no cell's words than the cell."""
    beyond = {}
    for width in WIDTHS:
        open_at(browser, page, (width, 900))
        beyond[width] = browser.execute_script(WIDER_THAN_THEIR_BOX)
    assert beyond == {width: [] for width in WIDTHS}


@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
def test_every_image_has_loaded_and_can_be_read(browser, page, size):
    open_at(browser, page, size)
    state = "return [...document.images].map(i => [i.complete, i.naturalWidth > 0, i.alt.length > 20])"
    shown = browser.execute_script(state)
    assert len(shown) >= FEWEST_IMAGES[page.parent.name]
    assert all(all(one) for one in shown)
    assert browser.execute_script(SIZES_OF_SVG_TEXT) >= 8.5  # CSS pixels


def test_no_request_leaves_the_page(browser, page):
    browser.get_log("performance")
    open_at(browser, page, DESK)
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    assert {url.partition(":")[0] for url in asked} <= {"file", "data"}
    assert [url for url in asked if url.startswith("file:")] == [page.as_uri()]
    assert browser.get_log("browser") == []  # no refused or missing resource either


def test_the_answer_is_on_the_first_screen(browser, page):
    open_at(browser, page, DESK)
    bottom = browser.execute_script("return document.querySelector('.verdict').getBoundingClientRect().bottom")
    assert bottom < DESK[1]
    open_at(browser, page, PHONE)
    first = browser.execute_script("return document.querySelector('.verdict li').getBoundingClientRect().bottom")
    assert first < PHONE[1]


def test_text_and_figures_follow_the_colour_scheme(browser, page):
    open_at(browser, page, DESK)
    paper = browser.execute_script("return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert (max(paper) < 64) == (browser.scheme == "dark")
    chosen = browser.execute_script("return document.images[0].currentSrc === document.images[0].src")
    assert chosen == (browser.scheme == "light")


def test_it_prints(browser, page):
    """A4 pages of it, wholly: the paper is as wide as what is on it."""
    open_at(browser, page, DESK)
    printed = browser.execute_cdp_cmd(
        "Page.printToPDF", {"printBackground": False, "paperWidth": 8.27, "paperHeight": 11.69}
    )
    pdf = base64.b64decode(printed["data"])
    assert pdf.startswith(b"%PDF")
    assert 2 <= pdf.count(b"/Type /Page\n") + pdf.count(b"/Type /Page ") <= 14
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 700, "height": 990, "deviceScaleFactor": 1, "mobile": False}
    )
    wide = browser.execute_script("return document.documentElement.scrollWidth")
    feature = {"name": "prefers-color-scheme", "value": browser.scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": [feature]})
    assert wide <= 700
