"""The widget of the page on convolution, against the library."""

from __future__ import annotations

import re

import pytest
import torch

from sparse_book.networks.convolution import correlate

PAGE = "nbs/networks/convolution"


def state_of(page) -> dict:
    """Return the numbers with which the page's widget begins."""
    return page.evaluate(
        """() => Object.values(JSON.parse(document.querySelector(
        "script[type='application/vnd.jupyter.widget-state+json']")
        .textContent).state).map(s => s.state).find(s => s.images
        && s.weights)"""
    )


def image_of(state, name) -> torch.Tensor:
    image = state["images"][name]
    values = torch.tensor(image["values"], dtype=torch.float64)
    return values.view(1, 1, image["height"], image["width"])


def said(widget) -> tuple[int, int, float, int, int]:
    text = widget.locator(".sb-readout").inner_text()
    found = re.match(
        r"Row (\d+), column (\d+) of the map: (−?[\d.]+)\. "
        r".* give (\d+) × (\d+) values\.",
        text,
    )
    assert found, text
    row, column, value, rows, columns = found.groups()
    number = float(value.replace("−", "-"))
    return int(row), int(column), number, int(rows), int(columns)


def assert_right(widget, image, weights, **options) -> None:
    kernel = torch.tensor(weights, dtype=torch.float64).view(1, 1, 3, 3)
    meant = correlate(image, kernel, **options)[0, 0]
    row, column, value, rows, columns = said(widget)
    assert (rows, columns) == tuple(meant.shape)
    assert value == pytest.approx(float(meant[row - 1, column - 1]), abs=0.006)
    shown = widget.locator(".sb-map .sb-value").count()
    assert shown == (row - 1) * columns + column


@pytest.mark.screens("light")
def test_kernels_strides_and_padding(page_of) -> None:
    page = page_of(PAGE)
    widget = page.locator(".sb-kernel").first
    state = state_of(page)
    image = image_of(state, state["image"])
    weights = state["weights"]
    assert_right(widget, image, weights)
    sliders = widget.get_by_role("slider")
    for stride, padding in [(2, 0), (2, 1), (3, 2), (1, 1)]:
        sliders.nth(0).fill(str(stride))
        sliders.nth(1).fill(str(padding))
        sliders.nth(2).fill("4")
        options = {"stride": stride, "padding": padding}
        assert_right(widget, image, weights, **options)
    widget.get_by_label("Kernel").select_option("dots")
    dots = [-1.0] * 4 + [8.0] + [-1.0] * 4
    assert_right(widget, image, dots, stride=1, padding=1)
    field = widget.get_by_label("weight in row 1, column 2")
    field.fill("2.5")
    field.press("Enter")
    dots[1] = 2.5
    assert_right(widget, image, dots, stride=1, padding=1)
    assert widget.get_by_label("Kernel").input_value() == "own"
    widget.get_by_text("photograph", exact=True).click()
    sliders.nth(2).fill("100")
    other = image_of(state, "photograph")
    assert_right(widget, other, dots, stride=1, padding=1)


def test_pointer_keyboard_and_sliding(page_of) -> None:
    page = page_of(PAGE)
    widget = page.locator(".sb-kernel").first
    board = widget.locator(".sb-image")
    board.scroll_into_view_if_needed()
    box = board.bounding_box()
    step = box["width"] / 8
    page.mouse.click(box["x"] + 3.5 * step, box["y"] + 4.5 * step)
    assert said(widget)[:2] == (4, 3)
    board.focus()
    for key, place in [
        ("ArrowRight", (4, 4)),
        ("ArrowDown", (5, 4)),
        ("Home", (1, 1)),
        ("End", (6, 6)),
    ]:
        page.keyboard.press(key)
        assert said(widget)[:2] == place
    play = widget.get_by_role("button")
    play.click()
    assert play.inner_text() == "Stop"
    play.click()
    assert play.inner_text() == "Slide"


def test_the_page_fits_its_screen(page_of) -> None:
    page = page_of(PAGE)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
