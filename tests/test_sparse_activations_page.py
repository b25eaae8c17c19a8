"""The widget of the page on sparse activation functions, point by point."""

from __future__ import annotations

import re

import pytest
import torch

from sparse_book.measures.description_length import (
    inverse_compression_ratio,
)
from sparse_book.san.extrema import SPARSE_ACTIVATIONS, sparse_activation

PAGE = "nbs/san/activations"
STATE = """node => {
  const dots = [...node.querySelectorAll("circle[data-value]")];
  const [size, tolerance] = node.querySelectorAll("input[type=range]");
  const rows = [...node.querySelectorAll("tr[data-activation]")];
  return {
    values: dots.map((dot) => Number(dot.dataset.value)),
    kept: dots.map((dot) => Number(dot.dataset.kept)),
    heights: dots.map((dot) => Number(dot.getAttribute("cy"))),
    stems: node.querySelector(".sb-activations-stems").getAttribute("d"),
    name: node.querySelector("input[type=radio]:checked").value,
    m: Number(size.value),
    tolerance: Number(tolerance.value),
    table: Object.fromEntries(rows.map((row) => [
      row.dataset.activation,
      [...row.querySelectorAll("td")].map((cell) => Number(cell.textContent)),
    ])),
    text: node.querySelector(".sb-readout").textContent,
  };
}"""


def assert_right(widget) -> dict:
    """Everything shown agrees with the exported functions."""
    seen = widget.evaluate(STATE)
    signal = torch.tensor(seen["values"], dtype=torch.float64)[None, None]
    n, m, tolerance = len(seen["values"]), seen["m"], seen["tolerance"]
    assert set(seen["table"]) == set(SPARSE_ACTIVATIONS)
    for name in SPARSE_ACTIVATIONS:
        kept = sparse_activation(name, m, tolerance)(signal)[0, 0]
        active = (kept != 0).sum().double()
        cost = inverse_compression_ratio(
            active, weights=m, size=n, dimensions=1
        )
        count, ratio = seen["table"][name]
        assert count == active, name
        assert ratio == pytest.approx(float(cost), abs=0.0051), name
        if name == seen["name"]:
            assert seen["kept"] == kept.tolist()
            assert seen["stems"].count("M") == active
            numbers = re.findall(r"\d+(?:\.\d+)?", seen["text"])
            assert [int(x) for x in numbers[:3]] == [m, int(active), n]
            assert float(numbers[-1]) == ratio
    for value, height in zip(seen["values"], seen["heights"], strict=True):
        shown = (220 - height) / (220 - 12) * 2.2 - 1.1
        assert shown == pytest.approx(value, abs=1e-3)
    return seen


@pytest.mark.screens("light")
def test_every_function_on_every_signal(page_of) -> None:
    widget = page_of(PAGE).locator(".sb-activations").first
    assert assert_right(widget)["name"] == "extrema"
    signals = set()
    for preset in ["heartbeats", "sines", "noise", "plateaus", "ringing"]:
        widget.get_by_role("button", name=preset).click()
        for name in SPARSE_ACTIVATIONS:
            widget.locator(f"input[value={name}]").check()
            seen = assert_right(widget)
            assert seen["name"] == name
        signals.add(tuple(seen["values"]))
    assert len(signals) == 5
    widget.get_by_role("button", name="silence").click()
    seen = assert_right(widget)
    assert not any(seen["values"]) and not any(seen["kept"])


@pytest.mark.screens("light")
def test_kernel_size_and_tolerance(page_of) -> None:
    page = page_of(PAGE)
    widget = page.locator(".sb-activations").first
    widget.get_by_role("button", name="noise").click()
    size, tolerance = widget.locator("input[type=range]").all()
    for key in ["Home", "ArrowRight", "ArrowRight", "PageUp", "End"]:
        size.focus()
        page.keyboard.press(key)
        assert_right(widget)
    assert assert_right(widget)["m"] == 40
    few = sum(v != 0 for v in assert_right(widget)["kept"])
    tolerance.focus()
    page.keyboard.press("End")
    seen = assert_right(widget)
    assert seen["tolerance"] == 10
    assert sum(v != 0 for v in seen["kept"]) >= few
    widget.locator("input[value=peaks]").check()
    assert tolerance.is_disabled()


@pytest.mark.screens("light")
def test_keyboard_alone_draws(page_of) -> None:
    page = page_of(PAGE)
    widget = page.locator(".sb-activations").first
    silence = widget.get_by_role("button", name="silence")
    silence.focus()
    page.keyboard.press("Enter")
    cursor = widget.get_by_role("slider", name="Cursor")
    cursor.focus()
    page.keyboard.press("Home")
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    for _ in range(3):
        page.keyboard.press("ArrowUp")
    seen = assert_right(widget)
    assert seen["values"][5] == 0.15 and seen["kept"][5] == 0.15
    assert cursor.get_attribute("aria-valuetext") == "sample 5: 0.15, kept"
    page.keyboard.press("End")
    page.keyboard.press("Shift+ArrowDown")
    seen = assert_right(widget)
    assert seen["values"][-1] == -0.25 and seen["kept"][-1] == 0  # no valley
    page.keyboard.press("PageDown")
    for _ in range(30):
        page.keyboard.press("ArrowUp")
    assert assert_right(widget)["values"][-11] == 1
    text = cursor.get_attribute("aria-valuetext")
    assert text == "sample 109: 1.00, kept"


def test_pointer_draws(page_of) -> None:
    page = page_of(PAGE)
    widget = page.locator(".sb-activations").first
    widget.get_by_role("button", name="silence").click()
    sheet = widget.locator(".sb-activations-sheet")
    sheet.scroll_into_view_if_needed()
    box = sheet.bounding_box()

    def at(share: float, value: float) -> tuple[float, float]:
        y = (220 - (value + 1.1) / 2.2 * 208) / 232
        return box["x"] + share * box["width"], box["y"] + y * box["height"]

    page.mouse.move(*at(0.2, 0))
    page.mouse.down()
    for share, value in [(0.25, 0.8), (0.3, 0.1), (0.35, -0.6), (0.4, 0.0)]:
        page.mouse.move(*at(share, value))
        assert_right(widget)
    page.mouse.up()
    page.mouse.move(*at(0.8, 0.9))  # no button, no line
    seen = assert_right(widget)
    assert not any(seen["values"][60:])
    assert max(seen["values"]) == pytest.approx(0.8, abs=0.051)
    assert min(seen["values"]) == pytest.approx(-0.6, abs=0.051)
    drawn = [t for t, v in enumerate(seen["values"]) if v]
    assert 22 <= drawn[0] <= 27 and 44 <= drawn[-1] <= 49
    assert sum(v != 0 for v in seen["kept"]) == 1  # 12 apart: within reach
    page.keyboard.press("ArrowLeft")  # the cursor has the focus
    widget.get_by_label("Kernel size").fill("10")
    assert sum(v != 0 for v in assert_right(widget)["kept"]) == 2


def test_it_fits_its_screen(page_of) -> None:
    page = page_of(PAGE)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    widget = page.locator(".sb-activations").first
    for part in widget.locator(".sb-panel, .sb-activations-list").all():
        box = part.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= page.evaluate("innerWidth")
