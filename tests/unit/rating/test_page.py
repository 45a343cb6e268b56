"""The rating page in a browser: real key events, saving, and the file that it hands out."""

import importlib
import sys
import time
import zlib
from pathlib import Path

import pytest

from frugal.llm.rating.sheet import CRITERIA, make_items, read_sheet, sheet_html, sheet_key

sys.path.insert(0, str(Path(__file__).parents[2]))  # the browser is shared by the tests of several pages
browsers = importlib.import_module("browser")
pytestmark = pytest.mark.skipif(browsers.PROGRAM is None, reason=browsers.LACKING)
ANSWERS = {
    "base": [
        {"prompt": "The sea", "answer": "is <script>document.title = 'broken'</script> wide,\nand \"deep\"."},
        {"prompt": "Snow; rain", "answer": ""},
    ],
    "tuned": [{"prompt": "The sea", "answer": "rises."}, {"prompt": "Snow; rain", "answer": "\u00e9t\u00e9, \u65e5"}],
}


@pytest.fixture(scope="module")
def browser():
    with browsers.started() as started:
        yield started


def open_sheet(browser, page):
    """Open the page, and wait until its script has counted the scales."""
    browser.open(page)
    browser.wait("!!document.getElementById('count')?.textContent")


@pytest.fixture
def sheet(browser, tmp_path):
    """The page, open in the browser; its items and their key."""
    # A seed of its own gives each test its own items, and so its own place in the browser's storage.
    items = make_items(ANSWERS, seed=zlib.crc32(tmp_path.name.encode()) % 2**31)
    page = tmp_path / "sheet.html"
    page.write_text(sheet_html(items, "Rating sheet: test"), encoding="utf-8")
    open_sheet(browser, page)
    return page, items


FOCUS = "document.activeElement.name + ':' + document.activeElement.value"
STATE = "[...document.querySelectorAll('fieldset')].map(s => s.querySelector('input:checked')?.value ?? null)"


def test_keys_rate_move_and_download(browser, sheet, tmp_path):
    _, items = sheet
    browser.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    browser.evaluate("document.getElementById('rater').focus()")
    browser.press(*"Ada L.", "Enter")
    first = items[0]["item"]
    assert browser.evaluate(FOCUS) == f"{first}-fluency:1"
    browser.press("3")
    assert browser.evaluate(FOCUS) == f"{first}-fluency:3"
    browser.press("7", "0")  # not on the scale
    assert browser.evaluate(STATE)[:2] == ["3", None]
    browser.press("Enter", "2", "ArrowUp", "4")
    assert browser.evaluate(STATE)[:3] == ["4", "2", None]
    browser.press("ArrowRight")  # within a scale, as radio buttons do
    assert browser.evaluate(STATE)[:3] == ["5", "2", None]
    browser.press("Tab", "Tab", "1")  # past relevance to correctness
    assert browser.evaluate(STATE)[:4] == ["5", "2", "1", None]
    browser.press("Tab", *'1, "x"\u00e9')  # the comment takes digits as text
    assert browser.evaluate(STATE)[:4] == ["5", "2", "1", None]
    assert browser.evaluate("document.getElementById('count').textContent") == "3 of 12 rated"

    browser.evaluate("document.querySelector('button').click()")  # too early
    assert browser.evaluate("document.getElementById('message').textContent") == "9 of 12 scales are still empty."
    assert browser.evaluate(FOCUS) == f"{items[1]['item']}-fluency:1"
    for value in "345123451":
        browser.press(value, "ArrowDown")
    assert browser.evaluate("document.activeElement.tagName") == "BUTTON"
    assert browser.evaluate("document.querySelector('progress').value") == 12
    browser.press("Enter")
    filled = tmp_path / "ratings-ada-l.csv"
    while not filled.exists():
        time.sleep(0.02)
    table = read_sheet(filled, sheet_key(items))
    assert table[list(CRITERIA)].to_numpy().tolist() == [[5, 2, 1], [3, 4, 5], [1, 2, 3], [4, 5, 1]]
    text = filled.read_text(encoding="utf-8")
    assert '"1, ""x""\u00e9"' in text
    for item in items:
        assert f'"{item["answer"]}"'.replace('"', '""')[1:-1] in text


def test_a_name_is_asked_for(browser, sheet):
    browser.evaluate("document.querySelectorAll('input[value=\"4\"]').forEach(input => { input.checked = true; })")
    browser.evaluate("document.querySelector('button').click()")
    assert browser.evaluate("document.getElementById('message').textContent") == "Enter your name first."
    assert browser.evaluate("document.activeElement.id") == "rater"


def test_what_is_entered_survives_a_reload(browser, sheet):
    page, _ = sheet
    browser.evaluate("document.getElementById('rater').focus()")
    browser.press(*"Bob", "Enter", "2", "Enter", "5")
    browser.evaluate("document.querySelector('textarea').focus()")
    browser.press(*"so so")
    before = browser.evaluate(STATE)
    assert before[:3] == ["2", "5", None]
    open_sheet(browser, page)
    assert browser.evaluate(STATE) == before
    assert browser.evaluate("document.getElementById('rater').value") == "Bob"
    assert browser.evaluate("document.querySelector('textarea').value") == "so so"
    assert browser.evaluate("document.getElementById('count').textContent") == "2 of 12 rated"


def test_answers_are_text_and_nothing_is_loaded(browser, sheet):
    _, items = sheet
    assert browser.evaluate("document.title") == "Rating sheet: test"
    shown = browser.evaluate("[...document.querySelectorAll('.answer')].map(p => p.textContent)")
    assert shown == [item["answer"] for item in items]
    assert browser.evaluate("performance.getEntriesByType('resource').length") == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_fits_a_phone_and_both_colour_schemes(browser, sheet, scheme):
    browser.call("Emulation.setDeviceMetricsOverride", width=360, height=740, deviceScaleFactor=2, mobile=True)
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    try:
        assert browser.evaluate("document.documentElement.scrollWidth") <= 360
        target = "document.querySelector('.scale label').getBoundingClientRect()"
        assert min(browser.evaluate(f"{target}.width"), browser.evaluate(f"{target}.height")) >= 40
        paper = browser.evaluate("getComputedStyle(document.body).backgroundColor")
        assert paper == {"light": "rgb(255, 255, 255)", "dark": "rgb(21, 24, 29)"}[scheme]
    finally:
        browser.call("Emulation.clearDeviceMetricsOverride")
        browser.call("Emulation.setEmulatedMedia", features=[])
