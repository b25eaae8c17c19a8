"""Stored networks as ordinary modules, for tests of widgets."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from sparse_book.networks.autoencoder import Autoencoder
from sparse_book.networks.convolutional import Convolutional
from sparse_book.networks.fully_connected import FullyConnected
from sparse_book.show.stored_networks import read_networks, restore_networks

from conftest import ROOT

RESULTS = ROOT / "results" / "networks"
BUILD: Mapping[str, Callable[[], nn.Module]] = {
    "feature_maps": lambda: Convolutional((1, 28, 28), (6, 16), 7),
    "firing": lambda: FullyConnected((784, 64, 10)),
    "rebuilding": lambda: Autoencoder((784, 128, 32, 128, 784)),
}


def network_of(name: str, index: int) -> nn.Module:
    """Return a stored network as an ordinary module in double precision."""
    rounded = read_networks(RESULTS / f"{name}.npz")
    network = BUILD[name]().double()
    stacked = restore_networks(rounded, torch.float64)
    network.load_state_dict({k: v[index] for k, v in stacked.items()})
    return network.eval()


def stored_digits() -> Tensor:
    """Return the digits in double precision."""
    with np.load(RESULTS / "digits.npz") as file:
        return torch.from_numpy(file["images"]).double() / 255


def lines(name: str) -> list[dict[str, str]]:
    """Return what was measured of the networks of one name."""
    with (RESULTS / "networks.csv").open(encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["name"] == name]


def normal(*shape: int, seed: int = 1) -> torch.Tensor:
    """Normal numbers in float64, always the same."""
    draws = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=draws, dtype=torch.float64)
