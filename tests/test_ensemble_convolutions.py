"""Convolutional networks together: each as if it were alone."""

from __future__ import annotations

import importlib
import sys

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sparse_book.networks.convolutional import CHANNELS, Convolutional
from sparse_book.networks.record import record
from sparse_book.training.activity_penalty import activity_penalty
from sparse_book.training.ensemble import (
    Ensemble,
    _functional_gradients,
    _Problem,
    epoch_order,
    seeded_network,
    train_ensemble,
)
from sparse_book.training.ensemble_convolutions import (
    _convolutional_gradients,
)
from sparse_book.training.measure import measure_ensemble

from conftest import ROOT

SHAPES = [(1, 5, (2, 9, 8)), (2, 3, (1, 8, 8)), (3, 3, (3, 9, 9))]
SEEDS, PRICES = [5, 1, 1, 2], [0.0, 0.01, 0.1, 2.0]


def builder(layers: int, kernel: int, image: tuple[int, int, int]):
    channels = CHANNELS[:layers]
    return lambda: Convolutional(image, channels, kernel, units=7).double()


def data(image: tuple[int, int, int], count: int = 23):
    draws = torch.Generator().manual_seed(3)
    x = torch.rand(count, *image, generator=draws, dtype=torch.float64)
    return x, torch.randint(10, (count,), generator=draws)


@pytest.mark.parametrize(("layers", "kernel", "image"), SHAPES)
@pytest.mark.parametrize("per_node", [False, True])
@pytest.mark.parametrize("priced", [False, True])
def test_gradients_are_those_of_autograd(
    layers, kernel, image, per_node, priced
) -> None:
    layers_named = None if priced else []
    crowd = Ensemble(
        builder(layers, kernel, image), SEEDS, layers=layers_named
    )
    x, t = data(image, 12)
    batch = x.view(2, 6, *image), t.view(2, 6)
    prices = torch.tensor(PRICES).double()
    problem = _Problem(crowd.template, crowd.layers, "cross-entropy", per_node)
    arguments = crowd.parameters, prices, *batch
    ours, tally = _convolutional_gradients(problem)(*arguments)
    theirs, same = _functional_gradients(problem)(*arguments)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-13)
    torch.testing.assert_close(tally, same, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize(("layers", "kernel", "image"), SHAPES)
@pytest.mark.parametrize("orders", [None, 4])
def test_together_and_alone(layers, kernel, image, orders) -> None:
    build, (x, t) = builder(layers, kernel, image), data(image)
    crowd = Ensemble(build, SEEDS)
    rows = train_ensemble(
        crowd,
        x,
        t,
        coefficient=PRICES,
        order_seeds=orders,
        epochs=2,
        batch_size=10,
    )
    assert rows[-1].activity.shape == (4, layers + 1)
    for place, (seed, price) in enumerate(zip(SEEDS, PRICES, strict=True)):
        alone = seeded_network(build, seed)
        descent = torch.optim.Adam(alone.parameters(), 1e-3)
        for epoch in range(2):
            order = epoch_order(seed if orders is None else orders, epoch, 23)
            for index in order.split(10):
                with record(alone, alone.hidden_names) as heard:
                    loss = F.cross_entropy(alone(x[index]), t[index])
                descent.zero_grad()
                (loss + activity_penalty(heard, price)).backward()
                descent.step()
        for name, parameter in alone.named_parameters():
            torch.testing.assert_close(
                crowd.parameters[name][place],
                parameter.detach(),
                rtol=1e-8,
                atol=1e-10,
            )


def test_a_lost_network_disturbs_no_other() -> None:
    build, (x, t) = builder(2, 3, (1, 8, 8)), data((1, 8, 8))
    crowd, without = Ensemble(build, [0, 1, 2]), Ensemble(build, [0, 2])
    crowd.parameters["hidden.1.0.weight"][1] = torch.nan
    rows = train_ensemble(crowd, x, t, epochs=1, order_seeds=0)
    train_ensemble(without, x, t, epochs=1, order_seeds=0)
    assert rows[0].loss.isnan().tolist() == [False, True, False]
    for name, parameter in without.parameters.items():
        torch.testing.assert_close(
            crowd.parameters[name][[0, 2]], parameter, rtol=1e-9, atol=1e-12
        )


def test_forward_and_measures() -> None:
    build, (x, t) = builder(2, 3, (1, 8, 8)), data((1, 8, 8))
    crowd = Ensemble(build, SEEDS)
    outputs, activations = crowd.forward(x)
    measured = measure_ensemble(crowd, x, t, chunk=7)
    for place in range(4):
        network = crowd.network(place)
        with torch.no_grad(), record(network, network.hidden_names) as heard:
            torch.testing.assert_close(outputs[place], network(x))
        for layer, name in enumerate(network.hidden_names):
            flat = heard[name].flatten(1)
            torch.testing.assert_close(activations[name][place], flat)
            torch.testing.assert_close(
                measured.active_units[place, layer],
                (flat > 0).double().sum(1).mean(),
            )
    with pytest.raises(ValueError, match=r"shape \(batch, 1, 8, 8\)"):
        crowd.forward(x[..., 1:])


def test_no_step_asks_for_a_value() -> None:
    crowd = Ensemble(builder(2, 3, (1, 8, 8)), [0, 1], device="meta")
    problem = _Problem(crowd.template, crowd.layers, "cross-entropy", False)
    x = torch.empty(1, 6, 1, 8, 8, device="meta", dtype=torch.float64)
    t = torch.empty(1, 6, device="meta", dtype=torch.int64)
    prices = torch.empty(2, device="meta", dtype=torch.float64)
    slopes, tally = _convolutional_gradients(problem)(
        crowd.parameters, prices, x, t
    )
    assert slopes["hidden.0.0.weight"].shape == (2, 6, 1, 3, 3)
    assert tally.activity.shape == (2, 3)


def test_bad_images_are_refused_before_the_first_step() -> None:
    crowd = Ensemble(builder(1, 3, (1, 8, 8)), [0])
    x, t = data((1, 8, 8))
    before = {name: p.clone() for name, p in crowd.parameters.items()}
    lost = x.clone()
    lost[3, 0, 2, 2] = torch.nan
    for images, words in [
        (x.expand(-1, 3, -1, -1), r"shape \(batch, 1, 8, 8\)"),
        (x[:, :, 1:], r"shape \(batch, 1, 8, 8\)"),
        (255 * x, "values from 0 to 1"),
        (lost, "1 NaN"),
    ]:
        with pytest.raises(ValueError, match=words):
            train_ensemble(crowd, images, t, epochs=1)
    for name, parameter in crowd.parameters.items():
        assert torch.equal(parameter, before[name])


def test_the_method_is_chosen_by_what_fits() -> None:
    crowd = Ensemble(builder(1, 3, (1, 8, 8)), [0], layers=["hidden.0"])
    x, t = data((1, 8, 8))
    train_ensemble(crowd, x, t, epochs=1)  # through torch.func
    with pytest.raises(ValueError, match="needs Convolutional"):
        train_ensemble(crowd, x, t, epochs=1, method="convolutional")
    other = Ensemble(
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).double(),
        [0],
        layers=[],
    )
    with pytest.raises(ValueError, match="needs Convolutional"):
        train_ensemble(other, x, t, epochs=1, method="convolutional")


def test_all_ways_of_the_benchmark_agree(monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    bench = importlib.import_module("convolutions")
    try:
        networks = [
            seeded_network(builder(2, 3, (1, 10, 10)), seed)
            for seed in range(3)
        ]
        x, t = data((1, 10, 10))
        found = {
            way: work(x, t) for way, work in bench.ways_of(networks).items()
        }
    finally:
        sys.modules.pop("convolutions", None)
    for way in bench.WAYS[1:]:
        torch.testing.assert_close(
            dict(found[way]), found["loop"], rtol=1e-9, atol=1e-12
        )
