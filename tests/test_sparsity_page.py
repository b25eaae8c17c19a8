"""The page on measures of sparsity, and its widget against the library."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from sparse_book.measures.sparsity import (
    active_units,
    activity_ratio,
    exponential_penalty,
    gini,
    hoyer,
    kurtosis,
    l1_norm,
    log_penalty,
    lp_norm,
    treves_rolls_activity,
    vinje_gallant,
)

sync_api = pytest.importorskip("playwright.sync_api")
Page = sync_api.Page

MEASURES: dict[str, tuple[Callable[[Tensor], Tensor], int]] = {
    "active_units": (active_units, -1),
    "activity_ratio": (activity_ratio, -1),
    "lp_norm": (partial(lp_norm, p=0.5), -1),
    "l1_norm": (l1_norm, -1),
    "log_penalty": (log_penalty, -1),
    "exponential_penalty": (exponential_penalty, -1),
    "hoyer": (hoyer, 1),
    "treves_rolls_activity": (treves_rolls_activity, -1),
    "vinje_gallant": (vinje_gallant, 1),
    "gini": (gini, 1),
    "kurtosis": (kurtosis, 1),
}
WANTED = {
    "Rich gives to poor": "▼",
    "Double all": "=",
    "Add ½ to all": "▼",
    "Clone all": "=",
    "Raise the richest": "▲",
    "Add a zero": "▲",
}


def bars_of(page: Page) -> Tensor:
    """The bars, as a screen reader hears them."""
    values = page.locator(".sb-bars [role=slider]").evaluate_all(
        "all => all.map(one => Number(one.getAttribute('aria-valuenow')))"
    )
    return torch.tensor(values, dtype=torch.float64)


def shown(page: Page) -> dict[str, list[str]]:
    """The text of the value and of the arrow of every measure."""
    cells = page.locator(".sb-bars tbody tr").evaluate_all(
        "rows => rows.map(row => [row.dataset.measure,"
        " row.querySelector('.sb-bars-value').textContent,"
        " row.querySelector('.sb-bars-arrow').textContent])"
    )
    return {key: [value, arrow] for key, value, arrow in cells}


def assert_numbers(page: Page) -> Tensor:
    """Every number on the screen is the library's, for the bars drawn."""
    bars, numbers = bars_of(page), shown(page)
    assert set(numbers) == set(MEASURES)
    for key, (measure, _) in MEASURES.items():
        seen = float(numbers[key][0].replace("−", "-"))
        wanted = float(measure(bars))
        assert seen == pytest.approx(wanted, abs=5.1e-4), (key, bars)
    return bars


def assert_arrows(page: Page, before: Tensor, wish: str = "") -> None:
    """Every arrow points as the library's values moved."""
    after, numbers = bars_of(page), shown(page)
    for key, (measure, sign) in MEASURES.items():
        old, new = float(measure(before)), float(measure(after))
        close = abs(new - old) <= 1e-9 * max(abs(old), abs(new)) + 1e-13
        arrow = "=" if close else "▲" if sign * (new - old) > 0 else "▼"
        assert numbers[key][1].startswith(arrow), (key, before, after)
        disobeys = "disobeys" in numbers[key][1]
        assert disobeys == (wish not in ("", arrow)), key


@pytest.mark.screens("light")
def test_keys_move_the_bars(page_of, screen: str) -> None:
    page = page_of("nbs/measures/sparsity")
    before = assert_numbers(page)
    assert before.tolist() == [0, 3, 0, 0, 0, 0, 3, 0]
    first = page.get_by_role("slider", name="Bar 1")
    first.focus()
    for key, value in {"ArrowUp": 0.25, "PageUp": 1.25, "End": 5.0}.items():
        before = bars_of(page)
        page.keyboard.press(key)
        assert assert_numbers(page)[0] == pytest.approx(value)
        assert_arrows(page, before)
    page.keyboard.press("Shift+ArrowDown")
    assert bars_of(page)[0] == pytest.approx(4.95)
    page.keyboard.press("Home")
    assert bars_of(page)[0] == 0


def test_dragging_moves_the_bars(page_of, screen: str) -> None:
    page = page_of("nbs/measures/sparsity")
    bar = page.get_by_role("slider", name="Bar 4")
    bar.scroll_into_view_if_needed()
    before = bars_of(page)
    box = bar.locator(".sb-bars-hit").bounding_box()
    assert box is not None
    middle = box["x"] + box["width"] / 2
    floor = box["y"] + box["height"] * 230 / 240
    page.mouse.move(middle, floor - 2)
    page.mouse.down()
    for part in (0.2, 0.55, 0.9):
        page.mouse.move(middle, floor - part * box["height"] * 218 / 240)
        bars = assert_numbers(page)
        assert bars[3] == pytest.approx(5 * part, abs=0.06)
        assert_arrows(page, before)
    page.mouse.up()
    others = [0, 1, 2, 4, 5, 6, 7]
    assert torch.equal(bars_of(page)[others], before[others])


@pytest.mark.screens("light")
def test_moves_and_what_they_do_to_each_measure(page_of, screen: str) -> None:
    page = page_of("nbs/measures/sparsity")
    widget = page.locator(".sb-bars")
    for move, wish in WANTED.items():
        widget.get_by_role("button", name="Laplace-like").click()
        before = assert_numbers(page)
        assert all(arrow == "" for _, arrow in shown(page).values())
        widget.get_by_role("button", name=move).click()
        assert_numbers(page)
        assert_arrows(page, before, wish)
        answers = {key: arrow for key, (_, arrow) in shown(page).items()}
        obedient = {key for key, a in answers.items() if "disobeys" not in a}
        assert {"gini", "treves_rolls_activity"} <= obedient, move
        sentence = widget.locator(".sb-readout").inner_text()
        assert f"{len(obedient)} of 11 obey" in sentence, move


@pytest.mark.screens("light")
def test_presets_and_limits(page_of, screen: str) -> None:
    page = page_of("nbs/measures/sparsity")
    widget = page.locator(".sb-bars")
    for name in ("one hot", "two equal", "Laplace-like", "uniform"):
        widget.get_by_role("button", name=name).click()
        assert len(assert_numbers(page)) == 8
    for name in ("Rich gives to poor", "Add ½ to all"):
        assert widget.get_by_role("button", name=name).is_disabled()
    widget.get_by_role("button", name="Clone all").click()
    assert len(assert_numbers(page)) == 16
    assert widget.get_by_role("button", name="Clone all").is_disabled()
    double = widget.get_by_role("button", name="Double all")
    for _ in range(4):
        double.click()
        assert_numbers(page)
    assert double.is_disabled() and bars_of(page)[0] == 32
    slider = page.get_by_role("slider", name="Bar 16")
    assert slider.get_attribute("aria-valuemax") == "50"


@pytest.mark.screens("light")
def test_the_page_is_whole(page_of, screen: str) -> None:
    page = page_of("nbs/measures/sparsity")
    assert page.locator("article figure img[alt]").count() == 3
    for name in ("fig-four-codes", "fig-lorenz", "def-silence", "prop-six"):
        assert page.locator(f"#{name}").count() == 1, name
    ticks = page.locator("table", has_text="Treves–Rolls activity").filter(
        has_text="D4"
    )
    row = ticks.first.locator("tr", has_text="Gini").first
    assert row.inner_text().count("✓") == 6
    links = page.locator("a[href*='sparsity.gini_shifted']")
    assert links.count() > 1
