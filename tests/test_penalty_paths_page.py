"""The widget of the page on the penalty's flow, against the library."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
import torch

from sparse_book.training.penalty_flow import penalty_flow, penalty_paths

PAGE = "nbs/training/penalty_flow"
NUMBER = r"(−?[\d.]+)"


def value_of(text: str) -> float:
    return float(text.replace("−", "-"))


def state_of(page) -> dict:
    """Return the numbers with which the page's widget begins."""
    return page.evaluate(
        """() => Object.values(JSON.parse(document.querySelector(
        "script[type='application/vnd.jupyter.widget-state+json']")
        .textContent).state).map(s => s.state).find(s => s.sizes
        && s.parameters && s.chosen)"""
    )


def unpack(sizes, numbers):
    """Return weights, biases and the input of a flat list."""
    rest = torch.tensor(numbers, dtype=torch.float64)
    weights, biases = [], []
    for fan_in, units in pairwise(sizes):
        flat, bias, rest = rest.tensor_split(
            [fan_in * units, fan_in * units + units]
        )
        weights.append(flat.view(units, fan_in))
        biases.append(bias)
    return weights, biases, rest


def assert_right(widget, network) -> None:
    """What the widget says of its weight is what the library says."""
    weights, biases, signal = network
    chosen = widget.get_by_role("combobox").input_value()
    layer, unit, source = (int(part) for part in chosen.split())
    text = widget.locator(".sb-readout").inner_text()
    if layer == len(weights) - 1:
        assert "no hidden unit depends on it" in text
        return
    hidden = weights[:-1], biases[:-1]
    flow = penalty_flow(*hidden, signal[None])[layer]
    shares = flow.weight[:, unit, source]
    total = float(shares.sum())
    if flow.bias[0, unit] == 0:
        assert "its unit is silent" in text and total == 0
    else:
        said = re.search(rf"gradient is {NUMBER}( = {NUMBER} own)?", text)
        assert said, text
        assert value_of(said[1]) == pytest.approx(total, abs=0.0051)
        if said[3]:
            own = float(shares[0])
            assert value_of(said[3]) == pytest.approx(own, abs=0.0051)
        bias = re.search(rf"bias gets {NUMBER}\.$", text)
        assert bias, text
        wanted = float(flow.bias[:, unit].sum())
        assert value_of(bias[1]) == pytest.approx(wanted, abs=0.0051)
    paths = penalty_paths(*hidden, signal, (layer, unit, source))
    cells = widget.locator(".sb-table tbody tr td:last-child")
    shown = [value_of(text) for text in cells.all_inner_texts()]
    meant = [path.contribution for path in paths]
    assert shown == pytest.approx([*meant, total], abs=0.0051)
    lit = widget.locator("[data-flow]").evaluate_all(
        "nodes => nodes.map(n => [n.dataset.weight, +n.dataset.flow])"
    )
    flows: dict[str, float] = {}
    for path in paths:
        for k in range(1, len(path.units)):
            name = f"{layer + k} {path.units[k]} {path.units[k - 1]}"
            flows[name] = flows.get(name, 0) + path.contribution
    meant_lit = {name: flow for name, flow in flows.items() if flow}
    assert dict(lit) == pytest.approx(meant_lit, abs=1e-9)


@pytest.mark.screens("light")
def test_every_weight_by_menu_and_keyboard(page_of) -> None:
    page = page_of(PAGE)
    widget = page.locator(".sb-penalty-paths").first
    state = state_of(page)
    network = unpack(state["sizes"], state["parameters"])
    assert_right(widget, network)
    menu = widget.get_by_role("combobox")
    for name in ("0 2 0", "1 2 3", "1 1 0", "2 1 2"):
        menu.select_option(name)
        assert_right(widget, network)
    widget.locator(".sb-net").focus()
    page.keyboard.press("Home")
    for count in range(4):
        assert_right(widget, network)
        assert menu.input_value() == f"0 {count // 3} {count % 3}"
        page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    assert menu.input_value() == "1 1 1"
    assert_right(widget, network)


def test_pointer_and_sliders(page_of) -> None:
    page = page_of(PAGE)
    widget = page.locator(".sb-penalty-paths").first
    state = state_of(page)
    weights, biases, signal = unpack(state["sizes"], state["parameters"])
    net = widget.locator(".sb-net")
    net.scroll_into_view_if_needed()
    line = net.locator("[data-weight='0 3 1']").first
    ends = [
        float(part)
        for part in re.findall(r"[\d.]+", line.get_attribute("d") or "")
    ]
    box = net.bounding_box()
    scale = box["width"] / 360
    page.mouse.click(
        box["x"] + scale * (ends[0] + ends[2]) / 2,
        box["y"] + scale * (ends[1] + ends[3]) / 2,
    )
    menu = widget.get_by_role("combobox")
    assert menu.input_value() == "0 3 1"
    sliders = widget.get_by_role("slider")
    assert sliders.count() == 5
    for number, value in [(0, 0.13), (1, 1.0), (3, -0.8), (4, 1.5)]:
        sliders.nth(number).fill(str(value))
        if number < 3:
            signal[number] = value
        elif number == 3:
            weights[0][3, 1] = value
        else:
            biases[0][3] = value
        assert_right(widget, (weights, biases, signal))
    sliders.nth(4).fill("-2")
    biases[0][3] = -2.0
    assert "its unit is silent" in widget.locator(".sb-readout").inner_text()
    assert_right(widget, (weights, biases, signal))


@pytest.mark.screens("light")
def test_new_networks_and_a_third_layer(page_of) -> None:
    page = page_of(PAGE)
    widget = page.locator(".sb-penalty-paths").first
    before = widget.locator(".sb-value").all_text_contents()
    widget.get_by_role("button", name="New network").click()
    assert widget.locator(".sb-value").all_text_contents() != before
    widget.get_by_text("three").click()
    assert widget.locator("circle").count() == 3 + 4 + 3 + 3 + 2
    assert widget.locator(".sb-table tbody tr").count() == 1 + 3 + 9 + 1
    assert widget.locator("option").count() == 12 + 12 + 9 + 6


def test_the_page_fits_its_screen(page_of) -> None:
    page = page_of(PAGE)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    inside = page.evaluate("innerWidth")
    widget = page.locator(".sb-penalty-paths").first
    for part in widget.locator(".sb-panel, .sb-side, select, button").all():
        box = part.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= inside
