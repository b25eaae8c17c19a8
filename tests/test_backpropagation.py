"""Gradients by hand: against autograd, differences and closed forms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from sparse_book.networks.backpropagation import (
    ForwardPass,
    activation_slope,
    backpropagate,
    backward_pass,
    forward_pass,
    output_error,
)
from sparse_book.networks.fully_connected import FullyConnected, cross_entropy

BENDS = ("relu", "sigmoid", "tanh", "identity")


def autograd(
    network: FullyConnected, x: Tensor, t: Tensor, prices: list[float]
) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss and gradients from the modules and PyTorch alone."""
    loss = torch.zeros((), dtype=x.dtype)
    a = x.flatten(1)
    for layer, price in zip(network.hidden, prices, strict=True):
        a = layer(a)
        loss = loss + price * a.abs().sum(1).mean()
    if t.is_floating_point():
        log_y = network.output(a).log_softmax(1)
        loss = loss - (t * log_y).sum(1).mean()
    else:
        loss = loss + nn.functional.cross_entropy(network.output(a), t)
    names, values = zip(*network.named_parameters(), strict=True)
    slopes = torch.autograd.grad(loss, values)
    return loss.detach(), dict(zip(names, slopes, strict=True))


@st.composite
def problems(
    draw: Any,
) -> tuple[FullyConnected, Tensor, Tensor, list[float]]:
    """A network, a batch, labels of either kind, and prices."""
    sizes = draw(st.lists(st.integers(1, 6), min_size=2, max_size=7))
    torch.manual_seed(draw(st.integers(0, 10_000)))
    network = FullyConnected(
        sizes,
        draw(st.sampled_from(BENDS)),
        negative_biases=draw(st.booleans()),
        output_bias=draw(st.booleans()),
    ).double()
    with torch.no_grad():
        scale = draw(st.sampled_from([1.0, 3.0]))
        for parameter in network.parameters():
            parameter.mul_(scale)
    batch = draw(st.integers(1, 8))
    x = torch.randn(batch, sizes[0], dtype=torch.float64)
    if draw(st.booleans()):
        t = torch.randint(sizes[-1], (batch,))
    else:
        t = torch.rand(batch, sizes[-1], dtype=torch.float64)
    price = st.sampled_from([0.0, 0.01, 1.0, 30.0])
    return network, x, t, [draw(price) for _ in sizes[2:]]


@settings(max_examples=150)
@given(problems())
def test_equals_autograd(
    problem: tuple[FullyConnected, Tensor, Tensor, list[float]],
) -> None:
    network, x, t, prices = problem
    loss, slopes = backpropagate(network, x, t, prices)
    other, expected = autograd(network, x, t, prices)
    torch.testing.assert_close(loss, other, rtol=1e-12, atol=1e-12)
    assert list(slopes) == [name for name, _ in network.named_parameters()]
    for name, slope in slopes.items():
        assert slope.shape == expected[name].shape
        assert (slope - expected[name]).abs().max() < 1e-10, name


@given(problems(), st.integers(0, 2**30))
def test_equals_a_difference(
    problem: tuple[FullyConnected, Tensor, Tensor, list[float]], seed: int
) -> None:
    """Along a random direction, for bends without kinks."""
    network, x, t, _ = problem
    if network.activation == "relu":
        return
    slopes = backpropagate(network, x, t).gradients
    draws = torch.Generator().manual_seed(seed)
    way = {
        name: torch.randn(slope.shape, generator=draws, dtype=x.dtype)
        for name, slope in slopes.items()
    }
    heights = []
    for step in (-1e-5, 1e-5):
        moved = {
            name: value + step * way[name]
            for name, value in network.named_parameters()
        }
        logits = torch.func.functional_call(network, moved, (x,))
        heights.append(cross_entropy(logits, t).item())
    rise = (heights[1] - heights[0]) / 2e-5
    along = sum((slopes[name] * way[name]).sum().item() for name in way)
    assert abs(rise - along) < 1e-6 * (1 + abs(along))


def layers_of(
    network: FullyConnected,
) -> tuple[list[Tensor], list[Tensor]]:
    layers = [layer[0] for layer in network.hidden] + [network.output]
    return (
        [layer.weight.detach() for layer in layers],
        [layer.bias.detach() for layer in layers],
    )


def tall(seed: int = 0, bend: str = "relu") -> FullyConnected:
    torch.manual_seed(seed)
    return FullyConnected((8, 12, 9, 11, 5), bend).double()


@pytest.mark.parametrize("bend", BENDS)
def test_errors_are_sums_over_paths(bend: str) -> None:
    """The unrolled formula, its derivatives from autograd."""
    weights, biases = layers_of(tall(bend=bend))
    x = torch.randn(1, 8, dtype=torch.float64)
    forward = forward_pass(x, weights, biases, bend)
    errors = backward_pass(forward, weights, torch.tensor([2]), bend).errors
    miss = output_error(forward.logits, torch.tensor([2]))[0]
    for layer in range(1, 4):

        def above(a: Tensor, layer: int = layer) -> Tensor:
            rest = forward_pass(a[None], weights[layer:], biases[layer:], bend)
            return rest.logits[0]

        a = forward.activations[layer][0]
        total = torch.autograd.functional.jacobian(above, a)
        expected = activation_slope(a, bend) * (miss @ total)
        torch.testing.assert_close(
            errors[layer - 1][0], expected, rtol=0, atol=1e-14
        )


def test_a_batch_is_the_mean_of_its_examples() -> None:
    network = tall()
    x = torch.randn(6, 8, dtype=torch.float64)
    t = torch.arange(6) % 5
    whole = backpropagate(network, x, t, 0.1)
    singles = [
        backpropagate(network, x[r : r + 1], t[r : r + 1], 0.1)
        for r in range(6)
    ]
    torch.testing.assert_close(
        whole.loss, torch.stack([one.loss for one in singles]).mean()
    )
    for name, slope in whole.gradients.items():
        mean = torch.stack([one.gradients[name] for one in singles]).mean(0)
        torch.testing.assert_close(slope, mean)


def test_silent_units_learn_nothing() -> None:
    network = tall()
    with torch.no_grad():
        network.hidden[1][0].bias[3] = -100.0
    x = torch.randn(20, 8, dtype=torch.float64)
    t = torch.arange(20) % 5
    slopes = backpropagate(network, x, t, 5.0).gradients
    assert (slopes["hidden.1.0.weight"][3] == 0).all()
    assert slopes["hidden.1.0.bias"][3] == 0
    assert (slopes["hidden.2.0.weight"][:, 3] == 0).all()
    assert (slopes["hidden.1.0.weight"] != 0).any()


def test_the_price_alone() -> None:
    """One layer, labels of weight 0: the penalty's slope in closed form."""
    torch.manual_seed(0)
    network = FullyConnected((6, 7, 3)).double()
    x = torch.rand(5, 6, dtype=torch.float64)
    nothing = torch.zeros(5, 3, dtype=torch.float64)
    loss, slopes = backpropagate(network, x, nothing, 0.3)
    active = (network.hidden[0](x) > 0).double()
    torch.testing.assert_close(
        slopes["hidden.0.0.weight"], 0.3 / 5 * active.T @ x
    )
    torch.testing.assert_close(slopes["hidden.0.0.bias"], 0.3 * active.mean(0))
    assert (slopes["output.weight"] == 0).all()
    expected = 0.3 * network.hidden[0](x).sum(1).mean()
    torch.testing.assert_close(loss, expected.detach())


def test_prices_of_layers_add_up() -> None:
    network = tall(bend="tanh")
    x = torch.randn(4, 8, dtype=torch.float64)
    t = torch.arange(4)

    def slopes(prices: Any) -> Tensor:
        found = backpropagate(network, x, t, prices).gradients
        return torch.cat([slope.flatten() for slope in found.values()])

    free = slopes(0)
    parts = [slopes([0.0] * k + [0.2] + [0.0] * (2 - k)) for k in range(3)]
    together = sum(part - free for part in parts) + free
    torch.testing.assert_close(slopes(0.2), together)


def test_leaves_everything_as_it_was() -> None:
    network = tall()
    x = torch.randn(3, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    before = [p.detach().clone() for p in network.parameters()]
    state = torch.get_rng_state()
    loss, slopes = backpropagate(network, x, torch.arange(3), 0.1)
    assert torch.equal(torch.get_rng_state(), state)
    for old, parameter in zip(before, network.parameters(), strict=True):
        assert torch.equal(old, parameter) and parameter.grad is None
    assert x.grad is None and not loss.requires_grad
    assert not any(slope.requires_grad for slope in slopes.values())


def test_single_precision_is_close() -> None:
    network = tall(bend="sigmoid")
    x = torch.randn(30, 8, dtype=torch.float64)
    t = torch.arange(30) % 5
    exact = backpropagate(network, x, t, 0.1).gradients
    rough = backpropagate(network.float(), x.float(), t, 0.1).gradients
    for name, slope in exact.items():
        torch.testing.assert_close(
            rough[name].double(), slope, rtol=1e-4, atol=1e-7
        )


def test_divergence_shows() -> None:
    network = tall()
    lost = torch.full((2, 8), torch.nan, dtype=torch.float64)
    loss, slopes = backpropagate(network, lost, torch.tensor([0, 1]))
    assert loss.isnan() and slopes["output.weight"].isnan().any()


NETWORK = FullyConnected((4, 3, 2))
X, T = torch.ones(3, 4), torch.tensor([0, 1, 0])
W = [torch.ones(3, 4), torch.ones(2, 3)]
B = [torch.ones(3), None]
GONE = forward_pass(X, W, B)
REFUSED = [
    (lambda: backpropagate(nn.Linear(4, 2), X, T), TypeError, "network must"),
    (lambda: backpropagate(NETWORK, X.int(), T), TypeError, "inputs must be"),
    (lambda: backpropagate(NETWORK, X[:, :3], T), ValueError, r"weights\[0\]"),
    (lambda: backpropagate(NETWORK, X.double(), T), ValueError, "one dtype"),
    (lambda: backpropagate(NETWORK, X[0], T), ValueError, "inputs must have"),
    (lambda: backpropagate(NETWORK, X[:0], T[:0]), ValueError, "1 example"),
    (lambda: backpropagate(NETWORK, X, T + 1), ValueError, "labels must be"),
    (lambda: backpropagate(NETWORK, X, T, -0.1), ValueError, "coefficient"),
    (lambda: backpropagate(NETWORK, X, T, "1"), TypeError, "coefficient"),
    (
        lambda: backpropagate(NETWORK, X, T, [0.1, 0.1]),
        ValueError,
        "each of the 1 hidden layers, got 2",
    ),
    (
        lambda: backpropagate(NETWORK, X, T, [float("nan")]),
        ValueError,
        r"coefficient\[0\] must be",
    ),
    (lambda: forward_pass(X, [], []), ValueError, "one entry for every layer"),
    (lambda: forward_pass(X, W, B, "elu"), ValueError, "activation must be"),
    (
        lambda: forward_pass(X, W, [torch.ones(2), None]),
        ValueError,
        r"biases\[0\] must have shape \(3,\)",
    ),
    (
        lambda: forward_pass(X, W[::-1], [None, None]),
        ValueError,
        r"weights\[0\] must have shape \(units, 4\)",
    ),
    (
        lambda: backward_pass(GONE, W[:1], T),
        ValueError,
        "one entry for every layer",
    ),
    (
        lambda: backward_pass(ForwardPass((X,), X), W, T),
        ValueError,
        "one entry for every layer",
    ),
    (lambda: activation_slope(T, "relu"), TypeError, "activations must be"),
    (lambda: output_error(X, T[:2]), ValueError, r"labels must have shape"),
]


@pytest.mark.parametrize(("call", "kind", "words"), REFUSED)
def test_bad_input_is_refused(
    call: Callable[[], object], kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        call()
