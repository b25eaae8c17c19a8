"""The penalty's gradient, by layers and by paths, against autograd."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparse_book.networks.fully_connected import FullyConnected
from sparse_book.networks.record import record
from sparse_book.training.activity_penalty import activity_penalty
from sparse_book.training.penalty_flow import (
    ValvedPenalty,
    expected_return,
    hidden_parameters,
    outgoing_sums,
    penalty_flow,
    penalty_paths,
)

NAMES = ("relu", "sigmoid", "tanh", "identity")


@st.composite
def problems(draw):
    """A network of any depth, a batch, λ per layer, all from a seed."""
    depth = draw(st.integers(1, 4))
    sizes = draw(
        st.lists(st.integers(1, 6), min_size=depth + 2, max_size=depth + 2)
    )
    name = draw(st.sampled_from(NAMES))
    torch.manual_seed(draw(st.integers(0, 2**31)))
    negative = draw(st.booleans())
    network = FullyConnected(sizes, name, negative_biases=negative).double()
    batch = torch.randn(draw(st.integers(1, 8)), sizes[0]).double()
    prices = draw(
        st.lists(st.floats(0, 3), min_size=depth, max_size=depth).map(tuple)
    )
    return network, batch, prices, name


@given(problems())
def test_shares_add_up_to_autograd(problem) -> None:
    network, batch, prices, name = problem
    weights, biases = hidden_parameters(network)
    leaves = [t.clone().requires_grad_() for t in (*weights, *biases)]
    depth = len(weights)
    values, total = batch, torch.zeros((), dtype=torch.float64)
    for weight, bias, price in zip(
        leaves[:depth], leaves[depth:], prices, strict=True
    ):
        z = values @ weight.mT + bias
        values = z if name == "identity" else getattr(torch, name)(z)
        total = total + price * values.abs().sum() / len(batch)
    slopes = torch.autograd.grad(total, leaves)
    flows = penalty_flow(weights, biases, batch, prices, name)
    for layer, flow in enumerate(flows):
        assert flow.weight.shape == (depth - layer, *weights[layer].shape)
        assert flow.bias.shape == (depth - layer, *biases[layer].shape)
        for share, slope in [
            (flow.weight, slopes[layer]),
            (flow.bias, slopes[depth + layer]),
        ]:
            torch.testing.assert_close(
                share.sum(0), slope, atol=1e-10, rtol=1e-10
            )


@given(problems())
def test_each_share_is_the_gradient_of_one_layer(problem) -> None:
    network, batch, prices, name = problem
    with record(network, network.hidden_names) as activations:
        network(batch)
    parts = hidden_parameters(network)
    flows = penalty_flow(*parts, batch, prices, name)
    parameters = [layer[0].weight for layer in network.hidden]
    for payer, layer in enumerate(network.hidden_names):
        price = {n: 0.0 for n in network.hidden_names}
        price[layer] = prices[payer]
        slopes = torch.autograd.grad(
            activity_penalty(activations, price),
            parameters,
            retain_graph=True,
        )
        for at, slope in enumerate(slopes):
            if at > payer:
                assert (slope == 0).all()
                continue
            share = flows[at].weight[payer - at]
            torch.testing.assert_close(share, slope, atol=1e-10, rtol=1e-10)


@settings(max_examples=40)
@given(problems(), st.data())
def test_paths_add_up_to_every_share(problem, data) -> None:
    network, batch, prices, name = problem
    parts = hidden_parameters(network)
    layer = data.draw(st.integers(0, len(parts[0]) - 1))
    unit = data.draw(st.integers(0, parts[0][layer].shape[0] - 1))
    source = data.draw(st.integers(0, parts[0][layer].shape[1] - 1))
    chosen = (layer, unit, source)
    paths = penalty_paths(*parts, batch[0], chosen, prices, name)
    assert len({path.units for path in paths}) == len(paths)
    shares = penalty_flow(*parts, batch[:1], prices, name)[layer].weight
    for k, share in enumerate(shares[:, unit, source]):
        ends = [p.contribution for p in paths if len(p.units) == k + 1]
        assert sum(ends) == pytest.approx(float(share), rel=1e-9, abs=1e-12)


@given(problems(), st.floats(0, 1))
def test_the_valve_scales_what_is_returned(problem, valve) -> None:
    network, batch, _, name = problem
    logits, activity = ValvedPenalty(network)(batch, valve)
    torch.testing.assert_close(logits, network(batch))
    parameters = [layer[0].weight for layer in network.hidden]
    slopes = torch.autograd.grad(activity.sum(), parameters)
    flows = penalty_flow(*hidden_parameters(network), batch, 1.0, name)
    for flow, slope in zip(flows, slopes, strict=True):
        held = flow.weight[0] + valve * flow.weight[1:].sum(0)
        torch.testing.assert_close(slope, held, atol=1e-10, rtol=1e-10)


def test_published_equations_for_two_layers() -> None:
    torch.manual_seed(0)
    (w1, w2), (b1, b2) = hidden_parameters(FullyConnected((5, 6, 4, 2)))
    x = torch.rand(5)
    z1 = w1 @ x + b1
    a1 = z1.relu()
    z2 = w2 @ a1 + b2
    first, second = penalty_flow([w1, w2], [b1, b2], x[None])
    assert (z1 > 0).any() and (z1 < 0).any() and (z2 > 0).any()
    for i in range(6):
        for j in range(5):
            gate = float(z1[i] > 0)
            back = sum(float(z2[n] > 0) * w2[n, i] for n in range(4))
            wanted = gate * x[j] * torch.stack([torch.ones(()), back])
            torch.testing.assert_close(first.weight[:, i, j], wanted)
    for i in range(4):
        wanted = float(z2[i] > 0) * a1
        torch.testing.assert_close(second.weight[0, i], wanted)


def test_a_silent_unit_is_out_of_the_game() -> None:
    torch.manual_seed(1)
    weights, biases = hidden_parameters(FullyConnected((5, 6, 4, 2)))
    biases[0][2] = -100.0
    first, second = penalty_flow(weights, biases, torch.rand(9, 5))
    assert (first.weight[:, 2] == 0).all() and (first.bias[:, 2] == 0).all()
    assert (second.weight[:, :, 2] == 0).all()
    assert (second.bias > 0).any()


def test_inputs_are_not_touched_and_no_graph_is_left() -> None:
    network = FullyConnected((5, 6, 2))
    weights, biases = hidden_parameters(network)
    batch = torch.rand(3, 5, requires_grad=True)
    (flow,) = penalty_flow(weights, biases, batch)
    assert not flow.weight.requires_grad and batch.grad is None


@pytest.mark.parametrize("targets", [16, 64, 256])
def test_initial_statistics(targets: int) -> None:
    generator = torch.Generator().manual_seed(targets)
    a = torch.rand(1, 64, generator=generator).double() - 0.5
    a = a.relu()
    draws = 4000
    shape = (draws, targets, 65)
    uniform = torch.rand(shape, generator=generator, dtype=torch.float64)
    drawn = (2 * uniform - 1) / 8
    z = drawn[..., :64] @ a[0] + drawn[..., 64]
    back = ((z > 0)[..., None] * drawn[..., :64]).sum(1)
    wanted = expected_return(a, targets)[0]
    error = (back.mean(0) - wanted).abs()
    spread = (targets / 384) ** 0.5
    assert (error < 0.05 * wanted.max() + 4.5 * spread / draws**0.5).all()
    sums = outgoing_sums(64, targets, draws, generator)
    assert abs(float(sums.std()) / (targets / 192) ** 0.5 - 1) < 0.05


def test_what_fits_nowhere_is_refused() -> None:
    weights, biases = hidden_parameters(FullyConnected((5, 6, 4, 3)))
    x = torch.rand(2, 5)
    with pytest.raises(ValueError, match=r"weights\[1\] must have shape"):
        penalty_flow([weights[0], weights[0]], biases, x)
    with pytest.raises(ValueError, match=r"biases\[0\] must have shape"):
        penalty_flow(weights, biases[::-1], x)
    with pytest.raises(TypeError, match="inputs must be a floating-point"):
        penalty_flow(weights, biases, x.long())
    with pytest.raises(ValueError, match="inputs must be finite"):
        penalty_flow(weights, biases, x * torch.nan)
    with pytest.raises(ValueError, match="one dtype"):
        penalty_flow(weights, biases, x.double())
    with pytest.raises(ValueError, match="one tensor for each hidden layer"):
        penalty_flow([], [], x)
    with pytest.raises(ValueError, match=r"chosen layer must be in 0…1"):
        penalty_paths(weights, biases, x[0], (2, 0, 0))
