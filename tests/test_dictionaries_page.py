"""The atom mixer on its page shows what the library computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
import torch

from sparse_book.linear.dictionaries import (
    least_norm_code,
    null_space,
    reconstruct,
    reconstruction_error,
)

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

ANGLES = torch.tensor([10.0, 60.0, 125.0], dtype=torch.float64).deg2rad()
ATOMS = torch.stack([ANGLES.cos(), ANGLES.sin()], dim=1)
SIGNAL = torch.tensor([[1.0, 1.2]], dtype=torch.float64)
LOW, HIGH = 44.0, 348.0  # where the axes begin and end, in drawing units
REACH = 1.9  # how far the family is shown


@pytest.fixture
def mixer(page_of: Callable[[str], Page]) -> Locator:
    page = page_of("nbs/linear/dictionaries")
    widget = page.locator(".sb-atom-mixer")
    widget.scroll_into_view_if_needed()
    return widget


def codes_of(widget: Locator) -> torch.Tensor:
    """The coefficients that the handles report, to three digits."""
    values = [
        float(widget.locator(f".sb-tip-{k}").get_attribute("aria-valuenow"))
        for k in (1, 2, 3)
    ]
    return torch.tensor([values], dtype=torch.float64)


def place_of(widget: Locator) -> float:
    return float(widget.locator(".sb-cursor").get_attribute("aria-valuenow"))


def said(widget: Locator) -> str:
    return widget.locator(".sb-readout").inner_text().replace("−", "-")


def line_code(place: float) -> torch.Tensor:
    """The exact code at a place, from the library."""
    recipe = null_space(ATOMS)
    recipe = recipe * recipe[0, 2].sign()
    return least_norm_code(SIGNAL, ATOMS) + place * recipe


def assert_drawn_right(widget: Locator) -> torch.Tensor:
    """Sentence, handles and drawings agree with the library."""
    codes = codes_of(widget)
    text = said(widget)
    total, length = codes.abs().sum(), codes.norm()
    assert f"sum {total:.2f}" in text or abs(total * 100 % 1 - 0.5) < 0.3
    assert f"length {length:.2f}" in text or abs(length * 100 % 1 - 0.5) < 0.3
    assert f"{int((codes != 0).sum())} active" in text
    tip = widget.locator(".sb-tip-3").get_attribute("transform")
    x, y = map(float, tip.removeprefix("translate(").rstrip(")").split())
    end = reconstruct(codes, ATOMS)[0]
    scale = (HIGH - LOW) / 3.25
    assert x == pytest.approx(LOW + (float(end[0]) + 1) * scale, abs=0.3)
    assert y == pytest.approx(253 - (float(end[1]) + 0.5) * scale, abs=0.3)
    error = float(reconstruction_error(SIGNAL, codes, ATOMS))
    assert ("Exact" in text) == (error < 1e-5)
    if error >= 1e-5:
        assert f"by {error**0.5:.2f}" in text
    return codes


@pytest.mark.screens("light")
def test_keys_move_one_coefficient(mixer: Locator) -> None:
    before = assert_drawn_right(mixer)
    tip = mixer.get_by_role("slider", name="Coefficient of atom 2")
    tip.focus()
    for key in ["ArrowRight", "ArrowRight", "ArrowLeft", "Shift+ArrowUp"]:
        tip.press(key)
    after = assert_drawn_right(mixer)
    change = torch.tensor([[0.0, 0.11, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(after - before, change, atol=1e-6, rtol=0)
    tip.press("Home")
    assert assert_drawn_right(mixer)[0, 1] == 0
    assert "2 active" in said(mixer)


@pytest.mark.screens("light")
def test_the_family_stays_exact_and_stops_at_every_crossing(
    mixer: Locator,
) -> None:
    cursor = mixer.get_by_role("slider", name="Position along")
    cursor.press("Home")
    rests = set()
    for _ in range(48):
        codes = assert_drawn_right(mixer)
        expected = line_code(place_of(mixer))
        torch.testing.assert_close(codes, expected, atol=2e-3, rtol=0)
        rests |= set((codes[0] == 0).nonzero().flatten().tolist())
        cursor.press("ArrowRight")
    assert rests == {0, 1, 2}
    assert place_of(mixer) == pytest.approx(REACH)


@pytest.mark.screens("light")
@pytest.mark.parametrize("price", ["l1", "l2", "count"])
def test_the_cheapest_code_is_the_cheapest(mixer: Locator, price: str) -> None:
    mixer.locator(f"input[value={price}]").check()
    mixer.get_by_role("button", name="cheapest").click()
    codes = assert_drawn_right(mixer)
    places = torch.linspace(-REACH, REACH, 6401, dtype=torch.float64)
    family = torch.cat([line_code(float(z)) for z in places[::20]])
    if price == "count":
        assert (codes != 0).sum() == 2
    else:
        order = int(price[1])
        best = float(family.norm(p=order, dim=-1).min())
        assert float(codes.norm(p=order)) <= best + 2e-3
    if price == "l2":
        shortest = least_norm_code(SIGNAL, ATOMS)
        torch.testing.assert_close(codes, shortest, atol=1e-3, rtol=0)
    rings = mixer.locator(".sb-least")
    assert rings.count() == (3 if price == "count" else 1)
    spots = [float(ring.get_attribute("cx")) for ring in rings.all()]
    mine = LOW + (place_of(mixer) + REACH) / (2 * REACH) * (HIGH - LOW)
    assert min(abs(spot - mine) for spot in spots) < 0.2


def test_dragging_a_tip_moves_along_its_atom(mixer: Locator) -> None:
    page = mixer.page
    knob = mixer.locator(".sb-tip-3 .sb-knob")
    box = knob.bounding_box()
    panel = mixer.locator(".sb-panel > svg").first.bounding_box()
    unit = panel["width"] / 360 * (HIGH - LOW) / 3.25
    before = codes_of(mixer)
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(*middle)
    page.mouse.down()
    for share in (0.5, 1.0):
        reach = 0.6 * share * ATOMS[2]
        page.mouse.move(
            middle[0] + float(reach[0]) * unit,
            middle[1] - float(reach[1]) * unit,
        )
        assert_drawn_right(mixer)
    page.mouse.up()
    change = codes_of(mixer) - before
    assert float(change[0, 2]) == pytest.approx(0.6, abs=0.03)
    assert (change[0, :2] == 0).all()


def test_dragging_the_line_slides_and_catches_crossings(
    mixer: Locator,
) -> None:
    page = mixer.page
    mixer.get_by_role("slider", name="Position along").press("Home")
    box = mixer.locator(".sb-cursor .sb-knob").bounding_box()
    panel = mixer.locator(".sb-panel > svg").nth(1).bounding_box()
    unit = panel["width"] / 360 * (HIGH - LOW) / (2 * REACH)
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    recipe = null_space(ATOMS)
    recipe = recipe * recipe[0, 2].sign()
    stops = (-least_norm_code(SIGNAL, ATOMS) / recipe)[0].tolist()
    page.mouse.move(x, y)
    page.mouse.down()
    for stop in sorted(stops):
        page.mouse.move(x + (stop + 0.02 + REACH) * unit, y)
        codes = assert_drawn_right(mixer)
        assert int((codes == 0).sum()) == 1
        assert place_of(mixer) == pytest.approx(stop, abs=1e-3)
    page.mouse.up()


@pytest.mark.screens("light")
def test_the_page_is_whole(page_of: Callable[[str], Page]) -> None:
    for name, figures in [("dictionaries", 4), ("priors", 5)]:
        page = page_of(f"nbs/linear/{name}")
        assert page.locator("mjx-merror, [data-mjx-error]").count() == 0
        assert page.locator("article figure img[alt]").count() == figures
        wide = "document.documentElement.scrollWidth <= innerWidth"
        assert page.evaluate(wide)
