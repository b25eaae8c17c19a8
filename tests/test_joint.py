"""Networks that name and rebuild, and two ways to grow maps."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from sparse_book.networks.fully_connected import FullyConnected
from sparse_book.networks.joint import (
    DECODERS,
    Joint,
    as_subpixel,
    draw_parameters,
    joint_loss,
    per_image,
)
from sparse_book.networks.record import record
from sparse_book.training.activity_penalty import activity_penalty
from sparse_book.training.ensemble import Ensemble, train_ensemble


@given(
    side=st.integers(1, 6),
    stride=st.integers(1, 4),
    below=st.integers(1, 3),
    above=st.integers(1, 3),
    size=st.integers(1, 6),
)
def test_a_transposed_convolution_is_a_shuffle(
    side, stride, below, above, size
) -> None:
    draws = torch.Generator().manual_seed(side * stride + size)
    options = {"generator": draws, "dtype": torch.float64}
    kernels = torch.randn(below, above, side, side, **options)
    maps = torch.randn(2, below, size, size + 1, **options)
    stamped = F.conv_transpose2d(maps, kernels, stride=stride)
    taps = math.ceil(side / stride)
    padded = F.pad(maps, (taps - 1, 0, taps - 1, 0))
    answers = F.conv2d(padded, as_subpixel(kernels, stride))
    grown = F.pixel_shuffle(answers, stride)
    assert grown.shape == (2, above, stride * size, stride * (size + 1))
    room = [
        max(0, a - b) for a, b in zip(grown.shape, stamped.shape, strict=True)
    ]
    stamped = F.pad(stamped, (0, room[3], 0, room[2]))
    stamped = stamped[..., : grown.shape[2], : grown.shape[3]]
    torch.testing.assert_close(grown, stamped)


@pytest.mark.parametrize("decoder", [None, *DECODERS])
def test_the_published_network(decoder) -> None:
    network = Joint(decoder=decoder)
    digits = torch.rand(2, 1, 28, 28)
    with record(network, network.hidden_names) as heard:
        answer = network(digits)
    assert heard["hidden.0"].shape == (2, 200, 14, 14)
    logits = answer if decoder is None else answer[0]
    assert logits.shape == (2, 10)
    if decoder is not None:
        assert answer[1].shape == digits.shape


def test_windows_begin_at_the_first_pixel() -> None:
    network = Joint((1, 6, 6), maps=3).double()
    image = torch.rand(1, 1, 6, 6, dtype=torch.float64)
    layer = network.hidden[0][1]
    maps = network.hidden[0](image)
    around = torch.zeros(7, 7, dtype=torch.float64)
    around[:6, :6] = image[0, 0]
    for i in range(3):
        for j in range(3):
            patch = around[2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
            meant = (layer.weight[:, 0] * patch).sum((1, 2)) + layer.bias
            torch.testing.assert_close(maps[0, :, i, j], meant.relu())


@given(
    price=st.floats(0, 1),
    batch=st.integers(1, 500),
)
def test_prices_are_converted(price, batch) -> None:
    activity = torch.rand(batch, 7, dtype=torch.float64)
    ours = activity_penalty({"a": activity}, per_image(price, batch))
    torch.testing.assert_close(ours, price * activity.sum())


def test_loss_is_a_mean_over_images() -> None:
    network = Joint((1, 8, 8), maps=4, decoder="transposed").double()
    draws = torch.Generator().manual_seed(0)
    x = torch.rand(6, 1, 8, 8, generator=draws, dtype=torch.float64)
    t = torch.arange(6)
    logits, rebuilt = network(x)
    whole = joint_loss(logits, rebuilt, x, t, weight=0.3)
    each = [
        joint_loss(logits[[k]], rebuilt[[k]], x[[k]], t[[k]], weight=0.3)
        for k in range(6)
    ]
    torch.testing.assert_close(whole, torch.stack(each).mean())
    torch.testing.assert_close(
        joint_loss(logits, rebuilt, x, t, weight=0), F.cross_entropy(logits, t)
    )
    assert joint_loss(logits, x, x, t) == F.cross_entropy(logits, t)


def test_parameters_are_drawn_as_announced() -> None:
    torch.manual_seed(0)
    network = FullyConnected((784, 784, 10))
    draw_parameters(network)
    weights = network.hidden[0][0].weight.detach()
    assert abs(float(weights.std()) - 0.1) < 1e-3
    assert float(weights.abs().max()) > 0.3  # not cut off
    assert (network.hidden[0][0].bias == 0.1).all()
    assert (network.output.bias == 0.1).all()


def test_an_ensemble_of_classifiers_trains() -> None:
    draws = torch.Generator().manual_seed(0)
    x = torch.rand(20, 1, 8, 8, generator=draws)
    t = torch.randint(10, (20,), generator=draws)
    crowd = Ensemble(
        lambda: Joint((1, 8, 8), maps=3), [0, 1], layers=["hidden.0"]
    )
    rows = train_ensemble(crowd, x, t, epochs=3, coefficient=[0.0, 1.0])
    assert rows[-1].activity[1] < rows[0].activity[1]
    assert rows[-1].loss[0] < rows[0].loss[0]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Joint((1, 8, 7)), "even sides"),
        (lambda: Joint(decoder="magic"), "decoder must be one of"),
        (lambda: Joint((1, 8, 8), outputs=0), "outputs must be at least 1"),
        (lambda: Joint((1, 8, 8))(torch.rand(1, 1, 8, 6)), "(batch, 1, 8, 8)"),
        (
            lambda: Joint((1, 8, 8)).check_images(torch.rand(1, 1, 8, 8) / 0),
            "finite",
        ),
        (lambda: per_image(0.1, 0), "batch_size must be at least 1"),
        (lambda: as_subpixel(torch.rand(1, 1, 3), 2), "kernels must have"),
    ],
)
def test_refused(call, words) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        call()
    assert words in str(caught.value)
