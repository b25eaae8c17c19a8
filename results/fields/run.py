"""Learn the dictionaries of the pages on Sparsenet and sparse-set coding.

    SPARSE_BOOK_DATA=<folder> python results/fields/run.py [names]

Writes, for each run named (all by default), its history `<name>.csv`, its
dictionary `<name>.npz` and a line in `runs.csv` that says where they came
from. A run whose line is there is not repeated: delete the line to repeat it.
"""

from __future__ import annotations

import csv
import hashlib
import platform
import sys
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sparse_book import __version__
from sparse_book.data.load import load
from sparse_book.data.patches import extract_patches
from sparse_book.data.whitening import whiten_images
from sparse_book.linear.dictionaries import random_dictionary
from sparse_book.linear.shrinkage import fista
from sparse_book.linear.sparse_set import order_recursive_pursuit
from sparse_book.linear.sparsenet import (
    Coder,
    learn_dictionary,
    sparsenet_codes,
    sparsenet_penalty,
)

FOLDER = Path(__file__).resolve().parent
SIDE, ATOMS, PATCHES, BATCH, WATCHED = 16, 256, 60_000, 256, 2_000
PHASES = ((0.8, 0.8), (0.2, 0.98))  # share of the steps, memory


@dataclass(frozen=True)
class Run:
    """One dictionary to learn."""

    penalty: str
    coefficient: float
    steps: int
    seed: int = 0

    def coder(self) -> Coder:
        """Return the coder with its settings bound."""
        if self.penalty == "count":
            return partial(
                order_recursive_pursuit,
                active=40,
                coefficient=self.coefficient,
            )
        if self.penalty == "abs":
            return partial(
                fista,
                coefficient=self.coefficient,
                tolerance=0.01,
                max_iterations=100,
            )
        return partial(
            sparsenet_codes,
            coefficient=self.coefficient,
            penalty=self.penalty,
            steps=60,
        )

    def cost(self, codes: Tensor) -> Tensor:
        """Return what codes cost."""
        if self.penalty == "count":
            return self.coefficient * (codes != 0).sum(-1)
        return self.coefficient * sparsenet_penalty(codes, self.penalty)


RUNS = {
    "l0": Run("count", 2.5, 4000),
    "l1": Run("abs", 1.45, 3000),
    "log": Run("log", 2.3, 3000),
    "l0-active": Run("count", 0.6, 2500),
    "l0-again": Run("count", 2.5, 4000, seed=1),
    "l1-again": Run("abs", 1.45, 3000, seed=1),
    "l0-active-again": Run("count", 0.6, 2500, seed=1),
}


def signals(seed: int) -> tuple[Tensor, str, str]:
    """Return whitened patches, and where they came from."""
    photographs = load("natural-images")
    generator = torch.Generator().manual_seed(1000 + seed)
    white = [whiten_images(image) for image in photographs.images]
    patches = extract_patches(white, SIDE, PATCHES, generator)
    count = f"{len(photographs)} photographs"
    return patches.flatten(1), count, photographs.checksum


def learn(run: Run, patches: Tensor) -> tuple[Tensor, list[dict[str, object]]]:
    """Return the dictionary and the history of all phases."""
    generator = torch.Generator().manual_seed(run.seed)
    dictionary = random_dictionary(ATOMS, SIDE**2, generator=generator)
    rows: list[dict[str, object]] = []
    done = 0
    for share, memory in PHASES:
        steps = round(share * run.steps)
        learned = learn_dictionary(
            patches,
            dictionary,
            run.coder(),
            cost=run.cost,
            steps=steps,
            batch=BATCH,
            update="block",
            memory=memory,
            watch=WATCHED,
            every=max(1, steps // 10),
            generator=generator,
            progress=sys.stderr.isatty(),
        )
        if learned.interrupted:
            raise SystemExit("interrupted: this run is not kept")
        for row in learned.history[bool(rows) :]:
            rows.append(asdict(row) | {"step": done + row.step})
        dictionary, done = learned.dictionary, done + steps
    return dictionary, rows


def write(path: Path, rows: list[dict[str, object]]) -> None:
    """Write rows with a header."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read(path: Path) -> list[dict[str, object]]:
    """Read rows, none if there is no file."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def main(names: list[str]) -> None:
    """Learn what is named and not there."""
    for name in names or list(RUNS):
        lines = read(FOLDER / "runs.csv")
        if any(line["run"] == name for line in lines):
            continue
        run, start = RUNS[name], time.perf_counter()
        patches, source, checksum = signals(run.seed)
        dictionary, rows = learn(run, patches)
        seconds = time.perf_counter() - start
        write(FOLDER / f"{name}.csv", rows)
        path = FOLDER / f"{name}.npz"
        np.savez(path, dictionary=dictionary.numpy().astype(np.float16))
        line: dict[str, object] = {"run": name} | asdict(run)
        best = min(rows, key=lambda row: float(str(row["objective"])))
        line |= {key: best[key] for key in ("objective", "error", "active")}
        line |= {"side": SIDE, "atoms": ATOMS}
        line |= {"patches": PATCHES, "batch": BATCH, "data": source}
        line |= {"checksum": checksum, "seconds": round(seconds, 1)}
        line |= {"device": "cpu", "threads": torch.get_num_threads()}
        line |= {"machine": platform.machine(), "torch": torch.__version__}
        line |= {"python": platform.python_version()}
        line |= {"sparse_book": __version__}
        line |= {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        line |= {"command": f"python results/fields/run.py {name}"}
        write(FOLDER / "runs.csv", [*lines, line])
        print(line, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
