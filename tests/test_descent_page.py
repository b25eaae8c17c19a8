"""The widget of the page on yardsticks, against the library."""

from __future__ import annotations

import re

import pytest
import torch

from sparse_book.training.optimizers import make_stepper

PAGE = "nbs/training/yardsticks"
DEFAULTS = {
    "gradient": ("sgd", {"learning_rate": 0.04}),
    "momentum": ("sgd", {"learning_rate": 0.02, "momentum": 0.8}),
    "adagrad": ("adagrad", {"learning_rate": 0.5}),
    "rmsprop": ("rmsprop", {"learning_rate": 0.05, "rho": 0.9}),
    "adadelta": ("adadelta", {"epsilon": 1e-4}),
    "adam": ("adam", {"learning_rate": 0.1, "beta2": 0.99}),
    "adagrad-squared": (
        "adagrad-squared",
        {"learning_rate": 1.0, "factor": 1e-6},
    ),
    "adadelta-squared": (
        "adadelta-squared",
        {"factor": 1e-3, "epsilon": 1e-4},
    ),
}
STEEP = torch.tensor([1.0, 20.0], dtype=torch.float64)


def height_of(rule: str, start, steps: int, **changes: float) -> float:
    """Where the library's rule ends in the bowl, above its bottom."""
    name, settings = DEFAULTS[rule]
    here = {"": torch.tensor(start, dtype=torch.float64)}
    move = make_stepper(name, here, {**settings, **changes})
    for _ in range(steps):
        move({"": STEEP * here[""]})
    return float((STEEP * here[""] ** 2).sum() / 2)


def number(text: str) -> float:
    """Read 0.005 or 4.0 · 10⁻⁷."""
    if "10" not in text or "·" not in text:
        return float(text)
    mantissa, power = text.split(" · 10")
    digits = power.translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789"))
    return float(mantissa) * 10.0 ** int(digits)


def shown(widget) -> dict[str, str]:
    """The heights in the table, of the rules that are shown."""
    rows = widget.locator("tbody tr").all()
    found = {}
    for row in rows:
        if row.get_by_role("checkbox").is_checked():
            name = row.get_attribute("data-rule")
            found[name] = row.locator("td").first.inner_text()
    return found


def assert_right(widget, start, steps: int, **changes) -> None:
    heights = shown(widget)
    assert heights
    for rule, text in heights.items():
        wanted = height_of(rule, start, steps, **changes.get(rule, {}))
        if text == "under 10⁻⁹":
            assert wanted < 1e-9
        elif text != "off the map":
            found = number(text)
            assert found == pytest.approx(wanted, rel=0.06, abs=5.1e-4), rule
    ends = widget.locator(".sb-end").count()
    assert ends == len(heights) == widget.locator("[data-rule][d]").count()


def widget_of(page):
    widget = page.locator(".sb-descent").first
    widget.scroll_into_view_if_needed()
    return widget


@pytest.mark.screens("light")
def test_every_rule_walks_as_the_library(page_of) -> None:
    page = page_of(PAGE)
    widget = widget_of(page)
    assert_right(widget, [-2.6, 1.6], 60)
    for box in widget.get_by_role("checkbox").all():
        box.set_checked(True)
    assert len(shown(widget)) == len(DEFAULTS)
    assert_right(widget, [-2.6, 1.6], 60)
    widget.get_by_role("slider").first.fill("25")
    assert_right(widget, [-2.6, 1.6], 25)
    said = widget.locator(".sb-readout").inner_text()
    assert said.startswith("After 25 steps ")


def test_keys_and_pointer_move_the_start(page_of) -> None:
    page = page_of(PAGE)
    widget = widget_of(page)
    grip = widget.locator(".sb-start")
    grip.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowDown")
    page.keyboard.press("-")
    assert_right(widget, [-2.45, 1.12], 59)
    assert "−2.45, 1.12" in (grip.get_attribute("aria-label") or "")
    page.keyboard.press("Home")
    assert_right(widget, [-2.6, 1.6], 59)
    ground = widget.locator(".sb-ground")
    ground.scroll_into_view_if_needed()
    box = grip.locator(".sb-dot").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 40, y + 30, steps=4)
    page.mouse.up()
    label = grip.get_attribute("aria-label") or ""
    match = re.search(r"Start at (\S+), (\S+)\. ", label)
    assert match, label
    place = [float(part.replace("−", "-")) for part in match.groups()]
    assert place[0] > -2.4 and place[1] < 1.5
    for rule, text in shown(widget).items():  # the label has two digits
        if text not in ("off the map", "under 10⁻⁹") and number(text) > 0.05:
            wanted = height_of(rule, place, 59)
            assert number(text) == pytest.approx(wanted, rel=0.1), rule


@pytest.mark.screens("light")
def test_sliders_and_surfaces(page_of) -> None:
    page = page_of(PAGE)
    widget = widget_of(page)
    sliders = widget.get_by_role("slider")
    assert sliders.count() == 3  # steps; rate and momentum of momentum
    sliders.nth(2).fill("0.5")
    changed = {"momentum": {"momentum": 0.5}}
    assert_right(widget, [-2.6, 1.6], 60, **changed)
    widget.get_by_role("combobox").select_option("gradient")
    sliders.nth(1).fill("-0.5")
    assert (
        "Off the map: gradient" in widget.locator(".sb-readout").inner_text()
    )
    widget.get_by_role("button", name="Settings as before").click()
    assert_right(widget, [-2.6, 1.6], 60)
    for label in ("tilted bowl", "banana", "saddle", "two valleys", "plateau"):
        widget.get_by_text(label, exact=True).click()
        caption = widget.locator(".sb-map figcaption").inner_text()
        assert caption == f"The surface: {label}"
        assert widget.locator(".sb-level").count() == 11
        assert all(
            number(t) >= 0 for t in shown(widget).values() if t[0] != "u"
        )
    for box in widget.get_by_role("checkbox").all():
        box.set_checked(False)
    assert "No rule is shown" in widget.locator(".sb-readout").inner_text()


def test_the_page_fits_its_screen(page_of) -> None:
    page = page_of(PAGE)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    inside = page.evaluate("innerWidth")
    widget = widget_of(page)
    for part in widget.locator(".sb-map, .sb-side, select, button, tr").all():
        box = part.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= inside
