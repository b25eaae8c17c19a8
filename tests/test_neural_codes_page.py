"""The page "Neural codes" in a browser: its widget against the library."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
import torch

from sparse_book.linear.neural_codes import (
    capacity_bits,
    expected_misreading,
    overlap_distribution,
)

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

    Open = Callable[[str], Page]

PAGE = "nbs/linear/neural_codes"
SENTENCE = re.compile(
    r"(\d+) of (\d+) active: ([\d.]+) bits, ([\d.]+) per spike; two patterns "
    r"share ([\d.]+) units\. With (no unit|\d+ %) failing, ([\d.]+) % of "
    r"(\d+) stimuli are misread \(expected: ([\d.]+) %\)\."
)
LEFT, RIGHT, TOP, BOTTOM = 44.0, 348.0, 12.0, 210.0  # of common.js's plot


def widget_of(page: Page) -> Locator:
    return page.locator(".sb-neural-codes")


def knob(page: Page, name: str) -> Locator:
    return widget_of(page).get_by_role("slider", name=name)


def point(panel: Locator) -> tuple[float, float]:
    """Where the handle of a panel stands, from 0 to 1 along both axes."""
    text = panel.locator(".sb-grip").get_attribute("transform") or ""
    x, y = map(float, re.findall(r"[\d.]+", text))
    return (x - LEFT) / (RIGHT - LEFT), (BOTTOM - y) / (BOTTOM - TOP)


def assert_shown_right(page: Page) -> dict[str, float]:
    """Everything that the widget shows agrees with the exported functions."""
    widget = widget_of(page)
    text = widget.locator(".sb-readout").inner_text()
    found = SENTENCE.fullmatch(text)
    assert found, text
    active, units = int(found[1]), int(found[2])
    percent = re.sub(r"\D", "", found[6]) or "0"
    failing, stimuli = int(percent) / 100, int(found[8])
    bits = capacity_bits(units, active).item()
    assert float(found[3]) == pytest.approx(bits, abs=0.051)
    assert float(found[4]) == pytest.approx(bits / active, abs=0.051)
    shared = active**2 / units
    assert float(found[5]) == pytest.approx(shared, abs=0.0051)
    q = torch.tensor(failing, dtype=torch.float64)
    wrong = expected_misreading(units, active, stimuli, q).item()
    assert float(found[9]) / 100 == pytest.approx(wrong, abs=6e-4)
    misread = float(found[7]) / 100
    # One random code of few patterns may differ from the mean over codes.
    assert misread == pytest.approx(wrong, abs=0.08)

    x, y = point(widget.locator(".sb-capacity"))
    assert x * units == pytest.approx(active, abs=0.01)
    assert y * 74 == pytest.approx(bits, abs=0.01)
    x, y = point(widget.locator(".sb-errors"))
    assert x * 0.6 == pytest.approx(failing, abs=1e-3)
    assert y == pytest.approx(misread, abs=1e-3)

    curve = widget.locator(".sb-errors .sb-curve.sb-c1").first
    ys = re.findall(r" ([\d.]+)", curve.get_attribute("d") or "")
    drawn = [(BOTTOM - float(value)) / (BOTTOM - TOP) for value in ys]
    shares = torch.linspace(0, 0.6, 61, dtype=torch.float64)
    line = expected_misreading(units, active, stimuli, shares).tolist()
    assert drawn == pytest.approx(line, abs=1e-4)

    theory = widget.locator(".sb-overlaps .sb-theory")
    labels = widget.locator(".sb-overlaps svg text").all_text_contents()
    top = float(labels[-3])  # the last label before the names of the axes
    heights = [
        top * (BOTTOM - float(cy)) / (BOTTOM - TOP)
        for cy in theory.evaluate_all("a => a.map(n => n.getAttribute('cy'))")
    ]
    chance = overlap_distribution(units, active).tolist()
    assert heights == pytest.approx(chance, abs=1e-3)

    for k in range(2):
        picture = widget.locator(".sb-population").nth(k)
        assert picture.locator(".sb-unit").count() == units
        assert picture.locator(".sb-fires").count() == active
        dead = picture.locator("g:has(.sb-fires) .sb-failed").count()
        verdict = widget.locator(".sb-verdict").nth(k).inner_text()
        left = "all" if dead == 0 else f"{active - dead} of"
        assert verdict.startswith(f"{left} {active} left: ")
    return {"units": units, "active": active, "failing": failing}


@pytest.mark.screens("light")
def test_sliders_by_keyboard(page_of: Open) -> None:
    page = page_of(PAGE)
    assert assert_shown_right(page) == {
        "units": 64,
        "active": 4,
        "failing": 0.3,
    }
    knob(page, "Active k").focus()
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    assert assert_shown_right(page)["active"] == 8
    knob(page, "Failing").focus()
    page.keyboard.press("Home")
    assert assert_shown_right(page)["failing"] == 0
    assert "no unit failing" in page.locator(".sb-readout").inner_text()
    page.keyboard.press("End")
    assert assert_shown_right(page)["failing"] == 0.6
    knob(page, "Units N").focus()
    page.keyboard.press("Home")  # 8 units: the active ones must fit
    seen = assert_shown_right(page)
    assert (seen["units"], seen["active"]) == (8, 8)
    knob(page, "Active k").focus()
    page.keyboard.press("Home")
    assert assert_shown_right(page)["active"] == 1
    assert "of 8 stimuli" in page.locator(".sb-readout").inner_text()


def test_dragging_the_points(page_of: Open) -> None:
    page = page_of(PAGE)
    for panel, name, low in [
        ("capacity", "active", 4),
        ("errors", "failing", 0.3),
    ]:
        chart = widget_of(page).locator(f".sb-{panel}")
        grip = chart.locator(".sb-dot")
        grip.scroll_into_view_if_needed()
        box, whole = (
            grip.bounding_box(),
            chart.locator("svg").first.bounding_box(),
        )
        assert box and whole
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        scale = whole["width"] / 360
        page.mouse.move(x, y)
        page.mouse.down()
        for step in (20, 60, 95):
            page.mouse.move(x + step * scale, y)
            assert_shown_right(page)
        page.mouse.up()
        per_unit = {"active": 64 / 304, "failing": 0.6 / 304}[name]
        rounding = {"active": 1, "failing": 0.011}[name]
        assert assert_shown_right(page)[name] == pytest.approx(
            low + 95 * per_unit, abs=rounding
        )


@pytest.mark.screens("light")
def test_new_stimuli_and_their_number(page_of: Open) -> None:
    page = page_of(PAGE)
    pictures = widget_of(page).locator(".sb-population")
    before = pictures.nth(0).inner_html()
    widget_of(page).get_by_role("button", name="New stimuli").click()
    assert_shown_right(page)
    assert pictures.nth(0).inner_html() != before
    for _ in range(6):  # down to two stimuli, up to 256
        knob(page, "Stimuli").focus()
        page.keyboard.press("ArrowLeft")
    assert "of 2 stimuli" in page.locator(".sb-readout").inner_text()
    page.keyboard.press("End")
    assert_shown_right(page)
    assert "of 256 stimuli" in page.locator(".sb-readout").inner_text()


@pytest.mark.screens("light")
def test_the_page_is_whole(page_of: Open) -> None:
    page = page_of(PAGE)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.locator("mjx-merror, [data-mjx-error]").count() == 0
    assert page.locator("article figure img[alt]").count() == 6
    text = page.locator("article").inner_text()
    assert "nbdev_export" not in text and "#|" not in text
    assert page.locator(".exercise").count() == 5
    page.locator(".solution .toggle-button").first.click()
    page.get_by_text("nine of ten units are active").wait_for(state="visible")
