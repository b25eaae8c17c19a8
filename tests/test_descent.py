"""The steps of the widget are the library's: fixtures for both sides."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from sparse_book.show.descent import RULES, SURFACES
from sparse_book.training.optimizers import OPTIMIZERS, optimizer_settings

from conftest import ROOT

FIXTURES = ROOT / "tests" / "descent.json"
STEPS = 40

HEIGHTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "bowl": lambda x, y: x**2 / 2 + 10 * y**2,
    "tilted": lambda x, y: (x + y) ** 2 / 4 + 5 * (y - x) ** 2,
    "banana": lambda x, y: ((1 - x) ** 2 + 5 * (y - x**2) ** 2) / 4,
    "saddle": lambda x, y: 2 * x**2 - y**2 / 2 + y**4 / 8,
    "valleys": lambda x, y: ((x**2 - 1) ** 2 - x / 2) / 3 + y**2 / 2,
    "plateau": lambda x, y: 1 - torch.exp(-(x**2 + y**2) / 2),
}
CHOSEN: list[tuple[str, dict[str, float]]] = [
    ("sgd", {"learning_rate": 0.03}),
    ("sgd", {"learning_rate": 0.01, "momentum": 0.85}),
    ("adagrad", {"learning_rate": 0.4}),
    (
        "adagrad",
        {
            "learning_rate": 0.4,
            "rate_decay": 0.1,
            "initial_accumulator": 0.5,
            "epsilon": 0.01,
        },
    ),
    ("rmsprop", {"learning_rate": 0.03, "rho": 0.95}),
    ("rmsprop", {"learning_rate": 0.01, "rho": 0.8, "momentum": 0.5}),
    ("adadelta", {"epsilon": 1e-3, "rho": 0.8}),
    ("adadelta", {"learning_rate": 0.5}),
    ("adam", {"learning_rate": 0.1}),
    (
        "adam",
        {"learning_rate": 0.2, "beta1": 0.5, "beta2": 0.9, "epsilon": 0.1},
    ),
    ("adagrad-squared", {"learning_rate": 1.0, "factor": 1e-6}),
    ("adadelta-squared", {"factor": 1e-4, "epsilon": 1e-3, "rho": 0.8}),
]
STARTS = {
    "bowl": (-2.6, 1.5),
    "tilted": (-2.2, -0.5),
    "banana": (-1.4, 1.2),
    "saddle": (-1.7, 0.1),
    "valleys": (-1.8, 1.3),
    "plateau": (-1.7, 1.1),
}


def path_of(
    surface: str, name: str, settings: dict[str, float]
) -> list[list[float]]:
    """The library's path, with slopes from autograd."""
    rule, chosen = OPTIMIZERS[name], optimizer_settings(name, settings)

    def height(theta: Tensor) -> Tensor:
        return HEIGHTS[surface](*theta)

    slope = torch.func.grad(height)
    theta = {"": torch.tensor(STARTS[surface], dtype=torch.float64)}
    memory, path = rule.init(theta), [theta[""].tolist()]
    for _ in range(STEPS):
        theta, memory = rule.update(
            theta, {"": slope(theta[""])}, memory, **chosen
        )
        path.append(theta[""].tolist())
    return path


def fixtures() -> list[dict[str, object]]:
    """What the script is to reproduce; every tenth point of each path."""
    assert set(HEIGHTS) == set(SURFACES)
    return [
        {
            "surface": surface,
            "optimizer": name,
            "settings": optimizer_settings(name, settings),
            "steps": STEPS,
            "points": path_of(surface, name, settings)[::10],
        }
        for surface in SURFACES
        for name, settings in CHOSEN
    ]


def test_fixtures_are_the_librarys() -> None:
    """`python tests/test_descent.py` writes them anew."""
    stored = json.loads(FIXTURES.read_text(encoding="utf-8"))
    found = fixtures()
    assert len(stored) == len(found)
    for one, other in zip(stored, found, strict=True):
        points = torch.tensor(other.pop("points"))
        torch.testing.assert_close(
            torch.tensor(one.pop("points")), points, rtol=1e-7, atol=1e-9
        )
        assert one == other
        assert all(math.isfinite(value) for value in points.flatten())


def test_every_rule_is_compared() -> None:
    assert {name for name, _ in CHOSEN} == set(OPTIMIZERS)


@pytest.mark.parametrize("name", list(RULES))
def test_sliders_are_settings_of_the_library(name: str) -> None:
    optimizer = "sgd" if name in ("gradient", "momentum") else name
    assert set(RULES[name]) <= set(OPTIMIZERS[optimizer].defaults)


if __name__ == "__main__":
    FIXTURES.write_text(
        json.dumps(fixtures(), allow_nan=False) + "\n", encoding="utf-8"
    )
