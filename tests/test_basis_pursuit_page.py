"""The widgets of the shrinkage pages, compared with the library."""

from __future__ import annotations

import base64
import re

import pytest
import torch

from sparse_book.linear.basis_pursuit import basis_pursuit_denoising
from sparse_book.linear.shrinkage import critical_coefficient
from sparse_book.show.basis_pursuit import LpBalls, ShrinkageExplorer

BALLS = "nbs/linear/shrinkage"
EXPLORER = "nbs/linear/basis_pursuit"
SHOWN = "nbs/show/basis_pursuit"


def numbers(text: str) -> list[float]:
    return [
        float(n)
        for n in re.findall(r"-?\d+(?:\.\d+)?", text.replace("−", "-"))
    ]


def sent(page) -> tuple[torch.Tensor, torch.Tensor]:
    """The patches and atoms that the page carries, as numbers."""
    found = page.evaluate(
        """() => {
            const kind = "application/vnd.jupyter.widget-state+json";
            const one = [...document.querySelectorAll("script")]
                .filter((node) => node.type === kind)
                .map((node) => JSON.parse(node.textContent).state)
                .flatMap((state) => Object.values(state))
                .find((part) => part.state?.side && part.buffers);
            const buffers = one.buffers.map((b) => [b.path[0], b.data]);
            return Object.fromEntries(buffers);
        }"""
    )

    def read(name: str) -> torch.Tensor:
        raw = bytearray(base64.b64decode(found[name]))
        return torch.frombuffer(raw, dtype=torch.float32).double()

    return read("patches").reshape(-1, 64), read("dictionary").reshape(-1, 64)


def bars(widget) -> torch.Tensor:
    """The coefficients that the right-hand panel draws."""
    drawn = widget.locator(".sb-bar").evaluate_all(
        "nodes => nodes.map((node) => node.getAttribute('d'))"
    )
    level = widget.locator(".sb-level").get_attribute("d")
    zero = numbers(level)[1]
    ticks = widget.locator(".sb-panel").nth(1).locator("text")
    texts = ticks.evaluate_all(
        """nodes => nodes
            .filter((n) => n.getAttribute('x') === '37')
            .map((n) => [n.textContent, Number(n.getAttribute('y')) - 4])"""
    )
    high = max(texts, key=lambda pair: numbers(pair[0])[0])
    scale = numbers(high[0])[0] / (zero - high[1])
    return torch.tensor(
        [(zero - numbers(d)[2]) * scale if d else 0.0 for d in drawn],
        dtype=torch.float64,
    )


def assert_coded_right(page, widget, patch: int) -> float:
    """The sentence and the bars agree with the library; return λ / λmax."""
    handle = widget.get_by_role("slider")
    ratio = float(handle.get_attribute("aria-valuenow"))
    patches, atoms = sent(page)
    signal = patches[patch : patch + 1]
    price = ratio * critical_coefficient(signal, atoms)
    found = basis_pursuit_denoising(signal, atoms, price, tolerance=1e-9)
    said = numbers(widget.locator(".sb-readout").inner_text())
    code = found.codes[0]
    left = 100 * float(found.residual_norm.square() / signal.square().sum())
    assert said[0] == pytest.approx(ratio, abs=0.006)
    assert said[2] == 121
    assert said[3] == pytest.approx(float(code.abs().sum()), abs=0.006)
    assert said[4] == pytest.approx(left, abs=0.06)
    clear = code.abs() > 1e-3
    assert int(clear.sum()) <= said[1] <= int((code != 0).sum()) + 3
    torch.testing.assert_close(bars(widget), code, atol=2e-2, rtol=0)
    return ratio


@pytest.mark.screens("light")
def test_the_handle_moves_the_price(page_of, screen: str) -> None:
    page = page_of(EXPLORER)
    widget = page.locator(".sb-lasso").first
    assert assert_coded_right(page, widget, 0) == 0.1
    handle = widget.get_by_role("slider")
    handle.focus()
    page.keyboard.press("PageUp")
    assert assert_coded_right(page, widget, 0) == 0.2
    for _ in range(5):
        page.keyboard.press("ArrowLeft")
    assert_coded_right(page, widget, 0)
    page.keyboard.press("End")
    assert assert_coded_right(page, widget, 0) == 1.0
    text = widget.locator(".sb-readout").inner_text()
    assert "0 of 121" in text and "100.0 %" in text
    page.keyboard.press("Home")
    assert assert_coded_right(page, widget, 0) == 0.01
    widget.locator("input[type=radio]").nth(2).check()
    assert_coded_right(page, widget, 2)


def test_dragging_follows_the_pointer(page_of, screen: str) -> None:
    page = page_of(EXPLORER)
    widget = page.locator(".sb-lasso").first
    grip = widget.locator(".sb-lambda .sb-grip")
    grip.scroll_into_view_if_needed()
    box = grip.bounding_box()
    drawing = widget.locator(".sb-panel > svg").first.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    for step in (30, 60, 90):
        page.mouse.move(x + step * drawing["width"] / 360, y)
        ratio = assert_coded_right(page, widget, 0)
    page.mouse.up()
    # 304 drawing units are two decades.
    assert ratio == pytest.approx(0.1 * 100 ** (90 / 304), rel=0.02)


def touching(p: float, degrees: float) -> torch.Tensor:
    """The code of least Σ|a|^p on the line, by search."""
    angle = torch.deg2rad(torch.tensor(degrees, dtype=torch.float64))
    normal = torch.stack([angle.cos(), angle.sin()])
    along = torch.stack([-angle.sin(), angle.cos()])
    t = torch.arange(-60000, 60001, dtype=torch.float64)[:, None] / 10000
    # The corners lie on the line, but between two points of the grid.
    corners = torch.diag(1.2 / normal)
    points = torch.cat([1.2 * normal + t * along, corners])
    return points[points.abs().pow(p).sum(-1).argmin()]


def test_the_ball_touches_where_it_should(page_of, screen: str) -> None:
    page = page_of(BALLS)
    widget = page.locator(".sb-balls").first
    power = widget.get_by_role("slider", name="Exponent p")
    line = widget.get_by_role("slider", name="Direction of the line")

    def check() -> list[float]:
        p, *a = numbers(widget.locator(".sb-readout").inner_text())[:3]
        degrees = float(line.get_attribute("aria-valuenow"))
        torch.testing.assert_close(
            torch.tensor(a).double(), touching(p, degrees), atol=0.006, rtol=0
        )
        return [p, *a]

    assert check()[0] == 1.0
    power.focus()
    page.keyboard.press("Home")
    assert check()[0] == 0.3
    assert "one coefficient" in widget.locator(".sb-readout").inner_text()
    page.keyboard.press("End")
    assert check()[0] == 4.0
    assert "both" in widget.locator(".sb-readout").inner_text()
    line.focus()
    for _ in range(7):
        page.keyboard.press("PageUp")
    check()
    grip = widget.locator(".sb-turn .sb-grip")
    grip.scroll_into_view_if_needed()
    box = grip.bounding_box()
    area = widget.locator(".sb-panel > svg").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    # Straight down from the middle: the line lies below, at -90 degrees.
    page.mouse.move(
        area["x"] + area["width"] * (44 + 348) / 2 / 360,
        area["y"] + area["height"] * 0.8,
    )
    page.mouse.up()
    assert float(line.get_attribute("aria-valuenow")) == pytest.approx(
        -90, abs=2
    )
    check()


@pytest.mark.screens("light")
def test_both_widgets_on_one_page(page_of, screen: str) -> None:
    page = page_of(SHOWN)
    assert page.locator(".sb-balls").count() == 1
    assert page.locator(".sb-lasso").count() == 1


def test_widgets_are_small() -> None:
    """What a page carries for each of them."""
    for kind in (LpBalls, ShrinkageExplorer):
        assert len(kind._esm) + len(kind._css) < 40_000
