"""Convolution: sizes, windows, gradients, receptive fields."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import convolve2d, correlate2d
from torch.nn import functional as F

from sparse_book.networks.convolution import (
    correlate,
    output_size,
    receptive_fields,
    windows,
)


def random(seed: int, *shape: int) -> torch.Tensor:
    draws = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=draws, dtype=torch.float64)


@settings(max_examples=60)
@given(
    side=st.integers(1, 5),
    height=st.integers(5, 12),
    width=st.integers(5, 12),
    stride=st.integers(1, 4),
    padding=st.integers(0, 3),
    seed=st.integers(0, 99),
)
def test_as_torch_does(side, height, width, stride, padding, seed) -> None:
    images, kernels = (
        random(seed, 2, 3, height, width),
        random(1, 4, 3, side, side),
    )
    bias = random(2, 4)
    tensors = [t.requires_grad_() for t in (images, kernels, bias)]
    options = {"stride": stride, "padding": padding}
    ours, theirs = (
        correlate(*tensors, **options),
        F.conv2d(*tensors, **options),
    )
    torch.testing.assert_close(ours, theirs)
    weigh = random(3, *ours.shape)
    torch.testing.assert_close(
        torch.autograd.grad((ours * weigh).sum(), tensors),
        torch.autograd.grad((theirs * weigh).sum(), tensors),
    )
    assert ours.shape[2] == output_size(height, side, stride, padding)
    assert ours.shape[3] == output_size(width, side, stride, padding)
    unfolded = windows(images.detach(), side, **options)
    assert unfolded.shape == (2, 3 * side**2, ours.shape[2] * ours.shape[3])


def test_against_signal_processing() -> None:
    image, kernel = random(0, 9, 11), random(1, 3, 3)
    found = correlate(image[None, None], kernel[None, None])[0, 0]
    slid = correlate2d(image.numpy(), kernel.numpy(), mode="valid")
    torch.testing.assert_close(found, torch.tensor(slid))
    turned = correlate(image[None, None], kernel.flip(0, 1)[None, None])[0, 0]
    convolved = convolve2d(image.numpy(), kernel.numpy(), mode="valid")
    torch.testing.assert_close(turned, torch.tensor(convolved))


def test_double_gradients() -> None:
    images, kernels = random(0, 1, 2, 4, 4), random(1, 2, 2, 3, 3)
    tensors = (images.requires_grad_(), kernels.requires_grad_())
    assert torch.autograd.gradgradcheck(correlate, tensors)


@given(
    sides=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    strides=st.lists(st.integers(1, 3), min_size=3, max_size=3),
)
def test_fields_are_what_a_unit_depends_on(sides, strides) -> None:
    steps = strides[: len(sides)]
    field, distance = receptive_fields(sides, steps)[-1]
    image = torch.ones(1, 1, 100, 100, requires_grad=True)
    value = image
    for side, stride in zip(sides, steps, strict=True):
        value = correlate(value, torch.ones(1, 1, side, side), stride=stride)
    for place in (0, 1):
        (slope,) = torch.autograd.grad(
            value[0, 0, 0, place], image, retain_graph=True
        )
        lit = (slope[0, 0, 0] != 0).nonzero().flatten()
        reach = lit.max() - lit.min() + 1
        assert (int(lit.min()), int(reach)) == (place * distance, field)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: output_size(0, 3), "size must be at least 1"),
        (lambda: output_size(9, 0), "kernel must be at least 1"),
        (lambda: output_size(9, 3, padding=-1), "padding must be at least 0"),
        (lambda: output_size(8, 11, padding=1), "11 x 11 weights"),
        (
            lambda: correlate(torch.rand(1, 1, 4, 9), torch.rand(1, 1, 5, 5)),
            "fit",
        ),
        (lambda: windows(torch.rand(4, 4), 2), "(batch, channels"),
        (lambda: receptive_fields((0,)), "kernels must be at least 1"),
        (lambda: receptive_fields((1,), (0,)), "strides must be at least 1"),
    ],
)
def test_refused(call, words) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        call()
    assert words in str(caught.value)


def test_integers_are_refused() -> None:
    with pytest.raises(TypeError, match="floating-point"):
        correlate(torch.ones(1, 1, 4, 4).long(), torch.ones(1, 1, 2, 2))
    with pytest.raises(TypeError, match="size"):
        output_size(4.5, 2)  # type: ignore[arg-type]
