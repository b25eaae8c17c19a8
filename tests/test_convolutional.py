"""Convolutional networks: sizes, layers, what is refused at the door."""

from __future__ import annotations

import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparse_book.networks.convolutional import (
    CHANNELS,
    KERNELS,
    Convolutional,
    kernel_tiles,
)
from sparse_book.networks.record import record
from sparse_book.training.activity_penalty import activity_penalty

MNIST, CIFAR = (1, 28, 28), (3, 32, 32)
NINE = [(layers, kernel) for layers in (1, 2, 3) for kernel in KERNELS]


@pytest.mark.parametrize("image", [MNIST, CIFAR])
@pytest.mark.parametrize(("layers", "kernel"), NINE)
def test_the_table(image, layers, kernel) -> None:
    if (image, layers, kernel) == (MNIST, 3, 11):
        with pytest.raises(ValueError, match="28 x 28 → 18 x 18 → 8 x 8"):
            Convolutional(image, CHANNELS, 11)
        return
    network = Convolutional(image, CHANNELS[:layers], kernel)
    assert network(torch.rand(2, *image)).shape == (2, 10)
    side = image[1] - layers * (kernel - 1)
    last = CHANNELS[layers - 1]
    assert network.map_shapes[-1] == (last, side, side)
    assert network.hidden[-1][0].in_features == last * side**2
    assert network.units[-1] == 64 and len(network.units) == layers + 1


def test_every_hidden_layer_is_priced_once() -> None:
    network = Convolutional(MNIST, (6, 16), 7).double()
    images = torch.rand(4, *MNIST, dtype=torch.float64)
    with record(network, network.hidden_names) as heard:
        network(images)
    assert list(heard) == list(network.hidden_names)
    sizes = [part.flatten(1).shape[1] for part in heard.values()]
    assert tuple(sizes) == network.units
    meant = sum(part.sum() for part in heard.values()) / 4
    torch.testing.assert_close(activity_penalty(heard, 1.0), meant)
    assert all((part >= 0).all() for part in heard.values())


@given(
    layers=st.integers(1, 4),
    kernel=st.integers(1, 9),
    height=st.integers(3, 20),
    width=st.integers(3, 20),
)
def test_either_it_runs_or_it_says_where_it_ends(
    layers, kernel, height, width
) -> None:
    fits = min(height, width) - layers * (kernel - 1) >= 1
    if not fits:
        with pytest.raises(ValueError, match="do not fit in layer"):
            Convolutional((2, height, width), [3] * layers, kernel)
        return
    network = Convolutional((2, height, width), [3] * layers, kernel, units=4)
    assert network(torch.rand(1, 2, height, width)).shape == (1, 10)


def test_a_network_is_pickled_and_its_state_loads() -> None:
    network = Convolutional((1, 8, 8), (6,), 3)
    images = torch.rand(3, 1, 8, 8)
    copy = pickle.loads(pickle.dumps(network))
    assert torch.equal(copy(images), network(images))
    other = Convolutional((1, 8, 8), (6,), 3)
    other.load_state_dict(network.state_dict())
    assert torch.equal(other(images), network(images))


def test_images_at_the_door() -> None:
    network = Convolutional((3, 8, 8), (6,), 3, pixels=(-1.0, 1.0))
    good = 2 * torch.rand(5, 3, 8, 8) - 1
    assert network.check_images(good) is good
    bad = {
        r"shape \(batch, 3, 8, 8\), got \(5, 1, 8, 8\)": good[:, :1],
        r"shape \(batch, 3, 8, 8\), got \(5, 3, 8, 7\)": good[..., 1:],
        r"shape \(batch, 3, 8, 8\), got \(3, 8, 8\)": good[0],
        r"shape \(batch, 3, 8, 8\), got \(0, 3, 8, 8\)": good[:0],
        "values from -1 to 1": 2 * good.sign(),
        "960 NaN": good * torch.nan,
        "infinite": good / 0,
    }
    for words, images in bad.items():
        with pytest.raises(ValueError, match=words):
            network.check_images(images)
    for images in (good.long(), [[0.0]]):
        with pytest.raises(TypeError, match="images must be"):
            network.check_images(images)
    with pytest.raises(ValueError, match=r"got \(5, 1, 8, 8\)"):
        network(good[:, :1])


def test_kernels_as_tiles() -> None:
    network = Convolutional(CIFAR, (6, 16), 7)
    tiles = kernel_tiles(network.hidden[1][0])
    assert tiles.shape == (96, 7, 7) and not tiles.requires_grad
    rows = tiles.view(16, 6, 7, 7)
    assert torch.equal(rows, network.hidden[1][0].weight.detach())
