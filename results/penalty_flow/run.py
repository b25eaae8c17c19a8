"""Train networks on MNIST with the way back of the penalty open and shut.

    SPARSE_BOOK_DATA=<folder> python results/penalty_flow/run.py

Two hidden layers of 64 ReLU units, trained as Askey-Doran (2021) trained
his: Adam, learning rate 0.001, batches of 100, 15 epochs, 50,000 images.
Writes `mnist.csv`, one line per network, with where it came from.
"""

from __future__ import annotations

import csv
import hashlib
import platform
import time
from itertools import product
from pathlib import Path

import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional as F

from sparse_book import __version__
from sparse_book.data.load import load
from sparse_book.networks.fully_connected import FullyConnected
from sparse_book.training.penalty_flow import ValvedPenalty

FOLDER = Path(__file__).resolve().parent
COEFFICIENTS = (0.002, 0.008, 0.016, 0.032)
VALVES, SEEDS = (1.0, 0.0), (0, 1)
SIZES, EPOCHS, BATCH, RATE = (784, 64, 64, 10), 15, 100, 0.001
CONDITIONS = list(product(COEFFICIENTS, VALVES, SEEDS))


def train(images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Return the stacked parameters of all networks after training."""
    networks = []
    for *_, seed in CONDITIONS:
        torch.manual_seed(seed)
        networks.append(ValvedPenalty(FullyConnected(SIZES)))
    weights, _ = stack_module_state(networks)
    prices, valves, _ = torch.tensor(CONDITIONS).T

    def loss(
        weights: dict[str, Tensor],
        price: Tensor,
        valve: Tensor,
        x: Tensor,
        y: Tensor,
    ) -> Tensor:
        logits, activity = functional_call(networks[0], weights, (x, valve))
        return F.cross_entropy(logits, y) + price * activity.sum()

    losses = vmap(loss, in_dims=(0, 0, 0, None, None))
    adam = torch.optim.Adam(weights.values(), lr=RATE)
    order = torch.Generator().manual_seed(0)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(images), generator=order).split(BATCH):
            adam.zero_grad()
            x, y = images[batch], labels[batch]
            losses(weights, prices, valves, x, y).sum().backward()
            adam.step()
    return {name: value.detach() for name, value in weights.items()}


def measure(
    weights: dict[str, Tensor], images: Tensor, labels: Tensor
) -> list[dict[str, float]]:
    """Return accuracy and active units of every network."""
    rows = []
    for k in range(len(CONDITIONS)):
        network = FullyConnected(SIZES)
        prefix = "network."
        network.load_state_dict(
            {n.removeprefix(prefix): v[k] for n, v in weights.items()}
        )
        with torch.no_grad():
            first = network.hidden[0](images)
            second = network.hidden[1](first)
            right = network.output(second).argmax(-1) == labels
        rows.append(
            {
                "accuracy": float(right.float().mean()),
                "first": float((first > 0).float().sum(-1).mean()),
                "second": float((second > 0).float().sum(-1).mean()),
            }
        )
    return rows


def main() -> None:
    """Train, measure, write."""
    data, unseen = load("mnist"), load("mnist", split="test")
    split = torch.Generator().manual_seed(42)
    chosen = torch.randperm(len(data.labels), generator=split)[:50_000]
    images = data.images.flatten(1)[chosen]
    start = time.perf_counter()
    weights = train(images, data.labels[chosen])
    seconds = round(time.perf_counter() - start, 1)
    source = {
        "data": "mnist",
        "checksum": data.checksum,
        "epochs": EPOCHS,
        "seconds_together": seconds,
        "device": "cpu",
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "sparse_book": __version__,
        "script": hashlib.sha256(Path(__file__).read_bytes()).hexdigest(),
    }
    found = measure(weights, unseen.images.flatten(1), unseen.labels)
    names = ("coefficient", "valve", "seed")
    rows = [
        dict(zip(names, condition, strict=True)) | row | source
        for condition, row in zip(CONDITIONS, found, strict=True)
    ]
    path = FOLDER / "mnist.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
