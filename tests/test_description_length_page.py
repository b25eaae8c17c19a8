"""The widget on description length shows what Python computes."""

from __future__ import annotations

import json
import re

import pytest
import torch

from sparse_book.measures.description_length import (
    inverse_compression_ratio,
    phi,
)

from conftest import ROOT

PAGE = "nbs/measures/description_length"
LENGTH, MOST = 400, 80


@pytest.fixture(scope="module")
def shown() -> dict:
    """The page's own signal, pattern and greedy search."""
    notebook = json.loads((ROOT / f"{PAGE}.ipynb").read_text(encoding="utf-8"))
    cells = {cell["id"]: "".join(cell["source"]) for cell in notebook["cells"]}
    setup = cells["setup"]
    start, end = setup.index("time = "), setup.index("glue(")
    greedy = cells["greedy"]
    names: dict = {"torch": torch}
    exec(
        setup[start:end]
        + greedy[: greedy.index("places, heights, losses = g")],
        names,
    )
    return names


def state(widget) -> dict[str, float]:
    """What the sentence says and where the point stands, in data units."""
    text = widget.locator(".sb-readout").inner_text().replace("−", "-")
    numbers = [
        float(part) for part in re.findall(r"(?<![\w⁻])\d+(?:\.\d+)?", text)
    ]
    names = ["spikes", "size", "numbers", "length", "cost", "error", "phi"]
    seen = dict(zip(names, numbers, strict=False))
    grip = widget.locator(".sb-grip").get_attribute("transform")
    x, y = map(float, re.findall(r"[\d.]+", grip))
    seen["x"] = (x - 44) / (348 - 44) * 0.6
    seen["y"] = (210 - y) / (210 - 12) * 1.05
    seen["best"] = numbers[-1] if "kernel:" in text else seen["spikes"]
    return seen


def assert_right(widget, shown: dict, version: int = 2) -> dict[str, float]:
    """Everything shown agrees with the exported functions."""
    seen = state(widget)
    signal = shown["signal"].float().double()  # what was sent
    kernel = shown["middle"](int(seen["size"])).float().double()
    _, _, losses = shown["greedy_spikes"](signal, kernel, MOST)
    costs = inverse_compression_ratio(
        torch.arange(MOST + 1).double(),
        weights=seen["size"],
        size=LENGTH,
        dimensions=1,
    )
    values = phi(costs, losses, version)
    k = int(seen["spikes"])
    assert seen["numbers"] == seen["size"] + 2 * k
    assert seen["cost"] == pytest.approx(float(costs[k]), abs=6e-4)
    assert seen["error"] == pytest.approx(float(losses[k]), abs=6e-4)
    assert seen["phi"] == pytest.approx(float(values[k]), abs=6e-4)
    assert seen["x"] == pytest.approx(float(costs[k]), abs=1e-3)
    assert seen["y"] == pytest.approx(float(losses[k]), abs=1e-3)
    assert seen["best"] == int(values.argmin())
    return seen


@pytest.mark.screens("light")
def test_keyboard(page_of, screen: str, shown: dict) -> None:
    page = page_of(PAGE)
    widget = page.locator(".sb-rate-distortion").first
    assert assert_right(widget, shown)["spikes"] == 3
    grip = widget.get_by_role("slider", name="drag along the path")
    grip.focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    seen = assert_right(widget, shown)
    assert seen["spikes"] == seen["best"] == 8
    assert grip.get_attribute("aria-valuenow") == "8"
    page.keyboard.press("Home")
    assert assert_right(widget, shown)["error"] == 1
    page.keyboard.press("End")
    assert assert_right(widget, shown)["spikes"] == MOST
    widget.get_by_role("slider", name="Kernel size").focus()
    page.keyboard.press("Home")
    assert assert_right(widget, shown)["size"] == 1
    page.keyboard.press("End")
    assert assert_right(widget, shown)["size"] == 51


def test_dragging_the_point(page_of, screen: str, shown: dict) -> None:
    page = page_of(PAGE)
    widget = page.locator(".sb-rate-distortion").first
    dot = widget.locator(".sb-grip .sb-dot")
    dot.scroll_into_view_if_needed()
    box = dot.bounding_box()
    width = widget.locator(".sb-panel > svg").nth(1).bounding_box()["width"]
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    for spikes in (8, 40, 15):
        shift = 2 * (spikes - 3) / LENGTH / 0.6 * 304 / 360 * width
        page.mouse.move(x + shift, y)
        assert abs(assert_right(widget, shown)["spikes"] - spikes) <= 1
    page.mouse.up()
    held = state(widget)["spikes"]
    page.mouse.move(x, y)
    assert state(widget)["spikes"] == held


@pytest.mark.screens("light")
def test_versions_of_phi(page_of, screen: str, shown: dict) -> None:
    page = page_of(PAGE)
    widget = page.locator(".sb-rate-distortion").first
    line = widget.locator("path.sb-level").first
    circles = line.get_attribute("d")
    widget.get_by_label("mean").check()
    assert_right(widget, shown, version=1)
    assert line.get_attribute("d") != circles
    slider = widget.get_by_role("slider", name="Spikes kept").first
    assert slider.input_value() == "3"
