"""The widget of the page on the activity penalty, against PyTorch."""

from __future__ import annotations

import re

import pytest
import torch
from networks_for_tests import lines, network_of, stored_digits
from torch import Tensor

from sparse_book.networks.record import record

PAGE = "nbs/training/activity_penalty"
SAID = re.compile(
    r"(Nothing is drawn\. )?Dense \(λ = 0\): (\d+) of 64 units fire, it reads "
    r"(\d) \(.*\)\. Sparse \(λ = [\d.]+\): (\d+) of 64 units fire, it reads "
    r"(\d) \(.*\)\."
)


def meant(image: Tensor) -> list[int]:
    """Active units and answer of both networks, as PyTorch has them."""
    found = []
    for index in (0, 1):
        model = network_of("firing", index)
        with torch.no_grad(), record(model, "hidden.0") as heard:
            logits = model(image[None])
        found += [int((heard["hidden.0"] > 0).sum()), int(logits.argmax())]
    return found


def canvas_of(widget, place: str) -> Tensor:
    """Return what a canvas shows, from 0 to 1."""
    levels = widget.locator(place).evaluate(
        "c => Array.from(c.getContext('2d').getImageData(0, 0, 28, 28).data)"
        ".filter((_, k) => k % 4 === 0)"
    )
    return torch.tensor(levels).double().view(1, 28, 28) / 255


def assert_right(widget, *, empty: bool = False) -> None:
    """What is said of the picture that the networks see is PyTorch's."""
    text = widget.locator(".sb-readout").inner_text()
    found = SAID.fullmatch(text)
    assert found, text
    assert bool(found[1]) == empty
    said = [int(found[k]) for k in (2, 3, 4, 5)]
    assert said == meant(canvas_of(widget, ".sb-look canvas"))
    for k, count in ((0, said[0]), (1, said[2])):
        radii = widget.locator(f".sb-brain-{k} .sb-glow").evaluate_all(
            "dots => dots.map(dot => +dot.getAttribute('r'))"
        )
        assert sum(radius > 0 for radius in radii) == count


@pytest.mark.screens("light")
def test_ready_made_digits(page_of) -> None:
    page = page_of(PAGE)
    widget = page.locator(".sb-firing").first
    assert_right(widget)
    for number, name in [(1, "0, second"), (18, "9, first")]:
        radio = widget.get_by_role("radio", name=name)
        radio.check()
        board = canvas_of(widget, ".sb-drawing canvas")
        torch.testing.assert_close(board, stored_digits()[number])
        assert_right(widget)
        assert radio.is_checked()
    for k, run in enumerate(lines("firing")):
        text = widget.locator(".sb-measured").nth(k).inner_text()
        right, fire = (float(n) for n in re.findall(r"\d+\.\d+", text))
        accuracy = 100 * float(run["accuracy"])
        assert right == pytest.approx(accuracy, abs=0.0051)
        assert fire == pytest.approx(float(run["active"]), abs=0.051)


def test_drawing_with_a_pointer(page_of, screen) -> None:
    page = page_of(PAGE)
    widget = page.locator(".sb-firing").first
    widget.get_by_role("button", name="Clear").click()
    assert_right(widget, empty=True)
    assert widget.locator("input:checked[type=radio][aria-label]").count() == 0
    board = widget.locator(".sb-drawing")
    board.scroll_into_view_if_needed()
    box = board.bounding_box()

    def place(row: float, column: float) -> tuple[float, float]:
        return (
            box["x"] + (column + 0.5) / 28 * box["width"],
            box["y"] + (row + 0.5) / 28 * box["height"],
        )

    page.mouse.move(*place(4, 10))
    page.mouse.down()
    for row in range(5, 22):
        page.mouse.move(*place(row, 10))
    page.mouse.up()
    page.mouse.move(*place(25, 25))  # not drawing any more
    ink = canvas_of(widget, ".sb-drawing canvas")[0]
    assert (ink[4:21, 10] > 0.9).all() and ink[:, 16:].sum() == 0
    seen = canvas_of(widget, ".sb-look canvas")[0]
    middle = (seen.sum(0) * torch.arange(28)).sum() / seen.sum()
    assert abs(float(middle) - 14) <= 0.6
    assert_right(widget)
    widget.get_by_text("eraser", exact=True).click()
    page.mouse.click(*place(10, 10))
    rubbed = canvas_of(widget, ".sb-drawing canvas")[0]
    assert rubbed[10, 10] < 0.2 and rubbed[17, 10] > 0.9
    assert_right(widget)
    if screen == "phone":
        widget.get_by_text("ink", exact=True).click()
        page.touchscreen.tap(*place(14, 20))
        assert canvas_of(widget, ".sb-drawing canvas")[0, 14, 20] > 0.9
        assert_right(widget)


@pytest.mark.screens("light")
def test_drawing_with_the_keyboard(page_of) -> None:
    page = page_of(PAGE)
    widget = page.locator(".sb-firing").first
    widget.locator(".sb-drawing").focus()
    page.keyboard.press("Delete")
    assert_right(widget, empty=True)
    told = widget.locator(".sb-pen")
    for _ in range(3):
        page.keyboard.press("ArrowUp")
    assert told.inner_text() == "Pen up at row 12, column 15."
    assert_right(widget, empty=True)
    page.keyboard.press("Space")
    for _ in range(6):
        page.keyboard.press("ArrowDown")
    assert told.inner_text() == "Pen down at row 18, column 15."
    page.keyboard.press("Space")
    page.keyboard.press("ArrowRight")
    ink = canvas_of(widget, ".sb-drawing canvas")[0]
    assert (ink[11:18, 14] == 1).all() and ink[:9].sum() == 0
    assert_right(widget)


@pytest.mark.screens("light")
def test_weights_of_a_unit(page_of) -> None:
    page = page_of(PAGE)
    widget = page.locator(".sb-firing").first
    knob = widget.get_by_role("slider", name="Weights of unit")
    knob.fill("10")
    for k, name in enumerate(("dense", "sparse")):
        field = widget.locator(".sb-field").nth(k)
        label = field.get_attribute("aria-label")
        assert label == f"Weights into unit 10 of the {name} network"
        shown = canvas_of(widget, f".sb-brain-{k} .sb-field").flatten()
        weight = network_of("firing", k).hidden[0][0].weight[9].detach()
        wanted = (1 + weight / weight.abs().max()) / 2
        assert float((shown - wanted).abs().max()) < 1 / 255
    drawing = widget.locator(".sb-brain-1 svg")
    drawing.scroll_into_view_if_needed()
    box = drawing.bounding_box()
    page.mouse.click(
        box["x"] + 2.5 / 8 * box["width"], box["y"] + 4.5 / 8 * box["height"]
    )
    assert knob.input_value() == "35"


def test_the_page_fits_its_screen(page_of) -> None:
    page = page_of(PAGE)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    inside = page.evaluate("innerWidth")
    widget = page.locator(".sb-firing").first
    for part in widget.locator(".sb-desk, .sb-brain, button").all():
        box = part.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= inside
