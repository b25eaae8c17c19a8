"""Optimizers as pure functions: torch's own, and the compiled twins."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sparse_book.training.optimizers import (
    OPTIMIZERS,
    make_stepper,
    optimizer_settings,
)

NAMES = {"learning_rate": "lr", "epsilon": "eps"}


def bumps(theta: Tensor) -> Tensor:
    return (theta.square() / 2 + torch.cos(3 * theta)).sum()


def slopes(theta: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k: p - 3 * torch.sin(3 * p) for k, p in theta.items()}


def peer_of(
    name: str, parameters: list[Tensor], chosen: dict[str, float]
) -> torch.optim.Optimizer:
    options = {NAMES.get(k, k): v for k, v in chosen.items()}
    if name == "sgd":
        return torch.optim.SGD(parameters, **options)
    betas = (options.pop("beta1"), options.pop("beta2"))
    return torch.optim.Adam(parameters, betas=betas, **options)


settings_of: dict[str, st.SearchStrategy[dict[str, float]]] = {
    "sgd": st.fixed_dictionaries(
        {
            "learning_rate": st.floats(0, 0.1),
            "momentum": st.floats(0, 0.95),
            "weight_decay": st.floats(0, 0.1),
        }
    ),
    "adam": st.fixed_dictionaries(
        {
            "learning_rate": st.floats(0, 0.1),
            "beta1": st.floats(0, 0.95),
            "beta2": st.floats(0.5, 0.9999),
            "epsilon": st.floats(1e-10, 1e-2),
            "weight_decay": st.floats(0, 0.1),
        }
    ),
}


@pytest.mark.parametrize("name", list(OPTIMIZERS))
@settings(max_examples=8)
@given(values=st.data())
def test_as_torch_and_as_compiled(name: str, values: st.DataObject) -> None:
    """Three networks with settings of their own, a hundred steps."""
    rows = [values.draw(settings_of[name]) for _ in range(3)]
    draws = torch.Generator().manual_seed(len(rows))
    begin = {
        "w": torch.randn(3, 2, 4, generator=draws, dtype=torch.float64),
        "b": torch.randn(3, 2, generator=draws, dtype=torch.float64),
    }
    columns = {
        key: torch.tensor([row[key] for row in rows], dtype=torch.float64)
        for key in rows[0]
    }
    rule, pure = OPTIMIZERS[name], begin
    memory = rule.init(begin)
    moved = {k: p.clone() for k, p in begin.items()}
    step = make_stepper(name, moved, columns, networks=3)
    twins = [
        [p[n].clone().requires_grad_() for p in begin.values()]
        for n in range(3)
    ]
    peers = [
        peer_of(name, list(twin), row)
        for twin, row in zip(twins, rows, strict=True)
    ]
    for _ in range(100):
        pure, memory = rule.update(pure, slopes(pure), memory, **columns)
        step(slopes(moved))
        for twin, peer in zip(twins, peers, strict=True):
            peer.zero_grad()
            sum(bumps(p) for p in twin).backward()  # type: ignore[union-attr]
            peer.step()
    for place, key in enumerate(begin):
        walked = torch.stack([twin[place].detach() for twin in twins])
        torch.testing.assert_close(pure[key], walked, rtol=1e-6, atol=1e-8)
        torch.testing.assert_close(moved[key], pure[key], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_a_step_changes_nothing_that_it_was_given(name: str) -> None:
    rule = OPTIMIZERS[name]
    theta = {"w": torch.randn(5)}
    memory = rule.init(theta)
    kept = [theta["w"].clone()] + [
        v.clone() for table in memory.values() for v in table.values()
    ]
    slope = {"w": torch.randn(5)}
    rule.update(theta, slope, memory, **rule.defaults)
    after = [theta["w"]] + [
        v for table in memory.values() for v in table.values()
    ]
    for one, other in zip(kept, after, strict=True):
        assert torch.equal(one, other)
    once = rule.update(theta, slope, memory, **rule.defaults)[0]["w"]
    again = rule.update(theta, slope, memory, **rule.defaults)[0]["w"]
    assert torch.equal(once, again)


@pytest.mark.parametrize("name", list(OPTIMIZERS))
@pytest.mark.parametrize("threads", [1, 2])
def test_threads_and_single_precision(name: str, threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        begin = torch.randn(5, 7)
        moved, pure = {"w": begin.clone()}, {"w": begin.double()}
        rule = OPTIMIZERS[name]
        memory, step = rule.init(pure), make_stepper(name, moved, networks=5)
        for _ in range(10):
            slope = slopes(pure)
            pure, memory = rule.update(pure, slope, memory, **rule.defaults)
            step({k: g.float() for k, g in slope.items()})
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(
        moved["w"].double(), pure["w"], rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("name", list(OPTIMIZERS))
@pytest.mark.parametrize(
    "change",
    [
        lambda p: p.mT.contiguous().mT,  # not contiguous
        lambda p: p.bfloat16(),
        lambda p: p.requires_grad_(),
    ],
    ids=["transposed", "half", "leaf"],
)
def test_any_parameters(name: str, change: Callable[[Tensor], Tensor]) -> None:
    begin = torch.randn(2, 3, 4)
    theta = {"w": change(begin.clone())}
    rate = torch.tensor([0.0, 0.1])
    step = make_stepper(name, theta, {"learning_rate": rate}, networks=2)
    step({"w": torch.ones_like(theta["w"])})
    found = theta["w"].detach().float()
    torch.testing.assert_close(found[0], begin[0], rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(found[1], begin[1] - 0.1, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_nan_stays_with_its_network(name: str) -> None:
    theta = {"w": torch.zeros(3, 4)}
    step = make_stepper(name, theta, networks=3)
    slope = torch.ones(3, 4)
    slope[1] = torch.nan
    step({"w": slope})
    assert theta["w"].isnan().any(1).tolist() == [False, True, False]
    assert theta["w"][1].isnan().all()


BAD = [
    (ValueError, "optimizer must be one of 'sgd', 'adam'", ("rms", {})),
    (ValueError, "setting of adam must be one of", ("adam", {"lr": 0.1})),
    (ValueError, "learning_rate must be", ("sgd", {"learning_rate": -0.1})),
    (TypeError, "learning_rate must be", ("sgd", {"learning_rate": "a"})),
    (ValueError, "momentum must be", ("sgd", {"momentum": 1.0})),
    (ValueError, "beta1 must be", ("adam", {"beta1": torch.tensor([0.5, 1])})),
    (
        ValueError,
        "epsilon must be",
        ("adam", {"epsilon": torch.tensor(torch.nan)}),
    ),
    (
        ValueError,
        "weight_decay must hold",
        ("adam", {"weight_decay": torch.zeros(0)}),
    ),
]


@pytest.mark.parametrize(("kind", "words", "arguments"), BAD)
def test_bad_settings(
    kind: type[Exception],
    words: str,
    arguments: tuple[str, dict[str, float | Tensor]],
) -> None:
    with pytest.raises(kind, match=words):
        optimizer_settings(*arguments)


def test_one_value_per_network() -> None:
    rates = {"learning_rate": torch.ones(3)}
    with pytest.raises(
        ValueError, match=r"must have shape \(2,\), got \(3,\)"
    ):
        make_stepper("sgd", {"w": torch.zeros(2, 5)}, rates, networks=2)
