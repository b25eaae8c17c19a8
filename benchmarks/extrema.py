"""Extrema: the published loop, rounds, compiled: python benchmarks/extrema.py

64 recordings of 1000 samples and 64 images of 28 × 28 pixels, of noise and of
similarities to a random kernel. All competitors take turns within one run, so
that their ratios mean something; results are checked to be equal. Prints a
table and writes results/benchmarks/extrema.csv.
"""

from __future__ import annotations

import argparse
import csv
import platform
from pathlib import Path

import _common  # sets the number of threads before anything else
import numba
import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn.functional import conv1d, conv2d, interpolate

from sparse_book import __version__
from sparse_book.san import extrema as san
from sparse_book.san.activations import _keep

OUTPUT = Path(__file__).parents[1] / "results" / "benchmarks" / "extrema.csv"
BATCH, SEED = 64, 0
# Kernel size and border tolerance, as in the published experiments.
RECORDINGS = [(4, 3), (10, 3), (50, 3), (100, 3), (249, 3)]
IMAGES = [(3, 2), (4, 2), (5, 2), (6, 2)]


def heartbeats(draws: torch.Generator) -> Tensor:
    """Similarities of noisy trains of beats to a random kernel."""
    time = torch.arange(-20.0, 21)
    beat = (-(time**2) / 2).exp() + 0.3 * (-(((time - 12) / 4) ** 2)).exp()
    spikes = torch.zeros(BATCH, 1, 1000)
    starts = torch.randint(0, 70, (BATCH,), generator=draws).tolist()
    for row, start in enumerate(starts):
        spikes[row, 0, start::70] = 1
    signals = conv1d(spikes, beat[None, None], padding=20)
    signals += 0.05 * torch.randn(signals.shape, generator=draws)
    kernel = 0.1 * torch.randn(1, 1, 15, generator=draws)
    return conv1d(signals, kernel, padding=7)


def digits(draws: torch.Generator) -> Tensor:
    """Similarities of enlarged digits to a random kernel."""
    images = torch.tensor(load_digits().images[:BATCH, None]).float() / 16
    large = interpolate(images, (28, 28), mode="bilinear")
    return conv2d(
        large, 0.1 * torch.randn(1, 1, 5, 5, generator=draws), padding=2
    )


def compare(maps: Tensor, size: int, tolerance: int, rounds: int) -> dict:
    """Time all competitors on one input; they must agree."""
    axes = tuple(range(2 - maps.ndim, 0))
    distance = san.minimum_distance(size, tolerance)

    def sizes() -> Tensor:
        return maps.abs().masked_fill(~san._candidates(maps, axes), -1)

    def by_rounds() -> Tensor:
        return _keep(maps, san._rounds(sizes(), distance, axes)[0])

    competitors = {
        "loop": lambda: san._loop(maps, distance),
        "rounds": by_rounds,
        "function": lambda: san.extrema(maps, size, tolerance),
    }
    found = {name: work() for name, work in competitors.items()}
    for name, kept in found.items():
        if not torch.equal(kept, found["loop"]):
            raise SystemExit(f"{name} differs from the loop")
    # A short call is timed over many repetitions: clocks are coarse.
    repeats = {"loop": 1, "rounds": 10, "function": 40}

    def repeated(name: str):  # type: ignore[no-untyped-def]
        work = competitors[name]
        return lambda: [work() for _ in range(repeats[name])]

    seconds = _common.measure({n: repeated(n) for n in competitors}, rounds)
    times = {n: 1000 * seconds[n][0] / repeats[n] for n in competitors}
    return {
        "dimensions": maps.ndim - 2,
        "shape": "x".join(map(str, maps.shape)),
        "kernel_size": size,
        "border_tolerance": tolerance,
        "distance": distance,
        "candidates": int((sizes() >= 0).sum()),
        "kept": int((found["loop"] != 0).sum()),
        "rounds": san._rounds(sizes(), distance, axes)[1],
        **{f"{n}_ms": round(t, 4) for n, t in times.items()},
        "rounds_ratio": round(times["loop"] / times["rounds"], 1),
        "ratio": round(times["loop"] / times["function"], 1),
    }


def processor() -> str:
    """The processor's name, where the system tells."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def main() -> None:
    """Run the comparison, print the table, write the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    draws = torch.Generator().manual_seed(SEED)
    inputs = {
        "noise": torch.randn(BATCH, 1, 1000, generator=draws),
        "beats": heartbeats(draws),
        "noise image": torch.randn(BATCH, 1, 28, 28, generator=draws),
        "digits": digits(draws),
    }
    source = {
        "unit": "median CPU milliseconds of one thread per batch",
        "repetitions": options.rounds,
        "seed": SEED,
        "dtype": "float32",
        "device": "cpu",
        "threads": torch.get_num_threads(),
        "processor": processor(),
        "machine": platform.machine(),
        "torch": torch.__version__,
        "numba": numba.__version__,
        "python": platform.python_version(),
        "sparse_book": __version__,
        "command": "python benchmarks/extrema.py",
    }
    rows = []
    for name, maps in inputs.items():
        for size, tolerance in RECORDINGS if maps.ndim == 3 else IMAGES:
            row = compare(maps, size, tolerance, options.rounds)
            rows.append({"input": name} | row | source)
            print(f"{name}, m = {size}: {row['ratio']} times", flush=True)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    with options.output.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    shown = list(rows[0])[: list(rows[0]).index("unit")]
    table = [[str(row[key]) for key in shown] for row in rows]
    _common.print_table("Extrema, batches of 64", shown, table)


if __name__ == "__main__":
    main()
