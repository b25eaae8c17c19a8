"""Train the networks that the widgets of three pages run in the browser.

    SPARSE_BOOK_DATA=<folder> python results/networks/run.py [names]

Writes, for each name (all by default), `<name>.npz` with networks rounded to
eight bits, and their lines in `networks.csv`: what they were trained from,
and what they do on the 10,000 test digits of MNIST before and after the
rounding. Also writes `digits.npz`, the first two test digits of every class,
so that pages need no data set. Networks whose lines are there are not trained
again: delete the lines to repeat them.
"""

from __future__ import annotations

import csv
import hashlib
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from sparse_book import __version__
from sparse_book.data.images import ImageSet
from sparse_book.data.load import load
from sparse_book.networks.autoencoder import Autoencoder
from sparse_book.networks.convolutional import Convolutional
from sparse_book.networks.fully_connected import FullyConnected
from sparse_book.show.stored_networks import (
    restore_networks,
    round_networks,
    write_networks,
)
from sparse_book.training.ensemble import Ensemble, train_ensemble

FOLDER = Path(__file__).resolve().parent
BATCH = 100
Line = dict[str, object]


@dataclass(frozen=True)
class Family:
    """Networks of one architecture that differ in their price alone."""

    build: Callable[[], nn.Module]
    sizes: str
    coefficients: tuple[float, ...]
    epochs: int
    loss: str = "cross-entropy"
    seed: int = 0

    def ensemble(self) -> Ensemble:
        """Return networks that begin alike."""
        return Ensemble(self.build, [self.seed] * len(self.coefficients))


FAMILIES = {
    "feature_maps": Family(
        lambda: Convolutional((1, 28, 28), (6, 16), 7),
        "1x28x28 6@7x7 16@7x7 64 10",
        (0.0, 0.0005, 0.002, 0.006),
        1,
    ),
    "firing": Family(
        lambda: FullyConnected((784, 64, 10)), "784 64 10", (0.0, 0.04), 15
    ),
    "rebuilding": Family(
        lambda: Autoencoder((784, 128, 32, 128, 784)),
        "784 128 32 128 784",
        (0.0, 0.00002, 0.00005, 0.0001, 0.0002),
        8,
        "squared-error",
    ),
}


@torch.no_grad()
def measure(ensemble: Ensemble, test: ImageSet) -> list[dict[str, float]]:
    """Return what every network does on the test digits.

    That is its accuracy or its error per pixel, its active units, layer by
    layer, and, with maps, how many of each convolutional layer are empty: on
    an average digit, and on every digit.
    """
    rows: list[dict[str, float]] = [{} for _ in ensemble.seeds]
    rebuilds = isinstance(ensemble.template, Autoencoder)
    heard: dict[tuple[int, str], list[Tensor]] = {}
    for start in range(0, len(test.images), 250):
        images = test.images[start : start + 250]
        labels = test.labels[start : start + 250]
        outputs, said = ensemble.forward(images)
        for k, row in enumerate(rows):
            if rebuilds:
                miss = (outputs[k] - images.flatten(1)).square().mean(1)
                sums = {"error": miss}
            else:
                right = outputs[k].argmax(1) == labels
                sums = {"accuracy": right.float()}
            for depth, layer in enumerate(said.values(), 1):
                active = (layer[k] > 0).float()
                sums[f"active_{depth}"] = active.sum(1)
                if (shape := map_shape(ensemble.template, depth)) is not None:
                    maps = active.view(-1, *shape).amax(2)
                    sums[f"empty_{depth}"] = (1 - maps).sum(1)
                    heard.setdefault((k, f"silent_{depth}"), []).append(
                        maps.amax(0)
                    )
            for name, values in sums.items():
                total = row.get(name, 0.0) + float(values.double().sum())
                row[name] = total
    for row in rows:
        for name in row:
            row[name] /= len(test.images)
        layers = [v for n, v in row.items() if n.startswith("active_")]
        row["active"] = sum(layers)
    for (k, name), parts in heard.items():
        rows[k][name] = float((torch.stack(parts).amax(0) == 0).sum())
    return rows


def map_shape(network: nn.Module, depth: int) -> tuple[int, int] | None:
    """Return maps and units of a map of a layer, if it has maps."""
    if not isinstance(network, Convolutional):
        return None
    if depth > len(network.map_shapes):
        return None
    maps, high, wide = network.map_shapes[depth - 1]
    return maps, high * wide


def write(path: Path, lines: list[Line]) -> None:
    """Write lines with a header; what a line lacks stays empty."""
    names = list(dict.fromkeys(name for line in lines for name in line))
    names.sort(key=lambda name: name == "command")  # to the end
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, "", lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)


def read(path: Path) -> list[Line]:
    """Read lines, none if there is no file."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_digits(test: ImageSet) -> None:
    """Write the first two test digits of every class."""
    chosen = [
        int(place)
        for digit in range(10)
        for place in (test.labels == digit).nonzero().flatten()[:2]
    ]
    np.savez_compressed(
        FOLDER / "digits.npz",
        images=(255 * test.images[chosen]).round().byte().numpy(),
        labels=test.labels[chosen].numpy().astype(np.uint8),
        places=np.array(chosen, np.int32),
    )


def train(name: str, digits: ImageSet, test: ImageSet) -> list[Line]:
    """Train, round, measure and write one family; return its lines."""
    family, begun = FAMILIES[name], time.process_time()
    ensemble = family.ensemble()
    rebuilds = family.loss == "squared-error"
    train_ensemble(
        ensemble,
        digits.images,
        digits.images if rebuilds else digits.labels,
        coefficient=family.coefficients,
        epochs=family.epochs,
        batch_size=BATCH,
        loss=family.loss,
        after_epoch=lambda row: print(name, row.epoch, flush=True),
    )
    seconds = time.process_time() - begun
    before = measure(ensemble, test)
    rounded = round_networks(ensemble.parameters, family.coefficients)
    ensemble.parameters = restore_networks(rounded)
    after = measure(ensemble, test)
    path = FOLDER / f"{name}.npz"
    write_networks(path, rounded)
    lines: list[Line] = []
    for price, one, other in zip(
        family.coefficients, before, after, strict=True
    ):
        text = f"{price:.7f}".rstrip("0").rstrip(".")
        line: Line = {"name": name, "coefficient": text}
        for key in ("accuracy", "error", "active"):
            if key in one:
                line[f"{key}_before"] = f"{one[key]:.6g}"
                line[key] = f"{other[key]:.6g}"
        rest = sorted(set(other) - {"accuracy", "error", "active"})
        line |= {key: f"{other[key]:.6g}" for key in rest}
        line |= {"sizes": family.sizes, "seed": family.seed}
        line |= {"epochs": family.epochs, "batch": BATCH}
        line |= {"optimizer": "adam", "images": len(digits.images)}
        line |= {"test_images": len(test.images)}
        line |= {"checksum": digits.checksum, "device": "cpu"}
        line |= {"cpu_seconds_for_all": round(seconds, 1)}
        line |= {"threads": torch.get_num_threads()}
        line |= {"machine": platform.machine(), "torch": torch.__version__}
        line |= {"python": platform.python_version()}
        line |= {"sparse_book": __version__}
        line |= {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        line |= {"command": f"python results/networks/run.py {name}"}
        lines.append(line)
    return lines


def main(names: list[str]) -> None:
    """Train what is named and not there."""
    torch.set_num_threads(1)
    digits, test = load("mnist"), load("mnist", split="test")
    assert isinstance(digits, ImageSet) and isinstance(test, ImageSet)
    write_digits(test)
    for name in names or list(FAMILIES):
        if any(line["name"] == name for line in read(FOLDER / "networks.csv")):
            continue
        found = train(name, digits, test)
        lines = read(FOLDER / "networks.csv") + found
        order = list(FAMILIES)
        lines.sort(key=lambda line: order.index(str(line["name"])))
        write(FOLDER / "networks.csv", lines)


if __name__ == "__main__":
    main(sys.argv[1:])
