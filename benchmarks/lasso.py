"""The lasso against SPAMS and scikit-learn: python benchmarks/lasso.py

10,000 patches of 16 × 16 pixels, 512 atoms, λ = 0.1 λ_max. SPAMS is optional
(pip install spams-bin). Slow competitors code fewer patches and are scaled
up; the column "patches" says how many. "worst gap" is the largest relative
duality gap of any signal, "total gap" that of the sum over all signals.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import _common  # sets the number of threads before anything else
import numpy as np
import torch
from sklearn.decomposition import sparse_encode
from torch import Tensor

from sparse_book.linear.basis_pursuit import basis_pursuit_denoising
from sparse_book.linear.dictionaries import random_dictionary
from sparse_book.linear.shrinkage import (
    critical_coefficient,
    duality_gap,
    lasso_objective,
)

RATIO = 0.1
HEADER = [
    "dictionary",
    "solver",
    "patches",
    "CPU s per 10,000",
    "SPAMS ratio",
    "worst gap",
    "total gap",
    "active",
    "peak MiB",
    "matmul share",
]


def ours(
    method: str, signals: Tensor, atoms: Tensor
) -> Callable[[], tuple[Tensor, int]]:
    """A solver of this library; also returns its steps, over all signals."""

    def work() -> tuple[Tensor, int]:
        found = basis_pursuit_denoising(signals, atoms, RATIO, method=method)
        return found.codes, int(found.iterations.sum())

    return work


def spams_lars(
    signals: Tensor, atoms: Tensor
) -> Callable[[], tuple[object, int]]:
    """SPAMS's homotopy (LARS), exact."""
    import spams

    columns = np.asfortranarray(signals.numpy().T)
    dictionary = np.asfortranarray(atoms.numpy().T)
    return lambda: (
        spams.lasso(columns, dictionary, lambda1=RATIO, mode=2, numThreads=1),
        0,
    )


def scikit_learn(
    algorithm: str, signals: Tensor, atoms: Tensor
) -> Callable[[], tuple[Tensor, int]]:
    """scikit-learn's sparse_encode at its default tolerance."""

    def work() -> tuple[Tensor, int]:
        codes = sparse_encode(
            signals.numpy(),
            atoms.numpy(),
            algorithm=algorithm,
            alpha=RATIO,
            max_iter=10_000,
        )
        return torch.from_numpy(codes), 0

    return work


def dense(codes: object) -> Tensor:
    """Codes as a tensor; SPAMS returns a sparse matrix, atoms in rows."""
    if isinstance(codes, Tensor):
        return codes.double()
    return torch.from_numpy(codes.T.toarray()).double()  # type: ignore[attr-defined]


def main() -> None:
    """Run the comparison and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patches", type=int, default=10_000)
    parser.add_argument("--slow", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    count, slow = options.patches, min(options.slow, options.patches)
    try:
        import spams  # noqa: F401

        with_spams = True
    except ImportError:
        with_spams = False

    draws = torch.Generator().manual_seed(0)
    dictionaries = {
        "learned": _common.learned_dictionary(512, 16),
        "random": random_dictionary(
            512, 256, generator=draws, dtype=torch.float64
        ),
    }
    patches = _common.photograph_patches(count, 16)
    rows = []
    for title, atoms in dictionaries.items():
        # Signals with λ_max = 1: one λ is then the same for all of them.
        signals = patches / critical_coefficient(patches, atoms)[:, None]
        few, single = signals[:slow], signals.float()
        runs: dict[str, tuple[int, Callable[[], tuple[object, int]]]] = {
            "auto, float64": (count, ours("auto", signals, atoms)),
            "auto, float32": (count, ours("auto", single, atoms.float())),
            "FISTA, float64": (slow, ours("fista", few, atoms)),
            "FISTA, float32": (
                slow,
                ours("fista", single[:slow], atoms.float()),
            ),
            "scikit-learn lasso_cd": (
                slow,
                scikit_learn("lasso_cd", few, atoms),
            ),
        }
        if with_spams:
            runs["SPAMS LARS, float64"] = (count, spams_lars(signals, atoms))
        runs["auto, float64"][1]()  # compile
        results = {name: work() for name, (_, work) in runs.items()}
        times = _common.measure(
            {name: work for name, (_, work) in runs.items()}, options.rounds
        )
        per_name = {n: times[n][0] * 1e4 / runs[n][0] for n in runs}
        base = per_name.get("SPAMS LARS, float64", float("nan"))
        for name, (number, _) in runs.items():
            codes, steps = results[name]
            a, s = dense(codes), signals[:number]
            cost = lasso_objective(s, a, atoms, RATIO)
            gap = duality_gap(s, a, atoms, RATIO)
            share = "-"
            if name.startswith("FISTA"):
                kind = torch.float32 if "32" in name else torch.float64
                work = 2.0 * steps * len(atoms) ** 2
                rate = _common.matmul_rate(kind)
                share = f"{work / times[name][0] / rate:.0%}"
            rows.append(
                [
                    title,
                    name,
                    str(number),
                    f"{per_name[name]:.2f}",
                    f"{base / per_name[name]:.2f}",
                    f"{float((gap / cost).max()):.1e}",
                    f"{float(gap.sum() / cost.sum()):.1e}",
                    f"{float((a != 0).sum(-1).double().mean()):.0f}",
                    f"{times[name][1]:.0f}",
                    share,
                ]
            )
    _common.print_table(
        f"Lasso, {count} patches 16 × 16, 512 atoms, λ = {RATIO} λ_max",
        HEADER,
        rows,
    )


if __name__ == "__main__":
    main()
