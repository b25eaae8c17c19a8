"""Competing extrema against a loop over all candidates; cosine distances."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from sparse_book.san.competition import competing_extrema, cosine_distances
from sparse_book.san.extrema import _candidates, _rounds, extrema


def by_loop(maps: Tensor, distance: int) -> Tensor:
    """Go through the candidates of all kernels by descending magnitude."""
    axes = tuple(range(2 - maps.ndim, 0))
    found = torch.zeros_like(maps)
    marks = _candidates(maps, axes)
    for b in range(len(maps)):
        places = [tuple(p) for p in marks[b].nonzero().tolist()]
        places.sort(key=lambda p: (-abs(float(maps[b][p])), p[1:], p[0]))
        kept: list[tuple[int, ...]] = []
        for p in places:
            far = [
                max(abs(s - t) for s, t in zip(p[1:], q[1:], strict=True))
                > distance
                for q in kept
            ]
            if all(far):
                kept.append(p)
                found[b][p] = maps[b][p]
    return found


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    kernels=st.integers(1, 4),
    side=st.integers(1, 7),
    flat=st.booleans(),
    coarse=st.booleans(),
)
def test_competition_is_greedy_over_all_kernels(
    seed: int, kernels: int, side: int, flat: bool, coarse: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    size = (40,) if flat else (9, 11)
    maps = torch.randn(2, kernels, *size, generator=generator)
    if coarse:  # many ties and plateaus
        maps = maps.round()
    found = competing_extrema(maps, side, 2)
    assert torch.equal(found, by_loop(maps, max(side - 2, 1)))
    if kernels == 1:
        assert torch.equal(found, extrema(maps, side, 2))


def test_competition_in_rounds_elsewhere() -> None:
    maps = torch.randn(2, 3, 50, generator=torch.Generator().manual_seed(0))
    sizes = torch.where(_candidates(maps, (-1,)), maps.abs(), -1.0)
    kept, _ = _rounds(sizes.amax(1, keepdim=True), 4, (-1,))
    found = competing_extrema(maps, 4)
    assert torch.equal((found != 0).any(1, keepdim=True), kept)


def test_gradients_pass_through_what_is_kept() -> None:
    maps = torch.randn(2, 3, 50, generator=torch.Generator().manual_seed(0))
    maps.requires_grad_()
    found = competing_extrema(maps, 4)
    found.sum().backward()
    assert torch.equal(maps.grad, (found != 0).to(maps))


@given(st.integers(1, 300), st.integers(1, 300), st.integers(2, 60))
def test_cosine_distances_go_from_first_to_last(
    first: int, last: int, epochs: int
) -> None:
    found = cosine_distances(first, last, epochs)
    assert len(found) == epochs
    assert (found[0], found[-1]) == (first, last)
    assert found == sorted(found, reverse=first > last)
    steps = [a + b for a, b in zip(found, found[::-1], strict=True)]
    assert all(abs(step - first - last) <= 1 for step in steps)


def test_refusals() -> None:
    for values in ((0, 5, 3), (5, 0, 3), (5, 5, 0)):
        with pytest.raises(ValueError, match="must be at least 1"):
            cosine_distances(*values)
    assert cosine_distances(4, 9, 1) == [9]
    with pytest.raises(ValueError, match="number of kernels must be"):
        competing_extrema(torch.zeros(1, 0, 9), 3)
    with pytest.raises(ValueError, match="kernel_size must be in 1…9"):
        competing_extrema(torch.zeros(1, 2, 9), 10)
    with pytest.raises(ValueError, match="similarities must be finite"):
        competing_extrema(torch.full((1, 2, 9), torch.nan), 3)
