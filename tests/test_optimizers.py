"""Optimizers as pure functions: torch's own, and the compiled twins."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from optimizers_for_tests import TORCH, peer_of
from torch import Tensor

from sparse_book.training.optimizers import (
    OPTIMIZERS,
    make_stepper,
    optimizer_settings,
)

# Slopes of 3 would throw a rule that multiplies by their fifth power.
GENTLE = {"adagrad-squared": {"factor": 1e-4}}


def slopes(theta: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k: p - 3 * torch.sin(3 * p) for k, p in theta.items()}


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
    "adagrad": st.fixed_dictionaries(
        {
            "learning_rate": st.floats(0, 0.3),
            "rate_decay": st.floats(0, 0.5),
            "initial_accumulator": st.floats(0, 2),
            "epsilon": st.floats(1e-10, 1e-2),
            "weight_decay": st.floats(0, 0.1),
        }
    ),
    "rmsprop": st.fixed_dictionaries(
        {
            "learning_rate": st.floats(0, 0.03),
            "rho": st.floats(0.5, 0.9999),
            "momentum": st.floats(0, 0.9),
            "epsilon": st.floats(1e-10, 1e-2),
            "weight_decay": st.floats(0, 0.1),
        }
    ),
    "adadelta": st.fixed_dictionaries(
        {
            "learning_rate": st.floats(0, 2),
            "rho": st.floats(0.5, 0.9999),
            "epsilon": st.floats(1e-8, 1e-2),
            "weight_decay": st.floats(0, 0.1),
        }
    ),
    "adagrad-squared": st.fixed_dictionaries(
        {
            "learning_rate": st.floats(0, 0.01),
            "factor": st.floats(0, 1e-3),
            "epsilon": st.floats(1e-10, 1e-2),
            "weight_decay": st.floats(0, 0.1),
        }
    ),
    "adadelta-squared": st.fixed_dictionaries(
        {
            "learning_rate": st.floats(0, 2),
            "factor": st.floats(0, 0.1),
            "rho": st.floats(0.5, 0.9999),
            "epsilon": st.floats(1e-8, 1e-2),
            "weight_decay": st.floats(0, 0.1),
        }
    ),
}


def test_every_rule_has_a_peer() -> None:
    assert set(settings_of) == set(OPTIMIZERS)
    assert set(OPTIMIZERS) - set(TORCH) == {
        "adagrad-squared",
        "adadelta-squared",
    }


@pytest.mark.parametrize("name", list(TORCH))
def test_defaults_are_those_of_torch(name: str) -> None:
    wanted = peer_of(name, [torch.zeros(1)], {}).defaults
    found = peer_of(
        name, [torch.zeros(1)], dict(OPTIMIZERS[name].defaults)
    ).defaults
    assert found == wanted


@pytest.mark.parametrize("name", list(OPTIMIZERS))
@settings(max_examples=8)
@given(values=st.data())
def test_as_torch_and_as_compiled(name: str, values: st.DataObject) -> None:
    """Three networks with settings of their own, a hundred given slopes.

    The slopes do not depend on where the networks are: on a bumpy landscape
    some settings make the last digit of a step grow into another path.
    """
    rows = [values.draw(settings_of[name]) for _ in range(3)]
    assert rows[0].keys() == OPTIMIZERS[name].defaults.keys()
    draws = torch.Generator().manual_seed(len(rows))

    def normal(*shape: int) -> Tensor:
        return torch.randn(3, *shape, generator=draws, dtype=torch.float64)

    begin = {"w": normal(2, 4), "b": normal(2)}
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
        slope = {"w": 0.3 + normal(2, 4), "b": 3 * normal(2)}
        pure, memory = rule.update(pure, slope, memory, **columns)
        step(slope)
        for n, (twin, peer) in enumerate(zip(twins, peers, strict=True)):
            for p, g in zip(twin, slope.values(), strict=True):
                p.grad = g[n].clone()
            peer.step()
        for place, key in enumerate(begin):
            walked = torch.stack([twin[place].detach() for twin in twins])
            close = {"rtol": 1e-9, "atol": 1e-10}
            torch.testing.assert_close(pure[key], walked, **close)
            torch.testing.assert_close(moved[key], pure[key], **close)


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
        chosen = optimizer_settings(name, GENTLE.get(name))
        step = make_stepper(name, moved, GENTLE.get(name), networks=5)
        memory = rule.init(pure)
        for _ in range(10):
            slope = slopes(pure)
            pure, memory = rule.update(pure, slope, memory, **chosen)
            step({k: g.float() for k, g in slope.items()})
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(
        moved["w"].double(), pure["w"], rtol=1e-5, atol=1e-5
    )


# The first step of a slope of 1, in units of the learning rate.
FIRST = {
    "rmsprop": 0.01**-0.5,
    "adadelta": (1e-6 / 0.1) ** 0.5,
    "adadelta-squared": 0.1**2 * (1e-6 / 0.1) ** 0.5,
}


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_first_step(name: str) -> None:
    theta = {"w": torch.zeros(2, 1, dtype=torch.float64)}
    step = make_stepper(name, theta, {"learning_rate": 0.1})
    step({"w": torch.tensor([[1.0], [-1.0]], dtype=torch.float64)})
    size = FIRST.get(name, 1.0) * 0.1
    expected = torch.tensor([[-size], [size]], dtype=torch.float64)
    torch.testing.assert_close(theta["w"], expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize("name", list(OPTIMIZERS))
@pytest.mark.parametrize(
    "change",
    [
        lambda p: p.mT.contiguous().mT,  # compiled, too
        lambda p: torch.stack([p, p], -1)[..., 0],  # with gaps
        lambda p: p.bfloat16(),
        lambda p: p.requires_grad_(),
    ],
    ids=["transposed", "gaps", "half", "leaf"],
)
def test_any_parameters(name: str, change: Callable[[Tensor], Tensor]) -> None:
    begin = torch.randn(2, 3, 4)
    theta = {"w": change(begin.clone())}
    rate = torch.tensor([0.0, 0.1])
    step = make_stepper(name, theta, {"learning_rate": rate}, networks=2)
    step({"w": torch.ones_like(theta["w"])})
    found = theta["w"].detach().float()
    first = FIRST.get(name, 1.0) * 0.1  # of a slope of 1, at a rate of 0.1
    torch.testing.assert_close(found[0], begin[0], rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(
        found[1], begin[1] - first, rtol=2e-2, atol=2e-2
    )


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_turned_parameters_take_the_same_steps(name: str) -> None:
    """However parameters and gradients lie, the same bits come out."""
    draws = torch.Generator().manual_seed(2)
    begin = torch.randn(3, 4, 5, generator=draws)
    slopes = torch.randn(6, 3, 4, 5, generator=draws)
    theta, turned = begin.clone(), begin.mT.contiguous().mT
    rates = {"learning_rate": torch.tensor([0.0, 0.1, 0.01])}
    step = make_stepper(name, {"w": theta}, rates, networks=3)
    other = make_stepper(name, {"w": turned}, rates, networks=3)
    for number, slope in enumerate(slopes):
        step({"w": slope})
        lying = slope.mT.contiguous().mT if number % 2 else slope
        other({"w": lying})
        assert torch.equal(theta, turned)
    assert turned.stride() == (20, 1, 4) and not theta.equal(begin)


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_nan_stays_with_its_network(name: str) -> None:
    theta = {"w": torch.zeros(3, 4)}
    step = make_stepper(name, theta, networks=3)
    slope = torch.ones(3, 4)
    slope[1] = torch.nan
    step({"w": slope})
    assert theta["w"].isnan().any(1).tolist() == [False, True, False]
    assert theta["w"][1].isnan().all()


@pytest.mark.parametrize("name", ["adagrad", "rmsprop", "adam"])
def test_the_size_of_the_loss_does_not_matter(name: str) -> None:
    """Rules that divide by the slope's size take the same steps."""
    paths = []
    for size in (1e-3, 1.0, 1e3):
        theta = {"w": torch.linspace(-2, 2, 7, dtype=torch.float64)[None]}
        chosen = {"learning_rate": 0.01, "epsilon": 0.0}
        step = make_stepper(name, theta, chosen)
        for _ in range(20):
            step({k: size * g for k, g in slopes(theta).items()})
        paths.append(theta["w"])
    torch.testing.assert_close(paths[0], paths[1])
    torch.testing.assert_close(paths[2], paths[1])


@pytest.mark.parametrize("name", ["adagrad-squared", "adadelta-squared"])
def test_squared_rules_grow_with_the_fourth_power(name: str) -> None:
    """A loss s times as steep, at a rate that is s⁴ times smaller."""
    paths = []
    for size in (1.0, 10.0):
        theta = {"w": torch.linspace(-2, 2, 7, dtype=torch.float64)[None]}
        chosen = {"learning_rate": 1e-4 / size**4}
        chosen["epsilon"] = 0.0 if name == "adagrad-squared" else 1e-12
        step = make_stepper(name, theta, chosen)
        for _ in range(20):
            step({k: size * g for k, g in slopes(theta).items()})
        paths.append(theta["w"])
    torch.testing.assert_close(paths[1], paths[0], rtol=1e-6, atol=1e-9)


BAD = [
    (ValueError, "optimizer must be one of 'sgd', 'adam'", ("rms", {})),
    (ValueError, "setting of adam must be one of", ("adam", {"lr": 0.1})),
    (ValueError, "learning_rate must be", ("sgd", {"learning_rate": -0.1})),
    (TypeError, "learning_rate must be", ("sgd", {"learning_rate": "a"})),
    (ValueError, "momentum must be", ("sgd", {"momentum": 1.0})),
    (ValueError, "beta1 must be", ("adam", {"beta1": torch.tensor([0.5, 1])})),
    (ValueError, "'adagrad-squared', 'adadelta-squared'", ("adagrad-k", {})),
    (ValueError, "rho must be .* at most 1", ("rmsprop", {"rho": 1.0})),
    (
        ValueError,
        "rho must be",
        ("adadelta-squared", {"rho": torch.tensor([0.9, 1.1])}),
    ),
    (ValueError, "factor must be", ("adagrad-squared", {"factor": -1.0})),
    (ValueError, "rate_decay must be", ("adagrad", {"rate_decay": -1.0})),
    (
        ValueError,
        "setting of adagrad must be one of 'learning_rate', 'epsilon'",
        ("adagrad", {"lr_decay": 0.1}),
    ),
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
