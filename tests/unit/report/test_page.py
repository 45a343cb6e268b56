"""The report's page in a browser: it sorts, enlarges, fits a phone, and asks for nothing."""

import browser as browsers
import pytest
from pypdf import PdfReader

pytestmark = pytest.mark.skipif(browsers.PROGRAM is None, reason=browsers.LACKING)
TABLE = "table-movie_preference_accuracy"
FIGURE = "movie_preference_accuracy"
OPEN = "document.getElementById('zoom').open"


@pytest.fixture(scope="module")
def browser():
    with browsers.started() as browser:
        yield browser


@pytest.fixture
def page(browser, written):
    """The report, opened in the browser."""
    browser.open(written / "report.html")
    return browser


def column(page, place: int) -> list[str]:
    """The first words of a column's cells, row by row."""
    script = f"[...document.querySelectorAll('#{TABLE} tbody tr')].map(r => r.cells[{place}].textContent.split(' ')[0])"
    return page.evaluate(script)


def test_nothing_is_loaded_and_nothing_complains(page, written):
    assert page.requests() == [(written / "report.html").as_uri()]
    assert page.evaluate("performance.getEntriesByType('resource').length") == 0
    assert page.complaints() == []


def test_a_click_on_a_heading_sorts_and_another_one_turns_it(page):
    before = column(page, 1)
    numbers = sorted(map(float, before), reverse=True)
    assert list(map(float, before)) != numbers
    page.click(f"#{TABLE} thead th:nth-child(2) button")
    assert list(map(float, column(page, 1))) == numbers
    assert page.evaluate(f"document.querySelectorAll('#{TABLE} th')[1].ariaSort") == "descending"
    page.click(f"#{TABLE} thead th:nth-child(2) button")
    assert list(map(float, column(page, 1))) == numbers[::-1]


def test_the_keyboard_sorts_text_and_leaves_rows_whole(page):
    rows = f"[...document.querySelectorAll('#{TABLE} tbody tr')].map(r => r.textContent)"
    before = page.evaluate(rows)
    page.evaluate(f"document.querySelector('#{TABLE} thead button').focus()")
    page.press("Enter")
    names = page.evaluate(f"[...document.querySelectorAll('#{TABLE} tbody th')].map(h => h.dataset.order)")
    assert names == page.evaluate(f"{names!r}.sort((a, b) => a.localeCompare(b))")
    assert sorted(page.evaluate(rows)) == sorted(before)
    assert page.complaints() == []


def test_what_is_missing_stays_at_the_end(page):
    place = page.evaluate("[...document.querySelectorAll('#table-bert4rec_efficiency th')].map(h => h.textContent)")
    heading = f"#table-bert4rec_efficiency thead th:nth-child({place.index('Speed-up') + 1}) button"
    shown = "[...document.querySelectorAll('#table-bert4rec_efficiency tbody tr')].map(r => r.cells[8].textContent)"
    for _ in range(2):
        page.click(heading)
        assert page.evaluate(shown)[-2:] == ["", ""]


def test_a_figure_is_enlarged_by_click_and_keys_and_put_back(page):
    home = f"document.querySelectorAll('#{FIGURE} svg').length"
    width = "document.querySelector('#zoom svg').getBoundingClientRect().width"
    before = page.evaluate(f"document.querySelector('#{FIGURE} svg').getBoundingClientRect().width")
    page.click(f"#{FIGURE} .card")
    assert page.evaluate(OPEN)
    assert page.evaluate(home) == 0
    assert page.evaluate(width) >= before - 1
    page.press("0")
    whole = page.evaluate(width)
    pan = "document.querySelector('.pan')"
    assert page.evaluate(f"{pan}.scrollWidth <= {pan}.clientWidth && {pan}.scrollHeight <= {pan}.clientHeight")
    page.press("+", "+")
    assert page.evaluate(width) == pytest.approx(2.25 * whole, rel=0.02)
    assert page.evaluate("document.querySelector('#zoom output').textContent") == "225 %"
    page.press("-")
    assert page.evaluate(width) == pytest.approx(1.5 * whole, rel=0.02)
    page.click("#zoom button[value=larger]")
    assert page.evaluate(width) == pytest.approx(2.25 * whole, rel=0.02)
    page.press("0")
    assert page.evaluate(width) == pytest.approx(whole, rel=0.02)
    page.press("Escape")
    assert not page.evaluate(OPEN)
    assert page.evaluate(home) == 1
    assert page.evaluate(f"document.querySelector('#{FIGURE} svg').style.width") == ""
    assert page.complaints() == []


def test_the_keyboard_alone_enlarges_a_figure(page):
    page.evaluate(f"document.querySelector('#{FIGURE} .enlarge').focus()")
    page.press("Enter")
    assert page.evaluate(OPEN)
    page.press("Escape")
    assert page.evaluate("document.activeElement.className") == "enlarge"


def test_each_figure_finds_its_place_again(page):
    figures = page.evaluate("[...document.querySelectorAll('figure')].map(f => f.id)")
    assert len(figures) > 10
    for name in figures[:3]:
        page.click(f"#{name} .enlarge")
        page.press("Escape")
    assert page.evaluate("[...document.querySelectorAll('figure')].map(f => f.querySelectorAll('svg').length)") == [
        1
    ] * len(figures)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [375, 1100])
def test_fits_the_screen_in_both_colour_schemes(page, width, scheme):
    with page.screen(width, scheme):
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        # Tables and figures that are wider scroll by themselves.
        assert page.evaluate("document.querySelector('#claims-ledger') !== null")
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert paper == {"light": "rgb(255, 255, 255)", "dark": "rgb(21, 24, 29)"}[scheme]
        page.click(f"#{FIGURE} .card")
        assert page.evaluate("document.getElementById('zoom').getBoundingClientRect().width") <= width
        page.press("Escape")


def test_prints_in_black_on_white_without_what_only_a_screen_has(page, tmp_path):
    with page.screen(1100, "dark"):
        page.print(tmp_path / "printed.pdf")
    printed = PdfReader(tmp_path / "printed.pdf")
    text = "\n".join(sheet.extract_text() for sheet in printed.pages)
    assert "Threats to validity" in text
    assert "Enlarge" not in text
    assert "CSV\n" not in text
    page.call("Emulation.setEmulatedMedia", media="print")
    try:
        assert page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
        assert page.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
        # No table is cut off at the margin.
        overflow = "[...document.querySelectorAll('.scroll')].every(s => getComputedStyle(s).overflowX === 'visible')"
        assert page.evaluate(overflow)
    finally:
        page.call("Emulation.setEmulatedMedia", media="")
