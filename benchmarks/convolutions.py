"""Ways to fold convolutional networks: python benchmarks/convolutions.py

The gradients of several networks for one batch of 100 images of MNIST's size
(random pixels: no way looks at their values), cross-entropy and a penalty on
activity; the eight architectures of table 4.1 of Askey-Doran (2021) that fit.
CPU time of one thread; the ways take turns, and the fastest round counts.

- "loop": one network after the other, modules and autograd;
- "vmap": torch.func over stacked parameters, as for any module;
- "grouped": one convolution with a group for each network, channels last
  (channels first is what vmap does), autograd;
- "unfolded": windows and batched matrix products everywhere, autograd;
- "ours": `sparse_book.training.ensemble_convolutions`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import _common  # sets the number of threads before anything else
import torch
from torch import Tensor
from torch.nn import functional as F

from sparse_book.networks.convolutional import (
    CHANNELS,
    KERNELS,
    Convolutional,
)
from sparse_book.training.ensemble import (
    _functional_gradients,
    _Problem,
    _stack,
    seeded_network,
)
from sparse_book.training.ensemble_convolutions import (
    _convolutional_gradients,
)

BATCH, COEFFICIENT = 100, 0.001
WAYS = ("loop", "vmap", "grouped", "unfolded", "ours")
Layer = Callable[[Tensor, Tensor, Tensor], Tensor]


def penalised(answers: Tensor, labels: Tensor, parts: list[Tensor]) -> Tensor:
    """The sum of the networks' losses; answers (networks, batch, classes)."""
    networks, batch = answers.shape[:2]
    loss = F.cross_entropy(
        answers.flatten(0, 1), labels.repeat(networks), reduction="sum"
    )
    activity = torch.stack([part.abs().sum() for part in parts]).sum()
    return (loss + COEFFICIENT * activity) / batch


def grouped_layer(maps: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Networks beside each other as channels: (batch, networks * maps, …)."""
    networks = len(weight)
    groups = networks if maps.shape[1] != weight.shape[2] else 1
    kernels = weight.flatten(0, 1).contiguous(
        memory_format=torch.channels_last
    )
    return F.conv2d(maps, kernels, bias.flatten(), groups=groups)


def unfolded_layer(maps: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Windows and products; maps (networks, batch, …), or shared by all."""
    networks, count, _, side, _ = weight.shape
    shared = maps.ndim == 4
    images = maps if shared else maps.flatten(0, 1)
    columns = F.unfold(images, side)
    if not shared:
        columns = columns.unflatten(0, (networks, -1))
    answers = weight.flatten(2)[:, None] @ columns + bias[:, None, :, None]
    high = images.shape[2] - side + 1
    return answers.view(networks, -1, count, high, high)


def folded(
    network: Convolutional, parameters: dict[str, Tensor], way: str
) -> Callable[[Tensor, Tensor], object]:
    """Gradients by autograd, layers of kernels folded in one of two ways."""
    leaves = {k: p.clone().requires_grad_() for k, p in parameters.items()}
    last = len(network.map_shapes)
    networks = len(leaves["output.bias"])
    layer = grouped_layer if way == "grouped" else unfolded_layer

    def work(images: Tensor, labels: Tensor) -> object:
        maps, parts = images, []
        if way == "grouped":
            maps = maps.contiguous(memory_format=torch.channels_last)
        for place in range(last):
            name = f"hidden.{place}.0"
            maps = layer(
                maps, leaves[f"{name}.weight"], leaves[f"{name}.bias"]
            ).relu()
            parts.append(maps)
        if way == "grouped":
            maps = maps.unflatten(1, (networks, -1)).transpose(0, 1)
        flat = maps.flatten(2)
        for name in (f"hidden.{last}.0", "output"):
            weight, bias = leaves[f"{name}.weight"], leaves[f"{name}.bias"]
            flat = torch.baddbmm(bias[:, None], flat, weight.mT)
            if name != "output":
                flat = flat.relu()
                parts.append(flat)
        loss = penalised(flat, labels, parts)
        return dict(
            zip(
                leaves,
                torch.autograd.grad(loss, list(leaves.values())),
                strict=True,
            )
        )

    return work


def loop(networks: list[Convolutional]) -> Callable[[Tensor, Tensor], object]:
    """Gradients of one network after the other."""

    def one(network: Convolutional, images: Tensor, labels: Tensor) -> object:
        parts, values = [], images
        for layer in network.hidden[:-1]:
            values = layer(values)
            parts.append(values)
        parts.append(network.hidden[-1](values.flatten(1)))
        answers = network.output(parts[-1])
        loss = penalised(answers[None], labels, parts)
        return torch.autograd.grad(loss, list(network.parameters()))

    def work(images: Tensor, labels: Tensor) -> object:
        found = [one(network, images, labels) for network in networks]
        names = [name for name, _ in networks[0].named_parameters()]
        columns = (torch.stack(column) for column in zip(*found, strict=True))
        return dict(zip(names, columns, strict=True))

    return work


def ways_of(
    networks: list[Convolutional],
) -> dict[str, Callable[[Tensor, Tensor], object]]:
    """Every way as a function of images and labels."""
    stacked = _stack(networks, torch.device("cpu"))
    one = networks[0]
    problem = _Problem(one, one.hidden_names, "cross-entropy", False)
    some = next(iter(stacked.values()))
    prices = torch.full((len(networks),), COEFFICIENT, dtype=some.dtype)
    by = {
        "vmap": _functional_gradients(problem),
        "ours": _convolutional_gradients(problem),
    }
    found = {
        way: lambda x, t, g=gradients: g(stacked, prices, x[None], t[None])[0]
        for way, gradients in by.items()
    }
    found["loop"] = loop(networks)
    for way in ("grouped", "unfolded"):
        found[way] = folded(one, stacked, way)
    return {way: found[way] for way in WAYS}


def measure(
    layers: int, kernel: int, networks: int, rounds: int
) -> dict[str, float]:
    """Milliseconds per network of every way."""

    def build() -> Convolutional:
        return Convolutional((1, 28, 28), CHANNELS[:layers], kernel)

    several = [seeded_network(build, seed) for seed in range(networks)]
    draws = torch.Generator().manual_seed(0)
    images = torch.rand(BATCH, 1, 28, 28, generator=draws)
    labels = torch.randint(10, (BATCH,), generator=draws)
    ways = ways_of(several)  # type: ignore[arg-type]
    best = dict.fromkeys(WAYS, float("inf"))
    for turn in range(rounds + 1):  # the first is to warm up
        for way, work in ways.items():
            start = time.process_time()
            work(images, labels)
            seconds = time.process_time() - start
            if turn:
                best[way] = min(best[way], 1e3 * seconds / networks)
    return best


def main() -> None:
    """Measure, print the table, write the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--csv", type=Path, help="where to write rows")
    options = parser.parse_args()
    rows, shown = [], []
    for layers in range(1, len(CHANNELS) + 1):
        for kernel in KERNELS:
            if (layers, kernel) == (3, 11):
                continue  # does not fit
            best = measure(layers, kernel, options.networks, options.rounds)
            for way, milliseconds in best.items():
                rows.append(
                    {
                        "layers": str(layers),
                        "kernel": str(kernel),
                        "way": way,
                        "networks": str(options.networks),
                        "rounds": str(options.rounds),
                        "data": "random pixels",
                        "milliseconds": f"{milliseconds:.4g}",
                    }
                )
            times = [f"{best[way]:.1f}" for way in WAYS]
            shown.append([str(layers), str(kernel), *times])
    _common.print_table(
        "CPU milliseconds per network: gradients of a batch of 100",
        ["layers", "kernel", *WAYS],
        shown,
    )
    if options.csv:
        _common.write_rows(options.csv, rows)


if __name__ == "__main__":
    main()
