"""The widget of the page on convolutional networks, against PyTorch."""

from __future__ import annotations

import re

import pytest
import torch
from networks_for_tests import RESULTS, lines, network_of, stored_digits

from sparse_book.networks.record import record
from sparse_book.show.stored_networks import read_digits

PAGE = "nbs/networks/convolutional"
SAID = re.compile(
    r"λ = ([\d.]+): for this (\d), (\d+) of 7064 units are active: (\d+) in "
    r"the first maps, (\d+) in the second, (\d+) of 64 dense ones; (\d+) of "
    r"16 second maps are empty\. It reads (\d) \(.*\)\. On all test digits: "
    r"([\d.]+) % right, (\d+) units active\."
)


def meant(network: int, digit: int) -> tuple[int, ...]:
    """Active units of the layers, empty maps, answer: as PyTorch has them."""
    model = network_of("feature_maps", network)
    with torch.no_grad(), record(model, model.hidden_names) as heard:
        logits = model(stored_digits()[digit : digit + 1])
    layers = [heard[name][0] for name in model.hidden_names]
    empty = int((layers[1].flatten(1).amax(1) == 0).sum())
    counts = [int((layer > 0).sum()) for layer in layers]
    return (*counts, empty, int(logits.argmax()))


def assert_right(widget, network: int, digit: int) -> None:
    """What the widget says is what PyTorch and the measured rows say."""
    text = widget.locator(".sb-readout").inner_text()
    found = SAID.fullmatch(text)
    assert found, text
    run = lines("feature_maps")[network]
    _, labels = read_digits(RESULTS / "digits.npz")
    assert float(found[1]) == float(run["coefficient"])
    assert int(found[2]) == int(labels[digit])
    said = tuple(int(found[k]) for k in (4, 5, 6, 7, 8))
    assert said == meant(network, digit)
    assert int(found[3]) == sum(said[:3])
    accuracy = 100 * float(run["accuracy"])
    assert float(found[9]) == pytest.approx(accuracy, abs=0.0051)
    assert int(found[10]) == pytest.approx(float(run["active"]), abs=0.51)


def pixels_of(widget, style: str) -> list[int]:
    """Return a canvas's grey levels."""
    return widget.locator(f".{style} canvas").evaluate(
        "c => Array.from(c.getContext('2d').getImageData(0, 0, c.width, "
        "c.height).data).filter((_, k) => k % 4 === 0)"
    )


@pytest.mark.screens("light")
def test_prices_and_digits(page_of) -> None:
    page = page_of(PAGE)
    widget = page.locator(".sb-feature-maps").first
    slider = widget.get_by_role("slider", name="Price λ")
    assert_right(widget, 2, 14)
    before = pixels_of(widget, "sb-second-maps")
    for network in (0, 3, 1):
        slider.fill(str(network))
        assert_right(widget, network, 14)
    assert pixels_of(widget, "sb-second-maps") != before
    widget.get_by_role("radio", name="4, second").check()
    assert_right(widget, 1, 9)
    row = widget.locator("tr[aria-current]")
    assert row.count() == 1 and row.locator("td").first.inner_text() == str(
        sum(meant(1, 9)[:3])
    )


def test_maps_by_pointer_and_keyboard(page_of) -> None:
    page = page_of(PAGE)
    widget = page.locator(".sb-feature-maps").first
    cursor = widget.get_by_role("slider", name="Map of the second layer")
    assert cursor.get_attribute("aria-valuenow") == "1"
    before = pixels_of(widget, "sb-second-kernels")
    sheet = widget.locator(".sb-second-maps .sb-sheet")
    sheet.scroll_into_view_if_needed()
    box = sheet.bounding_box()
    page.mouse.click(
        box["x"] + 0.6 * box["width"], box["y"] + 0.4 * box["height"]
    )
    assert cursor.get_attribute("aria-valuenow") == "7"
    assert pixels_of(widget, "sb-second-kernels") != before
    for key, number in [
        ("ArrowDown", 11),
        ("ArrowLeft", 10),
        ("End", 16),
        ("ArrowRight", 16),
        ("Home", 1),
    ]:
        page.keyboard.press(key)
        assert cursor.get_attribute("aria-valuenow") == str(number)
    assert "of 256 units active" in cursor.get_attribute("aria-valuetext")
    slider = widget.get_by_role("slider", name="Price λ")
    slider.focus()
    page.keyboard.press("Home")
    assert_right(widget, 0, 14)
    page.keyboard.press("ArrowRight")
    assert_right(widget, 1, 14)


def test_the_page_fits_its_screen(page_of) -> None:
    page = page_of(PAGE)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    inside = page.evaluate("innerWidth")
    widget = page.locator(".sb-feature-maps").first
    for part in widget.locator(".sb-column, canvas, input").all():
        box = part.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= inside
