"""The widget of the page on receptive fields, against the library."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from sparse_book.linear.receptive_fields import (
    RINGACH_COUNTS,
    fit_gabor,
    shape_histogram,
)

from conftest import ROOT

PAGE = "nbs/linear/receptive_fields"


@pytest.fixture(scope="module")
def fits():
    path = ROOT / "results" / "fields" / "l1.npz"
    with np.load(path) as file:
        atoms = torch.from_numpy(file["dictionary"]).double()
    return fit_gabor(atoms, 16)


def assert_right(widget, fits) -> int:
    """What the widget says is what the library says; return the field."""
    text = widget.locator(".sb-readout").inner_text()
    shown = re.match(
        r"Field (\d+): .* at (\d+)° with ([\d.]+) .* = ([\d.]+), "
        r"n_y = ([\d.]+)\. .* explains (\d+) %; (\w+)",
        text,
    )
    assert shown, text
    k = int(shown[1]) - 1
    n_x, n_y = fits.n_x[k], fits.n_y[k]
    turn = float(torch.rad2deg(fits.direction[k]))
    assert abs((int(shown[2]) - turn + 90) % 180 - 90) < 0.6
    for got, meant in [(3, fits.frequency[k]), (4, n_x), (5, n_y)]:
        assert float(shown[got]) == pytest.approx(float(meant), abs=0.0051)
    assert abs(int(shown[6]) - 100 * fits.explained[k]) < 0.6
    bin_ = int(shape_histogram(n_x[None], n_y[None]).argmax())
    cells = 0 if bin_ == 25 else RINGACH_COUNTS[bin_ // 5][bin_ % 5]
    assert shown[7] == (str(cells) if cells else "no")
    return k


@pytest.mark.screens("light")
def test_keyboard_walks_the_sheet(page_of, fits) -> None:
    page = page_of(PAGE)
    widget = page.locator(".sb-field-fitter").first
    first = assert_right(widget, fits)
    widget.get_by_role("slider", name="Chosen field").focus()
    page.keyboard.press("Home")
    assert assert_right(widget, fits) == 0 != first
    page.keyboard.press("ArrowDown")
    assert assert_right(widget, fits) == 16
    page.keyboard.press("ArrowRight")
    assert assert_right(widget, fits) == 17
    page.keyboard.press("End")
    assert assert_right(widget, fits) == 255


def test_pointer_chooses_on_the_sheet_and_in_the_plane(page_of, fits) -> None:
    page = page_of(PAGE)
    widget = page.locator(".sb-field-fitter").first
    sheet = widget.locator(".sb-board canvas")
    sheet.scroll_into_view_if_needed()
    box = sheet.bounding_box()
    for row, column in [(0, 0), (7, 3), (15, 15)]:
        page.mouse.click(
            box["x"] + (column + 0.5) / 16 * box["width"],
            box["y"] + (row + 0.5) / 16 * box["height"],
        )
        assert assert_right(widget, fits) == 16 * row + column
    dots = widget.locator(".sb-mote")
    assert dots.count() == 256
    well = ((fits.n_x > 0.2) & (fits.n_x < 1) & (fits.n_y > 0.2)).nonzero()
    for k in [int(well[5]), int(well[40])]:
        dot = dots.nth(k)
        dot.scroll_into_view_if_needed()
        box = dot.bounding_box()
        page.mouse.click(
            box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        )
        chosen = assert_right(widget, fits)
        apart = (fits.n_x[chosen] / fits.n_x[k]).log().abs()
        apart = apart + (fits.n_y[chosen] / fits.n_y[k]).log().abs()
        assert apart < 0.05  # its own dot, or one that covers it


@pytest.mark.screens("light")
def test_the_fit_is_drawn_as_the_library_computes_it(page_of, fits) -> None:
    page = page_of(PAGE)
    widget = page.locator(".sb-field-fitter").first
    chosen = assert_right(widget, fits)
    from sparse_book.linear.receptive_fields import gabor

    with np.load(ROOT / "results" / "fields" / "l1.npz") as file:
        atom = torch.from_numpy(file["dictionary"])[chosen].double()
    drawn = gabor(fits)[chosen] / atom.abs().max()
    for name, values in {
        "field": atom / atom.abs().max(),
        "fit": drawn,
    }.items():
        number = ["field", "fit"].index(name)
        canvas = widget.locator(".sb-trio canvas").nth(number)
        grey = canvas.evaluate(
            "node => Array.from(node.getContext('2d')"
            ".getImageData(0, 0, 16, 16).data.filter((_, k) => k % 4 === 0))"
        )
        wanted = (255 * (values + 1) / 2).clamp(0, 255)
        assert (torch.tensor(grey) - wanted).abs().max() < 1.6


def test_the_page_fits_its_screen(page_of) -> None:
    page = page_of(PAGE)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for panel in page.locator(".sb-field-fitter .sb-panel").all():
        box = panel.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= page.evaluate("innerWidth")
