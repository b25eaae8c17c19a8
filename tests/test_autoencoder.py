"""Autoencoders: parts, error, door, and many at once."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from sparse_book.networks.autoencoder import (
    SIZES,
    Autoencoder,
    reconstruction_error,
)
from sparse_book.networks.fully_connected import FullyConnected
from sparse_book.networks.record import record
from sparse_book.training.activity_penalty import activity_penalty
from sparse_book.training.ensemble import (
    Ensemble,
    _functional_gradients,
    _Problem,
    _stacked_gradients,
    epoch_order,
    seeded_network,
    train_ensemble,
)
from sparse_book.training.measure import measure_ensemble

SEEDS, PRICES = [4, 0, 0], [0.0, 0.002, 0.05]


def build() -> Autoencoder:
    return Autoencoder((12, 7, 4, 7, 12)).double()


def images(count: int = 23) -> torch.Tensor:
    draws = torch.Generator().manual_seed(1)
    return torch.rand(count, 1, 3, 4, generator=draws, dtype=torch.float64)


@pytest.mark.parametrize("name", list(SIZES))
def test_the_published_sizes(name) -> None:
    network = Autoencoder(SIZES[name])
    shape = nn.Sequential(
        *(
            layer
            for below, above in zip(SIZES[name], SIZES[name][1:], strict=False)
            for layer in (nn.Linear(below, above), nn.ReLU())
        )
    )
    for mine, theirs in zip(
        network.parameters(), shape.parameters(), strict=True
    ):
        theirs.data.copy_(mine.data)
    some = torch.rand(2, 1, 28, 28)
    torch.testing.assert_close(network(some), shape(some.flatten(1)))
    assert network.code_name == "hidden.1"
    assert network.encode(some).shape == (2, SIZES[name][2])


def test_the_output_is_not_priced() -> None:
    network, x = build(), images()
    with record(network, network.hidden_names) as heard:
        network(x)
    assert [len(part[0]) for part in heard.values()] == [7, 4, 7]
    meant = sum(part.sum() for part in heard.values()) / len(x)
    torch.testing.assert_close(activity_penalty(heard, 1.0), meant)


@given(batch=st.integers(1, 5), pixels=st.integers(1, 9), seed=st.integers())
def test_error(batch, pixels, seed) -> None:
    draws = torch.Generator().manual_seed(seed % 2**31)
    one, other = torch.rand(2, batch, pixels, generator=draws)
    found = reconstruction_error(one, other)
    torch.testing.assert_close(found.mean(), F.mse_loss(one, other))
    torch.testing.assert_close(found, reconstruction_error(other, one))
    torch.testing.assert_close(
        reconstruction_error(3 * one, 3 * other), 9 * found
    )
    assert (reconstruction_error(one, one) == 0).all()


@pytest.mark.parametrize("kind", ["relu", "tanh", "sigmoid", "identity"])
@pytest.mark.parametrize("last", ["relu", "identity", "sigmoid"])
@pytest.mark.parametrize("per_node", [False, True])
def test_stacked_squared_error_is_that_of_autograd(
    kind, last, per_node
) -> None:
    """Also for networks whose output is bent otherwise, and groups."""

    class Bent(FullyConnected):
        output_activation = last

        def forward(self, inputs):
            bend = {"relu": F.relu, "sigmoid": torch.sigmoid}
            outputs = super().forward(inputs)
            return bend.get(last, lambda z: z)(outputs)

    crowd = Ensemble(lambda: Bent((12, 6, 5, 8), kind).double(), [0, 1, 2, 3])
    draws = torch.Generator().manual_seed(0)
    targets = torch.rand(2, 10, 2, 4, generator=draws, dtype=torch.float64)
    x = images(20).view(2, 10, 12)
    prices = torch.tensor([0.0, 0.01, 0.1, 1.0]).double()
    arguments = crowd.parameters, prices, x, targets
    problem = _Problem(crowd.template, crowd.layers, "squared-error", per_node)
    ours, tally = _stacked_gradients(problem)(*arguments)
    theirs, same = _functional_gradients(problem)(*arguments)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-13)
    torch.testing.assert_close(
        tally, same, rtol=1e-10, atol=1e-13, equal_nan=True
    )


@pytest.mark.parametrize("orders", [None, 7])
@pytest.mark.parametrize("method", ["auto", "stacked", "functional"])
def test_together_and_alone(orders, method) -> None:
    x = images()
    crowd = Ensemble(build, SEEDS)
    train_ensemble(
        crowd,
        x,
        x,
        coefficient=PRICES,
        order_seeds=orders,
        epochs=2,
        batch_size=10,
        loss="squared-error",
        method=method,
    )
    for place, (seed, price) in enumerate(zip(SEEDS, PRICES, strict=True)):
        alone = seeded_network(build, seed)
        descent = torch.optim.Adam(alone.parameters(), 1e-3)
        for epoch in range(2):
            order = epoch_order(seed if orders is None else orders, epoch, 23)
            for index in order.split(10):
                with record(alone, alone.hidden_names) as heard:
                    loss = F.mse_loss(alone(x[index]), x[index].flatten(1))
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


def test_forward_of_an_ensemble_bends_the_outputs() -> None:
    x, crowd = images(), Ensemble(build, SEEDS)
    outputs, activations = crowd.forward(x)
    for place in range(3):
        network = crowd.network(place)
        torch.testing.assert_close(outputs[place], network(x).detach())
        torch.testing.assert_close(
            activations["hidden.1"][place], network.encode(x).detach()
        )
    found = measure_ensemble(crowd, x, torch.zeros(23).long())
    assert found.active_units.shape == (3, 3)


def test_cross_entropy_needs_logits() -> None:
    x, crowd = images(), Ensemble(build, [0])
    labels = torch.zeros(23, dtype=torch.int64)
    train_ensemble(crowd, x, labels, epochs=1)  # through torch.func
    with pytest.raises(ValueError, match="outputs are logits"):
        train_ensemble(crowd, x, labels, epochs=1, method="stacked")


def test_images_at_the_door() -> None:
    x, crowd = images(), Ensemble(build, [0])
    lost = x.clone()
    lost[0, 0, 1, 1] = torch.nan
    go = partial(train_ensemble, crowd, epochs=1, loss="squared-error")
    for bad, words in [
        (x[..., 1:], r"with 12 numbers each, got \(23, 1, 3, 3\)"),
        (x - 1, "values from 0 to 1"),
        (lost, "1 NaN"),
    ]:
        with pytest.raises(ValueError, match=words):
            go(bad, x)
    with pytest.raises(ValueError, match="with 12 numbers each"):
        crowd.network(0)(x[..., 1:])


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ((8, 8), "odd number"),
        ((8, 3, 3, 8), "odd number"),
        ((8, 3, 7), "number of pixels"),
        ((8, 0, 8), "at least 1"),
    ],
)
def test_bad_sizes(sizes, words) -> None:
    with pytest.raises(ValueError, match=words):
        Autoencoder(sizes)
