"""What skipping silent units saves: python benchmarks/silent.py

CPU time of one thread, batches of 100 images; dense and skipping take turns,
and the fastest round counts.

- "layer": one layer of kernels, forwards and backwards, behind maps of which
  a share is active, at random places;
- "training": a step (gradients and Adam) of real networks on MNIST, which
  have learned at a price on activity for some hundred steps. Needs
  SPARSE_BOOK_DATA; left out without it.

"Dense" is what the library does where too many units are active: PyTorch's
convolutions and their gradients, for 200 maps and autoencoders products of
matrices. Of autoencoders, units that are silent for a whole batch are left
out; their share is that of the others.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _common  # sets the number of threads before anything else
import torch
from torch import Tensor

from sparse_book.data.load import load
from sparse_book.networks.autoencoder import SIZES, Autoencoder
from sparse_book.networks.convolutional import CHANNELS, Convolutional
from sparse_book.networks.joint import Joint
from sparse_book.studies.blog import _gradients
from sparse_book.training import silent
from sparse_book.training.ensemble import Ensemble, train_ensemble
from sparse_book.training.ensemble_convolutions import _maps_back

BATCH = 100
SHARES = (0.003, 0.01, 0.03, 0.1, 0.2, 0.4, 0.8)
LAYERS = (  # maps below and above, kernel, sides of images
    (6, 16, 3, 26),
    (6, 16, 7, 22),
    (6, 16, 11, 18),
    (16, 24, 3, 24),
    (16, 24, 7, 16),
)
PRICES = (0.0, 0.0005, 0.002, 0.006)
BLOG_PRICES = (0.0, 0.001, 0.005, 0.05)  # per image
COPY_PRICES = (0.0, 0.00005, 0.0002, 0.0008)


def take_turns(
    ways: dict[str, Callable[[], object]], rounds: int
) -> dict[str, float]:
    """Milliseconds of each way, the fastest of some rounds."""
    best = dict.fromkeys(ways, float("inf"))
    for turn in range(rounds + 1):  # the first is to warm up
        for way, work in ways.items():
            start = time.process_time()
            work()
            if turn:
                spent = 1e3 * (time.process_time() - start)
                best[way] = min(best[way], spent)
    return best


def layer_ways(
    maps: Tensor, weight: Tensor, bias: Tensor, delta: Tensor
) -> dict[str, Callable[[], object]]:
    """One layer forwards and backwards, by either way."""

    def dense() -> object:
        states = torch.conv2d(maps, weight, bias)
        out = {"0.weight": torch.empty_like(weight), "0.bias": bias.clone()}
        own = {"0.weight": weight}
        back = _maps_back("0", own, out, delta, maps, None)
        return states, out["0.weight"], back * (maps > 0)

    def skipping() -> object:
        active = silent._active(maps, share=1.0)
        assert active is not None
        states = silent._layer(active, weight, bias)
        return states, *silent._layer_back(delta, active, weight)

    return {"dense": dense, "skipping": skipping}


def layers(rounds: int) -> list[dict[str, str]]:
    """Rows of single layers."""
    draws = torch.Generator().manual_seed(0)
    rows = []
    for below, above, side, length in LAYERS:
        weight = torch.randn(above, below, side, side, generator=draws)
        bias = torch.randn(above, generator=draws)
        size = length - side + 1
        delta = torch.randn(BATCH, above, size, size, generator=draws)
        for share in SHARES:
            shape = BATCH, below, length, length
            kept = torch.rand(shape, generator=draws) < share
            maps = (torch.rand(shape, generator=draws) + 0.1) * kept
            best = take_turns(layer_ways(maps, weight, bias, delta), rounds)
            title = f"{below} to {above} maps, {side} × {side}"
            rows += _rows("layer", title, "", share, best)
    return rows


def _rows(
    what: str, shape: str, price: str, share: float, best: dict[str, float]
) -> list[dict[str, str]]:
    """Rows of the ways of one measurement."""
    return [
        {
            "what": what,
            "shape": shape,
            "price": price,
            "share": f"{share:.4g}",
            "way": way,
            "milliseconds": f"{spent:.4g}",
        }
        for way, spent in best.items()
    ]


def _with_share(share: float | None, work: Callable[[], object]) -> object:
    """Do some work with another limit for skipping, if any; 0 is dense."""
    usual = silent._SHARE, silent._JOINT_SHARE
    if share is not None:
        silent._SHARE = silent._JOINT_SHARE = share
    try:
        return work()
    finally:
        silent._SHARE, silent._JOINT_SHARE = usual


def both_ways(work: Callable[[], object]) -> dict[str, Callable[[], object]]:
    """Some work without and with skipping."""
    return {
        "dense": lambda: _with_share(0.0, work),
        "skipping": lambda: _with_share(None, work),
    }


def mnist() -> tuple[Tensor, Tensor]:
    """Some images of MNIST and their labels."""
    found = load("mnist", split="train")
    images = found.images[:5000].float().reshape(-1, 1, 28, 28)
    return images, found.labels[:5000]


def convolutional(rounds: int) -> list[dict[str, str]]:
    """Rows of the thesis's networks, each priced alone."""
    images, labels = mnist()
    rows = []
    for count, side in ((2, 7), (3, 3), (3, 7)):

        def build(count: int = count, side: int = side) -> Convolutional:
            return Convolutional((1, 28, 28), CHANNELS[:count], side)

        for price in PRICES:
            crowd = Ensemble(build, [0, 1])
            options: dict[str, Any] = {"coefficient": price}
            train_ensemble(crowd, images, labels, epochs=5, **options)
            share = _share_below(crowd, images[:500])
            some = images[:1000], labels[:1000]  # ten steps, two networks
            best = take_turns(
                both_ways(
                    lambda c=crowd, o=options, s=some: train_ensemble(  # type: ignore[misc]
                        c, *s, epochs=1, **o
                    )
                ),
                rounds,
            )
            best = {way: spent / 20 for way, spent in best.items()}
            title = f"{count} layers, {side} × {side}"
            rows += _rows("training", title, f"{price:g}", share, best)
    return rows


def _share_below(crowd: Ensemble, images: Tensor) -> float:
    """Share of active units of layers that have kernels above them."""
    _, heard = crowd.forward(images)
    names = crowd.layers[:-2]
    active = sum(float((heard[name] > 0).sum()) for name in names)
    return active / sum(heard[name].numel() for name in names)


def joint(rounds: int) -> list[dict[str, str]]:
    """Rows of the article's networks of 200 maps."""
    images, labels = mnist()
    rows = []
    for decoder in (None, "transposed", "subpixel"):
        for price in BLOG_PRICES:
            torch.manual_seed(0)
            network = Joint(decoder=decoder)
            descent = torch.optim.Adam(network.parameters(), fused=True)

            def step(
                place: int,
                network: Joint = network,
                descent: torch.optim.Adam = descent,
                price: float = price,
            ) -> None:
                here = slice(place, place + BATCH)
                _gradients(network, price, images[here], labels[here])
                descent.step()

            for place in range(0, 5 * len(images), BATCH):
                step(place % len(images))
            with torch.no_grad():
                maps = network.hidden[0](images[:BATCH])
            share = float((maps > 0).float().mean())
            best = take_turns(both_ways(lambda s=step: s(0)), rounds)  # type: ignore[misc]
            title = f"200 maps, {decoder or 'no'} decoder"
            rows += _rows("training", title, f"{price:g}", share, best)
    return rows


def autoencoders(rounds: int) -> list[dict[str, str]]:
    """Rows of the thesis's autoencoders, each alone."""
    images, _ = mnist()
    rows = []
    for sizes in SIZES.values():
        for price in COPY_PRICES:
            alone = Ensemble(lambda s=sizes: Autoencoder(s), [0])  # type: ignore[misc]

            def train(
                count: int,
                epochs: int,
                method: str,
                alone: Ensemble = alone,
                price: float = price,
            ) -> object:
                some = images[:count]
                return train_ensemble(
                    alone,
                    some,
                    some,
                    coefficient=price,
                    epochs=epochs,
                    loss="squared-error",
                    method=method,
                )

            train(len(images), 8, "auto")
            _, heard = alone.forward(images[:BATCH])
            live = [layer[0].amax(0) > 0 for layer in heard.values()]
            share = float(torch.cat(live).float().mean())
            best = take_turns(
                {
                    "dense": lambda t=train: t(1000, 1, "stacked"),  # type: ignore[misc]
                    "skipping": lambda t=train: t(1000, 1, "auto"),  # type: ignore[misc]
                },
                rounds,
            )
            best = {way: spent / 10 for way, spent in best.items()}
            title = "autoencoder " + "-".join(map(str, sizes))
            rows += _rows("training", title, f"{price:g}", share, best)
    return rows


def main() -> None:
    """Measure, print the table, write the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--csv", type=Path, help="where to write rows")
    options = parser.parse_args()
    rows = layers(options.rounds)
    try:
        rows += convolutional(options.rounds) + joint(options.rounds)
        rows += autoencoders(options.rounds)
    except FileNotFoundError as error:
        print(f"no training: {error}")
    columns = ["what", "shape", "price", "share", "way", "milliseconds"]
    _common.print_table(
        "CPU milliseconds: a layer, or a step of one network",
        columns,
        [[row[column] for column in columns] for row in rows],
    )
    if options.csv:
        _common.write_rows(options.csv, rows)


if __name__ == "__main__":
    main()
