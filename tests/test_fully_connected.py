"""Feed-forward networks: other libraries, properties, and the door."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.neural_network import MLPClassifier
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional as F

from sparse_book.networks.fully_connected import (
    FullyConnected,
    NegativeBiasLinear,
    accuracy,
    batch_indices,
    cross_entropy,
    mini_batches,
    softmax,
)

BENDS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "relu": lambda z: np.maximum(z, 0),
    "sigmoid": expit,
    "tanh": np.tanh,
    "identity": lambda z: z,
}
widths = st.lists(st.integers(1, 6), min_size=2, max_size=6)


@given(widths, st.sampled_from(sorted(BENDS)), st.booleans(), st.booleans())
def test_forward_is_the_composition(
    sizes: list[int], bend: str, negative: bool, bias: bool
) -> None:
    torch.manual_seed(0)
    network = FullyConnected(
        sizes, bend, negative_biases=negative, output_bias=bias
    ).double()
    inputs = torch.randn(3, sizes[0], dtype=torch.float64)
    a = inputs.numpy()
    for layer in network.hidden:
        linear = layer[0]
        z = a @ linear.weight.detach().numpy().T
        a = BENDS[bend](z + linear.bias.detach().numpy())
    expected = a @ network.output.weight.detach().numpy().T
    if bias:
        expected = expected + network.output.bias.detach().numpy()
    np.testing.assert_allclose(network(inputs).detach(), expected, atol=1e-12)
    assert len(network.hidden) == len(sizes) - 2
    count = sum(p.numel() for p in network.parameters())
    pairs = pairwise(sizes)
    wanted = sum(n * (m + 1) for m, n in pairs)
    assert count == wanted - (0 if bias else sizes[-1])


@pytest.mark.parametrize("bend", ["relu", "tanh", "logistic", "identity"])
def test_scikit_learn_predicts_the_same(bend: str) -> None:
    torch.manual_seed(0)
    name = "sigmoid" if bend == "logistic" else bend
    network = FullyConnected((7, 6, 5, 4), name).double()
    x, t = np.random.default_rng(0).normal(size=(40, 7)), np.arange(40) % 4
    other = MLPClassifier((6, 5), activation=bend)
    other.partial_fit(x, t, classes=range(4))
    layers = [layer[0] for layer in network.hidden] + [network.output]
    other.coefs_ = [layer.weight.detach().numpy().T for layer in layers]
    other.intercepts_ = [layer.bias.detach().numpy() for layer in layers]
    ours = softmax(network(torch.from_numpy(x))).detach().numpy()
    np.testing.assert_allclose(ours, other.predict_proba(x), atol=1e-12)


def test_starts_as_plain_layers_do() -> None:
    torch.manual_seed(5)
    network = FullyConnected((9, 8, 7, 3))
    torch.manual_seed(5)
    plain = [nn.Linear(9, 8), nn.Linear(8, 7), nn.Linear(7, 3)]
    ours = list(network.parameters())
    theirs = [p for layer in plain for p in layer.parameters()]
    for mine, other in zip(ours, theirs, strict=True):
        assert torch.equal(mine, other)
    torch.manual_seed(5)
    shifted = FullyConnected((9, 8, 7, 3), negative_biases=True)
    for layer, other in zip(shifted.hidden, plain[:2], strict=True):
        assert torch.equal(layer[0].weight, other.weight)
        torch.testing.assert_close(layer[0].bias, -other.bias.abs())
    assert torch.equal(shifted.output.bias, plain[2].bias)


@given(widths, st.floats(-1e30, 1e30), st.booleans())
def test_silence_travels(sizes: list[int], raw: float, double: bool) -> None:
    """Whatever is learned, nothing in gives nothing out."""
    network = FullyConnected(sizes, negative_biases=True, output_bias=False)
    network = network.double() if double else network
    kind = torch.float64 if double else torch.float32
    with torch.no_grad():
        for layer in network.hidden:
            layer[0].raw_bias.fill_(raw)
            assert (layer[0].bias < 0).all()
            assert (layer(torch.zeros(2, layer[0].in_features).to(kind)) == 0)[
                0
            ].all()
        assert (network(torch.zeros(2, sizes[0], dtype=kind)) == 0).all()


def test_negative_biases_stay_negative_while_they_learn() -> None:
    torch.manual_seed(0)
    network = FullyConnected((5, 20, 3), negative_biases=True)
    optimizer = torch.optim.SGD(network.parameters(), lr=20.0)
    before = network.hidden[0][0].bias.detach().clone()
    x, t = torch.randn(50, 5), torch.arange(50) % 3
    for _ in range(20):
        optimizer.zero_grad()
        cross_entropy(network(x), t).backward()
        optimizer.step()
    after = network.hidden[0][0].bias
    assert (after < 0).all() and after.isfinite().all()
    assert not torch.allclose(before, after)


@pytest.mark.parametrize("negative", [True, False])
def test_copies_and_files(negative: bool) -> None:
    torch.manual_seed(0)
    network = FullyConnected((5, 4, 3), "tanh", negative_biases=negative)
    x = torch.randn(2, 5)
    twin = FullyConnected((5, 4, 3), "tanh", negative_biases=negative)
    file = io.BytesIO()
    torch.save(network.state_dict(), file)
    file.seek(0)
    twin.load_state_dict(torch.load(file))
    for other in (
        twin,
        copy.deepcopy(network),
        pickle.loads(pickle.dumps(network)),
    ):
        assert torch.equal(other(x), network(x))
        assert other.hidden_names == network.hidden_names == ("hidden.0",)
    assert "in_features=5, out_features=4" in repr(network)


@pytest.mark.parametrize("negative", [True, False])
def test_stacked_networks(negative: bool) -> None:
    """Many networks in stacked parameters answer as each one alone."""
    torch.manual_seed(0)
    networks = [
        FullyConnected((6, 5, 4, 3), negative_biases=negative)
        for _ in range(3)
    ]
    parameters, buffers = stack_module_state(networks)
    x = torch.randn(7, 2, 3)

    def one(values: dict[str, Tensor], rest: dict[str, Tensor]) -> Tensor:
        return functional_call(networks[0], (values, rest), (x,))

    together = vmap(one)(parameters, buffers)
    alone = torch.stack([network(x) for network in networks])
    torch.testing.assert_close(together, alone)


@given(
    st.integers(1, 5),
    st.integers(1, 6),
    st.floats(-1e4, 1e4),
    st.floats(0, 200),
    st.integers(0, 9),
)
def test_losses_equal_those_of_torch(
    batch: int, classes: int, shift: float, scale: float, seed: int
) -> None:
    draws = torch.Generator().manual_seed(seed)
    z = torch.randn(batch, classes, generator=draws).double() * scale + shift
    z.requires_grad_()
    t = torch.randint(classes, (batch,), generator=draws)
    weights = torch.rand(batch, classes, generator=draws).double()
    torch.testing.assert_close(softmax(z), z.softmax(-1))
    for labels in (t, weights, F.one_hot(t, classes).double()):
        for reduction in ("mean", "none"):
            ours = cross_entropy(z, labels, reduction=reduction)
            theirs = F.cross_entropy(z, labels, reduction=reduction)
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
            slopes = [
                torch.autograd.grad(loss.sum(), z)[0]
                for loss in (ours, theirs)
            ]
            torch.testing.assert_close(*slopes, rtol=1e-9, atol=1e-9)


def test_losses_at_the_edges() -> None:
    huge = torch.tensor([[3e38, -3e38], [0.0, 1e4]])
    assert softmax(huge).tolist() == [[1, 0], [0, 1]]
    loss = cross_entropy(huge, torch.tensor([0, 0]), reduction="none")
    assert loss.tolist() == [0, 1e4]
    lost = torch.full((1, 2), torch.nan)
    assert softmax(lost).isnan().all()
    assert cross_entropy(lost, torch.tensor([1])).isnan()
    assert cross_entropy(
        huge[:0], torch.ones(0).long(), reduction="none"
    ).shape
    z = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(softmax, (z,))
    assert torch.autograd.gradgradcheck(
        lambda z: cross_entropy(z, torch.tensor([0, 3, 1])), (z,)
    )


def test_accuracy() -> None:
    logits = torch.eye(4).repeat(3, 1)
    labels = torch.arange(12) % 4
    assert accuracy(logits, labels) == 1
    assert accuracy(logits, (labels + 1) % 4) == 0
    assert accuracy(torch.zeros(8, 4), torch.arange(8) % 4) == 0.25
    assert accuracy(logits * torch.nan, labels) == 0


@given(
    st.integers(1, 40),
    st.integers(1, 45),
    st.integers(0, 2**40),
    st.booleans(),
)
def test_every_example_comes_once(
    count: int, size: int, seed: int, drop: bool
) -> None:
    if drop and size > count:
        size = count
    rng = torch.Generator().manual_seed(seed)
    twin = torch.Generator().manual_seed(seed)
    x = torch.arange(count)
    for _ in range(2):  # two epochs
        order = torch.randperm(count, generator=twin)
        batches = mini_batches(
            x, x * 2, batch_size=size, generator=rng, drop_last=drop
        )
        assert torch.equal(rng.get_state(), twin.get_state())  # drawn now
        pairs = list(batches)
        assert all(torch.equal(b, 2 * a) for a, b in pairs)
        seen = torch.cat([a for a, _ in pairs])
        kept = count - count % size if drop else count
        assert torch.equal(seen, order[:kept])
        assert all(len(a) == size for a, _ in pairs[:-1])
    plain = torch.cat(batch_indices(count, size))
    assert torch.equal(plain, torch.arange(count))


def test_batches_are_copies() -> None:
    x = torch.zeros(4)
    for (part,) in mini_batches(x, batch_size=2):
        part.add_(1)
    assert (x == 0).all()


REFUSED = [
    (lambda: FullyConnected(5), TypeError, "sizes must be a sequence"),
    (lambda: FullyConnected("ab"), TypeError, "sizes must be a sequence"),
    (lambda: FullyConnected((5,)), ValueError, "at least the numbers"),
    (lambda: FullyConnected((5, -1)), ValueError, r"sizes\[1\] must be at"),
    (lambda: FullyConnected((5, True)), TypeError, r"sizes\[1\] must be an"),
    (lambda: FullyConnected((5, 2), "elu"), ValueError, "'tanh', 'identity'"),
    (lambda: NegativeBiasLinear(0, 2), ValueError, "in_features must be"),
    (lambda: NegativeBiasLinear(2, 2.0), TypeError, "out_features must be"),
    (
        lambda: FullyConnected((5, 2))(torch.ones(5)),
        ValueError,
        r"inputs must hold 5 numbers .* got shape \(5,\)",
    ),
    (lambda: softmax(torch.ones(2).int()), TypeError, "logits must be a fl"),
    (lambda: softmax(torch.tensor(1.0)), ValueError, "logits must have"),
    (
        lambda: cross_entropy(torch.ones(2, 3), torch.tensor([0, 3])),
        ValueError,
        "labels must be in 0…2, got 3",
    ),
    (
        lambda: cross_entropy(torch.ones(2, 3), torch.tensor([-1, 0])),
        ValueError,
        "labels must be in 0…2, got -1",
    ),
    (
        lambda: cross_entropy(torch.ones(2, 3), torch.ones(2, 2)),
        ValueError,
        r"labels must have shape \(2, 3\)",
    ),
    (
        lambda: cross_entropy(torch.ones(2, 3), torch.ones(2, 3) / 0),
        ValueError,
        "labels must be finite",
    ),
    (
        lambda: cross_entropy(torch.ones(2, 3), [0, 1]),  # type: ignore[arg-type]
        TypeError,
        "labels must be a torch.Tensor",
    ),
    (
        lambda: cross_entropy(
            torch.ones(1, 3), torch.tensor([0]), reduction="sum"
        ),
        ValueError,
        "reduction must be one of",
    ),
    (
        lambda: accuracy(torch.ones(0, 3), torch.ones(0).long()),
        ValueError,
        "logits must not be empty",
    ),
    (lambda: mini_batches(batch_size=2), ValueError, "tensors must have one"),
    (lambda: mini_batches([1], batch_size=2), TypeError, "tensors must be"),
    (
        lambda: mini_batches(torch.ones(0), batch_size=2),
        ValueError,
        "at least 1",
    ),
    (
        lambda: mini_batches(torch.ones(3), batch_size=0),
        ValueError,
        "batch_size must be at least 1",
    ),
    (lambda: batch_indices(0, 1), ValueError, "count must be at least 1"),
    (
        lambda: batch_indices(2, 3, drop_last=True),
        ValueError,
        "batch_size must be in 1…2",
    ),
]


@pytest.mark.parametrize(("call", "kind", "words"), REFUSED)
def test_bad_input_is_refused(
    call: Callable[[], object], kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        call()
