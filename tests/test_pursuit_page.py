"""The page "Matching pursuit" in a browser: its widget against the library."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
import torch
from sklearn.datasets import load_sample_image
from torch import Tensor

from sparse_book.linear.dictionaries import cosine_dictionary
from sparse_book.linear.pursuit import (
    matching_pursuit,
    orthogonal_matching_pursuit,
)

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

    Open = Callable[[str], Page]

PAGE = "nbs/linear/pursuit"
LEFT, RIGHT, TOP, BOTTOM = 44.0, 348.0, 12.0, 190.0  # of common.js's plot
ATOMS = cosine_dictionary(8, 11, dtype=torch.float64)


def photograph() -> Tensor:
    """The one that the page gives to its widget."""
    flower = torch.tensor(load_sample_image("flower.jpg")).double().mean(2)
    grey = flower[96:336, 180:420].reshape(120, 2, 120, 2).mean((1, 3)) / 255
    return grey.float().double()


PHOTO = photograph()


def widget_of(page: Page) -> Locator:
    return page.locator(".sb-pursuit")


def frame_of(page: Page) -> Locator:
    return widget_of(page).locator(".sb-pursuit-frame")


def place(page: Page) -> tuple[int, int]:
    """Row and column of the patch, as the frame says and as it stands."""
    frame = frame_of(page)
    text = frame.get_attribute("aria-label") or ""
    row, column = map(int, re.findall(r"\d+", text)[:2])
    style = frame.get_attribute("style") or ""
    for name, value in [("top", row), ("left", column)]:
        found = re.search(rf"{name}: ([\d.]+)%", style)
        assert found and float(found[1]) * 1.2 == pytest.approx(
            value, abs=1e-3
        )
    return row, column


def run(signal: Tensor, method: str, step: int) -> tuple[Tensor, float]:
    """The library's code after some steps, and its residual's norm."""
    if step == 0:
        return torch.zeros(1, 121).double(), float(signal.norm())
    if method == "omp":
        found = orthogonal_matching_pursuit(signal, ATOMS, active=step)
    else:
        found = matching_pursuit(signal, ATOMS, max_iterations=step)
    return found.codes, float(found.residual_norm)


def greys(widget: Locator, tile: int) -> Tensor:
    canvas = widget.locator(".sb-pursuit-tiles canvas").nth(tile)
    values = canvas.evaluate(
        "c => Array.from(c.getContext('2d').getImageData(0, 0, 8, 8).data)"
    )
    return torch.tensor(values, dtype=torch.float64)[::4]


def assert_shown_right(page: Page) -> tuple[int, int, str, int]:
    """Everything that the widget shows agrees with the exported functions."""
    widget = widget_of(page)
    row, column = place(page)
    patch = PHOTO[row : row + 8, column : column + 8].reshape(1, 64)
    signal = patch - patch.mean()
    method = widget.locator("input:checked").get_attribute("value") or ""
    step = int(widget.get_by_role("slider", name="Step").input_value())
    code, norm = run(signal, method, step)
    residual = signal - code @ ATOMS

    shown = {
        int(item.get_attribute("data-atom") or -1): float(
            item.locator("figcaption").inner_text().replace("−", "-")
        )
        for item in widget.locator(".sb-pursuit-strip [data-atom]").all()
    }
    chosen = code[0].nonzero()[:, 0].tolist()
    assert sorted(shown) == chosen
    for atom, value in shown.items():
        assert value == pytest.approx(float(code[0, atom]), abs=6e-4)

    text = widget.locator(".sb-readout").inner_text()
    said = re.search(r"residual ([\d.]+), ([\d.]+) % of the energy", text)
    assert said, text
    assert float(said[1]) == pytest.approx(norm, abs=6e-5)
    share = 100 * norm**2 / float(signal.square().sum())
    assert float(said[2]) == pytest.approx(share, abs=0.051)
    count = f"{step} step{'s' if step > 1 else ''} of {method.upper()}, "
    assert text.startswith(count if step else "Nothing chosen yet")

    path = widget.locator(".sb-pursuit-bars").get_attribute("d") or ""
    heights = torch.tensor([float(v) for v in re.findall(r"V([\d.]+)", path)])
    drawn = 1 - 2 * (heights.double() - TOP) / (BOTTOM - TOP)
    cosines = (residual @ ATOMS.mT)[0] / norm
    torch.testing.assert_close(drawn, cosines, atol=2e-4, rtol=0)
    ring = widget.locator(".sb-pursuit-ring")
    x = float(ring.get_attribute("cx") or "nan")
    winner = (x - LEFT) / (RIGHT - LEFT) * 122 - 1
    if step < 16:
        open_atoms = cosines.abs()
        if method == "omp":
            open_atoms[chosen] = 0
        assert winner == pytest.approx(int(open_atoms.argmax()), abs=1e-3)
    else:
        assert not ring.is_visible()

    for place_of_curve, name in [(0, "omp"), (1, "mp")]:
        curve = widget.locator(".sb-panel .sb-curve").nth(place_of_curve)
        points = re.findall(
            r"([\d.]+) ([\d.]+)", curve.get_attribute("d") or ""
        )
        assert len(points) == 17
        for k in (1, 7, 16):
            left = 100 * run(signal, name, k)[1] ** 2 / signal.square().sum()
            y = (BOTTOM - float(points[k][1])) / (BOTTOM - TOP)
            wanted = (torch.log10(left.clamp_min(1e-3)) + 2) / 4
            assert y == pytest.approx(float(wanted), abs=1e-3)

    for tile, values, peak in [
        (0, signal, signal.abs().max()),
        (1, code @ ATOMS, signal.abs().max()),
        (2, residual, residual.abs().max()),
    ]:
        wanted = (255 * (values[0] / peak + 1) / 2).round().clamp(0, 255)
        assert (greys(widget, tile) - wanted).abs().max() <= 1
    return row, column, method, step


def test_steps_by_buttons_slider_and_keys(page_of: Open) -> None:
    page = page_of(PAGE)
    widget = widget_of(page)
    assert assert_shown_right(page) == (90, 95, "omp", 3)
    forth = widget.get_by_role("button", name="Step forward")
    back = widget.get_by_role("button", name="Step back")
    forth.click()
    assert assert_shown_right(page)[3] == 4
    for _ in range(4):
        back.click()
    assert assert_shown_right(page)[3] == 0
    assert back.is_disabled()
    slider = widget.get_by_role("slider", name="Step")
    slider.focus()
    for _ in range(9):
        page.keyboard.press("ArrowRight")
    assert assert_shown_right(page)[3] == 9
    widget.get_by_text("plain", exact=True).first.click()
    assert assert_shown_right(page)[2:] == ("mp", 9)
    slider.focus()
    again = 0
    for step in range(9, 16):
        page.keyboard.press("ArrowRight")
        assert assert_shown_right(page)[3] == step + 1
        again += " again:" in widget.locator(".sb-readout").inner_text()
    assert again > 0  # the page promises it
    assert forth.is_disabled()
    page.keyboard.press("Home")
    assert assert_shown_right(page)[3] == 0


def test_the_frame_by_keyboard(page_of: Open) -> None:
    page = page_of(PAGE)
    frame_of(page).focus()
    for key, wanted in [
        ("ArrowUp", (89, 95)),
        ("ArrowLeft", (89, 94)),
        ("Shift+ArrowUp", (81, 94)),
        ("Shift+ArrowRight", (81, 102)),
        ("ArrowDown", (82, 102)),
        ("Shift+ArrowRight", (82, 110)),
        ("Shift+ArrowRight", (82, 112)),  # the edge of the photograph
    ]:
        page.keyboard.press(key)
        assert assert_shown_right(page)[:2] == wanted


def test_the_frame_by_pointer(page_of: Open) -> None:
    page = page_of(PAGE)
    canvas = widget_of(page).locator(".sb-pursuit-stage canvas")
    canvas.scroll_into_view_if_needed()
    frame_of(page).scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box
    pixel = box["width"] / 120

    def at(row: float, column: float) -> tuple[float, float]:
        return box["x"] + column * pixel, box["y"] + row * pixel

    page.mouse.move(*at(92.5, 97.5))  # inside the frame: it must not leap
    page.mouse.down()
    assert assert_shown_right(page)[:2] == (90, 95)
    page.mouse.move(*at(72.5, 77.5))
    assert assert_shown_right(page)[:2] == (70, 75)
    page.mouse.move(*at(-50, -50))
    assert assert_shown_right(page)[:2] == (0, 0)
    page.mouse.up()
    page.mouse.move(*at(60, 60))
    assert assert_shown_right(page)[:2] == (0, 0)
    page.mouse.click(*at(60, 54))  # elsewhere: the frame comes
    assert assert_shown_right(page)[:2] == (56, 50)


def test_the_page_is_whole(page_of: Open) -> None:
    page = page_of(PAGE)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.locator("mjx-merror, [data-mjx-error]").count() == 0
    assert page.locator("article figure img[alt]").count() == 5
    text = page.locator("article").inner_text()
    assert "nbdev_export" not in text and "#|" not in text
    assert page.locator(".exercise").count() == 5
    page.locator(".solution .toggle-button").first.click()
    page.get_by_text("is not impressed").wait_for(state="visible")
