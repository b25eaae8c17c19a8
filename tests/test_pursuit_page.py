"""The pursuit widget in a browser, against pursuits computed here."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from sklearn.linear_model import orthogonal_mp

from sparse_book.linear.dictionaries import cosine_dictionary
from sparse_book.show.pursuit import PursuitSteps

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

    Open = Callable[[str], Page]

PAGE = "nbs/show/pursuit"
WIDTH, HEIGHT, SIDE, LIMIT = 128, 96, 8, 24
LEFT, RIGHT, TOP, BOTTOM = 44.0, 348.0, 12.0, 210.0  # of common.js's plot
SENTENCE = re.compile(
    r"(?:No atom yet|(?:(\d+) steps, )?(\d+) atoms?): (over )?([\d.]+) % of "
    r"the patch explained; (?:next: atom (\d+)|nothing is left)\."
)
GREYS = """node => [...node.getContext("2d").getImageData(
    0, 0, node.width, node.height).data].filter((_, k) => k % 4 === 0)"""


def photograph() -> np.ndarray:
    pixels = PursuitSteps().photograph
    return np.frombuffer(pixels, np.uint8).reshape(HEIGHT, WIDTH) / 255


ATOMS = cosine_dictionary(8, 11, dtype=torch.float64).numpy()
PHOTOGRAPH = photograph()


def matching(patch: np.ndarray, steps: int) -> np.ndarray:
    codes, residual = np.zeros(len(ATOMS)), patch
    for _ in range(steps):
        fit = ATOMS @ residual
        best = np.abs(fit).argmax()
        codes[best] += fit[best]
        residual = residual - fit[best] * ATOMS[best]
    return codes


def orthogonal(patch: np.ndarray, steps: int) -> np.ndarray:
    if steps == 0:
        return np.zeros(len(ATOMS))
    return orthogonal_mp(ATOMS.T, patch, n_nonzero_coefs=steps)


CODERS = {"matching": matching, "orthogonal": orthogonal}


def widget_of(page: Page) -> Locator:
    return page.locator(".sb-pursuit")


def knob(page: Page) -> Locator:
    return widget_of(page).get_by_role("slider", name="Steps")


def place(page: Page) -> tuple[int, int]:
    frame = widget_of(page).locator(".sb-frame")
    column, row = re.findall(r"\d+", frame.get_attribute("transform") or "")
    assert f"row {row}, column {column}." in frame.get_attribute("aria-label")
    return int(row), int(column)


def heights(curve: Locator) -> np.ndarray:
    """Shares of energy, in percent, of a curve on the logarithmic axis."""
    ys = re.findall(r" (-?[\d.]+)", curve.get_attribute("d") or "")
    rise = (BOTTOM - np.array(ys, float)) / (BOTTOM - TOP)
    return 10 ** (-3 + 5 * rise)


def assert_bars(widget: Locator, fit: np.ndarray, before: int) -> None:
    """The bars, the mark of the winner, and what was chosen before."""
    bars = widget.locator(".sb-bars")
    labels = bars.locator(".sb-axes text[text-anchor=end]")
    top = float(labels.all_text_contents()[2]) * 1.12
    path = bars.locator(".sb-stick").first.get_attribute("d") or ""
    ends = np.array(re.findall(r"V([\d.]+)", path), float)
    drawn = top * (BOTTOM - ends) / (BOTTOM - TOP)
    assert drawn == pytest.approx(fit, abs=1e-4 * top)
    winner = bars.locator(".sb-dot")
    assert winner.get_attribute("data-atom") == str(fit.argmax())
    assert bars.locator(".sb-used").count() == before


def assert_curves(
    widget: Locator, patch: np.ndarray, steps: int, share: float
) -> None:
    """Both curves, and the handle on the one chosen."""
    for name, coder in CODERS.items():
        curve = heights(widget.locator(f"path[data-method={name}]"))
        for k in (0, 1, 2, 5, 11, 24):
            rest = patch - coder(patch, k) @ ATOMS
            left = 100 * (rest @ rest) / (patch @ patch)
            assert curve[k] == pytest.approx(max(left, 1e-4), rel=1e-3)
    grip = widget.locator(".sb-grip").get_attribute("transform") or ""
    x, y = map(float, re.findall(r"[\d.]+", grip))
    assert (x - LEFT) / (RIGHT - LEFT) * LIMIT == pytest.approx(
        steps, abs=0.01
    )
    level = 10 ** (-3 + 5 * (BOTTOM - y) / (BOTTOM - TOP))
    assert level == pytest.approx(max(100 * share, 1e-3), rel=1e-3)


def assert_pictures(
    widget: Locator, patch: np.ndarray, built: np.ndarray
) -> None:
    """Patch, reconstruction and residual, pixel by pixel."""
    pictures = widget.locator(".sb-sum canvas")
    greys = [np.array(pictures.nth(k).evaluate(GREYS)) for k in range(3)]
    assert greys[0] == pytest.approx(255 * patch, abs=0.51)
    seen = np.clip(255 * built, 0, 255)
    assert greys[1] == pytest.approx(seen, abs=0.51)
    residual = patch - built
    scale = widget.locator(".sb-scale").inner_text()
    said = float(scale.rpartition(" ")[2])
    wide = 2.0 ** np.round(np.log2(said))
    assert said == pytest.approx(wide, rel=0.05)
    assert np.abs(residual).max() <= wide
    middle = 127.5 * (1 + residual / wide)
    assert greys[2] == pytest.approx(middle, abs=0.51)


def assert_shown_right(page: Page) -> tuple[int, int, str, int]:
    """Everything shown agrees with a computation that shares no code."""
    widget = widget_of(page)
    row, column = place(page)
    steps = int(knob(page).input_value())
    method = widget.locator("input[type=radio]:checked").input_value()
    patch = PHOTOGRAPH[row : row + SIDE, column : column + SIDE].reshape(-1)
    codes = CODERS[method](patch, steps)
    residual = patch - codes @ ATOMS
    fit = np.abs(ATOMS @ residual)

    text = widget.locator(".sb-readout").inner_text()
    found = SENTENCE.fullmatch(text)
    assert found, text
    assert int(found[2] or 0) == np.count_nonzero(codes)
    assert int(found[1] or found[2] or 0) == steps
    assert int(found[5]) == fit.argmax()
    share = residual @ residual / (patch @ patch)
    digits = len(found[4].partition(".")[2])
    half = 0.51 * 10.0**-digits
    if found[3]:
        assert 100 * share < 1e-4
    else:
        assert float(found[4]) == pytest.approx(100 - 100 * share, abs=half)
        assert 100 * share > half, "too few digits to see what is missing"

    # The atoms, in the order of their first choice, with their coefficients.
    order = dict.fromkeys(
        int(
            np.abs(ATOMS @ (patch - CODERS[method](patch, k) @ ATOMS)).argmax()
        )
        for k in range(steps)
    )
    tiles = widget.locator(".sb-atom[data-atom]:not(.sb-new)")
    names = tiles.evaluate_all("all => all.map(n => +n.dataset.atom)")
    assert names == list(order)
    shown = [
        float(value.replace("\u2212", "-"))
        for value in tiles.locator("span").all_inner_texts()
    ]
    assert shown == pytest.approx(codes[names], abs=0.0051)
    coming = widget.locator(".sb-coming")
    if len(names) < LIMIT:
        assert coming.get_attribute("data-atom") == str(fit.argmax())

    assert_bars(widget, fit, len(names))
    assert_curves(widget, patch, steps, share)
    assert_pictures(widget, patch, codes @ ATOMS)
    return row, column, method, steps


@pytest.mark.screens("light")
def test_by_keyboard_alone(page_of: Open) -> None:
    page = page_of(PAGE)
    assert assert_shown_right(page) == (26, 78, "matching", 3)
    frame = widget_of(page).locator(".sb-frame")
    frame.focus()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Shift+ArrowLeft")
    page.keyboard.press("+")
    assert assert_shown_right(page) == (25, 70, "matching", 4)
    page.keyboard.press("-")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    assert assert_shown_right(page) == (26, 71, "matching", 3)
    page.keyboard.press("End")
    assert assert_shown_right(page)[3] == LIMIT
    page.keyboard.press("+")  # there is no further step
    assert assert_shown_right(page)[3] == LIMIT
    page.keyboard.press("Home")
    assert assert_shown_right(page)[3] == 0
    assert "No atom yet: 0.0 %" in page.locator(".sb-readout").inner_text()
    for _ in range(12):  # into the corner, and no further
        page.keyboard.press("Shift+ArrowDown")
        page.keyboard.press("Shift+ArrowLeft")
    assert assert_shown_right(page)[:2] == (HEIGHT - SIDE, 0)
    knob(page).focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    radio = widget_of(page).get_by_role("radio", name="matching")
    radio.focus()
    page.keyboard.press("ArrowRight")
    assert assert_shown_right(page) == (88, 0, "orthogonal", 5)
    page.keyboard.press("Tab")  # the buttons follow
    page.keyboard.press("Enter")
    assert assert_shown_right(page)[3] == 0
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # back from the start: nothing happens
    page.keyboard.press("Tab")
    for _ in range(3):
        page.keyboard.press("Enter")
    assert assert_shown_right(page)[3] == 3


@pytest.mark.screens("light")
@pytest.mark.parametrize("method", CODERS)
def test_sky_roof_tiles_and_windows(page_of: Open, method: str) -> None:
    page = page_of(PAGE)
    widget = widget_of(page)
    widget.get_by_role("radio", name=method).check()
    picture = widget.locator(".sb-photo canvas")
    for row, column in [(4, 8), (46, 16), (30, 64), (50, 40), (88, 12)]:
        box = picture.bounding_box()
        assert box
        scale = box["width"] / WIDTH
        spot = {"x": (column + 4) * scale, "y": (row + 4) * scale}
        widget.locator(".sb-layer").click(position=spot)
        for steps in (7, LIMIT):
            knob(page).fill(str(steps))
            seen = assert_shown_right(page)
            assert seen == (row, column, method, steps)


def test_dragging_the_frame_and_the_point(page_of: Open) -> None:
    page = page_of(PAGE)
    widget = widget_of(page)
    canvas = widget.locator(".sb-photo canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box
    scale = box["width"] / WIDTH
    x, y = box["x"] + 81 * scale, box["y"] + 29 * scale  # off its centre
    page.mouse.move(x, y)
    page.mouse.down()
    for right, down in [(-5, 4), (-20, 10), (-41, 21)]:
        page.mouse.move(x + right * scale, y + down * scale)
        seen = assert_shown_right(page)
        assert seen[:2] == (26 + down, 78 + right)
    page.mouse.up()
    page.mouse.move(x, y)
    assert assert_shown_right(page)[:2] == (47, 37)

    dot = widget.locator(".sb-fall .sb-dot")
    dot.scroll_into_view_if_needed()
    spot = dot.bounding_box()
    whole = widget.locator(".sb-fall figure svg").bounding_box()
    assert spot and whole
    x, y = spot["x"] + spot["width"] / 2, spot["y"] + spot["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    per_step = (RIGHT - LEFT) / LIMIT * whole["width"] / 360
    for steps in (5, 13, 30):
        page.mouse.move(x + (steps - 3) * per_step, y)
        assert assert_shown_right(page)[3] == min(steps, LIMIT)
    page.mouse.up()


@pytest.mark.screens("phone")
def test_a_tap_moves_the_frame(page_of: Open) -> None:
    page = page_of(PAGE)
    layer = widget_of(page).locator(".sb-layer")
    box = layer.bounding_box()
    assert box
    scale = box["width"] / WIDTH
    layer.tap(position={"x": 24 * scale, "y": 64 * scale})
    assert assert_shown_right(page)[:2] == (60, 20)
    widget_of(page).get_by_role("button", name="Step").tap()
    assert assert_shown_right(page)[3] == 4


@pytest.mark.screens("light")
def test_the_page_is_whole(page_of: Open) -> None:
    page = page_of(PAGE)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    sizes = widget_of(page).locator("button, .sb-frame .sb-hit")
    for k in range(sizes.count()):
        box = sizes.nth(k).bounding_box()
        assert box and min(box["width"], box["height"]) >= 32
    wide = (
        widget_of(page)
        .locator(".sb-atom span")
        .evaluate_all("all => all.every(n => n.scrollWidth <= n.clientWidth)")
    )
    assert wide
    text = page.locator("article").inner_text()
    assert "nbdev_export" not in text and "#|" not in text
