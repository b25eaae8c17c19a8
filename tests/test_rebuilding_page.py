"""The widget of the page on autoencoders, against PyTorch."""

from __future__ import annotations

import re

import pytest
import torch
from networks_for_tests import lines, network_of, stored_digits

PAGE = "nbs/networks/autoencoder"
SAID = re.compile(
    r"λ = ([\d.]+): for this \d, (\d+) of 32 code units are active"
    r"( \((\d+) switched off\))?, (\d+) of 128 in the encoder, (\d+) of 128 "
    r"in the decoder\. Error per pixel: ([\d.]+)\. On all test digits: "
    r"([\d.]+), with ([\d.]+) active units in all\."
)


def assert_right(widget, network: int, digit: int, silenced=()) -> None:
    """What the widget says is what PyTorch and the measured rows say."""
    text = widget.locator(".sb-readout").inner_text()
    found = SAID.fullmatch(text)
    assert found, text
    run = lines("rebuilding")[network]
    assert float(found[1]) == float(run["coefficient"])
    assert float(found[8]) == pytest.approx(float(run["error"]), abs=5.1e-5)
    assert float(found[9]) == pytest.approx(float(run["active"]), abs=0.051)
    assert int(found[4] or 0) == len(silenced)
    model = network_of("rebuilding", network)
    image = stored_digits()[digit : digit + 1]
    with torch.no_grad():
        code = model.encode(image)
        code[:, list(silenced)] = 0
        ends = model.hidden[0](image.flatten(1)), model.hidden[2](code)
        rebuilt = model.decode(code)
    counts = [code, *ends]
    said = [int(found[k]) for k in (2, 5, 6)]
    assert said == [int((layer > 0).sum()) for layer in counts]
    error = float((rebuilt - image.flatten(1)).square().mean())
    assert float(found[7]) == pytest.approx(error, abs=5.1e-5)
    shown = (
        widget.locator(".sb-trio canvas")
        .nth(1)
        .evaluate(
            "c => Array.from(c.getContext('2d').getImageData(0, 0, 28, 28)"
            ".data).filter((_, k) => k % 4 === 0)"
        )
    )
    wanted = rebuilt[0].clamp(0, 1)
    away = (torch.tensor(shown).double() / 255 - wanted).abs().max()
    assert float(away) < 1 / 255


@pytest.mark.screens("light")
def test_prices_and_digits(page_of) -> None:
    page = page_of(PAGE)
    widget = page.locator(".sb-rebuilding").first
    slider = widget.get_by_role("slider", name="Price λ")
    assert_right(widget, 1, 4)
    for network in (0, 4, 2):
        slider.fill(str(network))
        assert_right(widget, network, 4)
    widget.get_by_role("radio", name="8, first").check()
    assert_right(widget, 2, 16)
    slider.focus()
    page.keyboard.press("ArrowRight")
    assert_right(widget, 3, 16)
    price = widget.locator("tr[aria-current] th").inner_text()
    assert float(price) == float(lines("rebuilding")[3]["coefficient"])


def test_units_are_switched_off(page_of) -> None:
    page = page_of(PAGE)
    widget = page.locator(".sb-rebuilding").first
    model = network_of("rebuilding", 1)
    with torch.no_grad():
        code = model.encode(stored_digits()[4:5])[0]
    first, second = (int(k) for k in code.topk(2).indices)
    units = widget.locator(".sb-unit")
    assert units.count() == 32
    units.nth(first).click()
    assert_right(widget, 1, 4, [first])
    assert units.nth(first).get_attribute("aria-pressed") == "false"
    units.nth(second).focus()
    page.keyboard.press("Enter")
    assert_right(widget, 1, 4, sorted([first, second]))
    label = units.nth(second).get_attribute("aria-label")
    assert label == f"unit {second + 1}: {code[second]:.2f}, switched off"
    units.nth(first).click()
    assert_right(widget, 1, 4, [second])
    everyone = widget.get_by_role("button", name="Switch all units on")
    everyone.click()
    assert_right(widget, 1, 4)
    assert everyone.is_disabled()


def test_the_page_fits_its_screen(page_of) -> None:
    page = page_of(PAGE)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    inside = page.evaluate("innerWidth")
    widget = page.locator(".sb-rebuilding").first
    for part in widget.locator(".sb-trio, .sb-unit, input").all():
        box = part.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= inside
