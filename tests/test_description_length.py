"""Description length: properties of counting, of the loss and of φ."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparse_book.measures.description_length import (
    compression_ratio,
    description_activations,
    description_weights,
    inverse_compression_ratio,
    normalized_loss,
    phi,
)

SEEDS = st.integers(0, 2**31)
SIDES = st.lists(st.integers(1, 9), min_size=1, max_size=5)


@given(SIDES, st.integers(1, 3))
def test_weights_of_shapes_and_tensors(sides: list[int], axes: int) -> None:
    shapes = [(side,) * axes for side in sides]
    tensors = [torch.zeros(shape) for shape in shapes]
    assert description_weights(shapes) == sum(side**axes for side in sides)
    assert description_weights(tensors) == description_weights(shapes)
    assert description_weights(tensors, "sides") == sum(sides)


def test_no_kernels_and_scalars() -> None:
    assert description_weights([]) == 0
    assert description_weights([()]) == 1  # one number
    with pytest.raises(ValueError, match="equal sides"):
        description_weights([(2, 3)], "sides")
    with pytest.raises(ValueError, match="equal sides"):
        description_weights([()], "sides")


@given(
    SEEDS, st.integers(1, 3), st.sampled_from([torch.float32, torch.float64])
)
def test_counts_match_brute_force(
    seed: int, dimensions: int, dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(seed)
    shape = (4, 2, *(3 + k for k in range(dimensions)))
    maps = torch.randn(*shape, generator=generator).to(dtype)
    maps = maps * (torch.rand(*shape, generator=generator) < 0.3)
    active = description_activations(maps, dimensions)
    assert active.shape == (4,) and active.dtype == dtype
    assert active.tolist() == [int(one.count_nonzero()) for one in maps]


@given(
    st.integers(0, 500),
    st.integers(0, 50),
    st.integers(1, 999),
    st.integers(1, 3),
)
def test_ratio_and_its_inverse(
    weights: int, count: int, size: int, dimensions: int
) -> None:
    active = torch.tensor(count, dtype=torch.float64)
    options = {"weights": weights, "size": size, "dimensions": dimensions}
    numbers = weights + (dimensions + 1) * count
    inverse = inverse_compression_ratio(active, **options)
    assert inverse.item() == pytest.approx(numbers / size)
    ratio = compression_ratio(active, **options).item()
    assert ratio == pytest.approx(size / numbers if numbers else math.inf)


@given(SEEDS, st.floats(1e-3, 1e3))
def test_loss_is_relative(seed: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    signal, guess = torch.randn(2, 3, 20, generator=generator).double()
    loss = normalized_loss(guess, signal)
    torch.testing.assert_close(
        normalized_loss(scale * guess, scale * signal), loss
    )
    shrunk = normalized_loss(0.25 * signal, signal)
    torch.testing.assert_close(shrunk, torch.full((3,), 0.75).double())
    assert normalized_loss(-signal, signal).tolist() == [2.0] * 3


def test_silent_signals_do_not_touch_their_neighbours() -> None:
    signal = torch.tensor([[0.0, 0.0], [1.0, -1.0], [0.0, 0.0]])
    guess = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1e-30]])
    assert normalized_loss(guess, signal).tolist() == [0.0, 0.5, math.inf]
    guess.requires_grad_()
    loss = normalized_loss(guess, signal)[1]
    (gradient,) = torch.autograd.grad(loss, guess)
    assert bool(gradient.isfinite().all())


@given(SEEDS)
def test_phi_orders_and_averages(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    cost, loss = torch.rand(2, 50, generator=generator).double()
    two, one = phi(cost, loss), phi(cost, loss, 1)
    tiny = 1e-12
    assert bool((two + tiny >= torch.maximum(cost, loss)).all())
    assert bool((two <= 2 * one + tiny).all())
    assert bool((two + tiny >= math.sqrt(2) * one).all())
    assert phi(cost.mean(), loss.mean()) <= two.mean() + tiny
    assert bool((phi(cost + 0.1, loss) > two).all())
    assert bool((phi(cost, loss + 0.1, 1) > one).all())
