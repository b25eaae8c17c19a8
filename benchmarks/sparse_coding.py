"""Sparse coding against SPAMS and scikit-learn, one table, one thread.

    python benchmarks/sparse_coding.py
    python benchmarks/sparse_coding.py --cores

The second lets every library use the cores that it can: ours and SPAMS code
several signals at once, scikit-learn's matrix products may use threads while
its coders do not. Times are then by the clock; the tasks are called "omp, all
cores" and so on, and go to sparse_coding_cores.csv beside the other file.

Codes 10,000 patches of 16 × 16 pixels with 512 atoms: orthogonal and
order-recursive pursuit of ten atoms, and the lasso at λ = 0.1 λ_max, on a
learned and on a random dictionary. Writes results/benchmarks/
sparse_coding.csv, which the page "How fast is it?" shows, and prints it. With
SPARSE_BOOK_DATA the patches are those of the natural images found there,
otherwise of two photographs. SPAMS is optional (pip install spams-bin): its
rows are left out where it is missing. Slow coders take fewer patches and are
scaled up; the column `patches` says how many.

Columns: `seconds`, CPU seconds for 10,000 patches, median of the rounds;
`spams` and `sklearn`, how many times as long the other one takes: SPAMS's
coder for the same problem in the same precision (its float64 for the lasso,
where its float32 misses the tolerance), and the fastest of scikit-learn's
estimators for the same problem; `error`, the mean share of a patch's energy
that its code misses; `worst_gap`, the greatest relative duality gap of any
patch, computed here in float64; `active`, the mean number of atoms;
`peak_mib`, memory above what was held before; `product`, the time in which
the machine, at the rate of its matrix product, lets all patches meet all
atoms once, as a share of `seconds`.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from functools import partial

import _common  # sets the number of threads before anything else
import _learning
import numpy as np
import torch
from sklearn.decomposition import SparseCoder
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Lasso
from torch import Tensor

from sparse_book.linear.basis_pursuit import basis_pursuit_denoising
from sparse_book.linear.dictionaries import SparseCodes, random_dictionary
from sparse_book.linear.pursuit import batch_omp
from sparse_book.linear.shrinkage import (
    critical_coefficient,
    duality_gap,
    lasso_objective,
)
from sparse_book.linear.sparse_set import order_recursive_pursuit

try:
    import spams
except ImportError:
    spams = None
    print("SPAMS is not installed: its rows are left out")

ATOMS, SIDE, ACTIVE, RATIO = 512, 16, 10, 0.1
MANY = ", all cores" if _common.CORES > 1 else ""
TABLE = (
    _common.ROOT
    / "results"
    / "benchmarks"
    / ("sparse_coding_cores.csv" if MANY else "sparse_coding.csv")
)
DTYPES = {"float32": torch.float32, "float64": torch.float64}
Entry = tuple[str, str, str, int, Callable[[], object]]


def dense(codes: object) -> Tensor:
    """Codes in float64, patches in rows, whoever made them."""
    if isinstance(codes, SparseCodes):
        return codes.codes.double()
    if isinstance(codes, np.ndarray):
        return torch.from_numpy(codes).double()
    return torch.from_numpy(codes.T.toarray()).double()  # type: ignore[attr-defined]


def transform(
    algorithm: str, signals: Tensor, atoms: Tensor, **options: object
) -> Callable[[], np.ndarray]:
    """scikit-learn's SparseCoder."""
    coder = SparseCoder(
        atoms.numpy(), transform_algorithm=algorithm, **options
    )
    return lambda: coder.transform(signals.numpy())


def lasso_estimator(
    signals: Tensor, atoms: Tensor, tolerance: float
) -> Callable[[], np.ndarray]:
    """scikit-learn's Lasso, patches as targets, with its Gram matrix."""
    columns, targets = np.asfortranarray(atoms.T), signals.T.numpy()
    model = Lasso(
        RATIO / atoms.shape[1],
        fit_intercept=False,
        precompute=(atoms @ atoms.T).numpy(),
        tol=tolerance,
        max_iter=100_000,
    )
    return lambda: model.fit(columns, targets).coef_


def in_columns(x: Tensor) -> np.ndarray:
    """Patches or atoms as SPAMS wants them."""
    return np.asfortranarray(x.numpy().T)


def measured(
    task: str,
    kind: str,
    entries: list[Entry],
    signals: Tensor,
    atoms: Tensor,
    options: argparse.Namespace,
) -> list[dict[str, str]]:
    """Rows of one task on one dictionary."""
    runs = {" ".join(entry[:3]): entry for entry in entries}
    found = _common.measure(
        {k: e[-1] for k, e in runs.items()}, options.rounds
    )
    per = {k: found[k][0] * 1e4 / runs[k][3] for k in runs}
    others = [per[k] for k in runs if k.startswith("scikit-learn")]
    rate = {d: _common.matmul_rate(t) for d, t in DTYPES.items()}
    rows = []
    for key, (by, name, dtype, count, _) in runs.items():
        codes, some = dense(found[key][2]), signals[:count]
        left = (some - codes @ atoms).square().sum(-1) / some.square().sum(-1)
        if float(left.mean()) > 0.9:
            raise SystemExit(f"{key} found no code")
        rivals = [k for k, e in runs.items() if e[0] == "SPAMS"]
        rivals = [k for k in rivals if task == "lasso" or dtype in k]
        rival = max(rivals, default="", key=lambda k: "float64" in k)
        gap = ""
        if task == "lasso":
            cost = lasso_objective(some, codes, atoms, RATIO)
            worst = (duality_gap(some, codes, atoms, RATIO) / cost).max()
            gap = f"{float(worst):.2g}"
        product = 2e4 * atoms.numel() / rate[dtype]
        row = {
            "task": task + MANY,
            "dictionary": kind,
            "by": by,
            "coder": name,
            "dtype": dtype,
            "patches": str(count),
            "seconds": f"{per[key]:.4g}",
            "spams": f"{per[rival] / per[key]:.3g}" if rival else "",
            "sklearn": f"{min(others) / per[key]:.3g}" if others else "",
            "error": f"{float(left.mean()):.4f}",
            "worst_gap": gap,
            "active": f"{float((codes != 0).sum(-1).double().mean()):.1f}",
            "peak_mib": f"{found[key][1]:.0f}",
            "product": f"{product / per[key]:.2g}",
            "gigaflops": f"{rate[dtype] / 1e9:.0f}",
        }
        rows.append(row)
        print(*list(row.values())[:9], flush=True)
    return rows


def pursuit_rows(
    patches: Tensor, atoms: Tensor, options: argparse.Namespace
) -> list[dict[str, str]]:
    """Orthogonal and order-recursive pursuit on the learned dictionary."""
    count, few = options.patches, min(options.few, options.patches)
    tasks: dict[str, list[Entry]] = {"omp": [], "order-recursive": []}
    for dtype, kind in DTYPES.items():
        s, d = patches.to(kind), atoms.to(kind)
        ours = partial(batch_omp, s, d, active=ACTIVE)
        tasks["omp"].append(("Sparse Book", "batch_omp", dtype, count, ours))
        ours = partial(order_recursive_pursuit, s, d, ACTIVE)
        name = "order_recursive_pursuit"
        tasks["order-recursive"].append(
            ("Sparse Book", name, dtype, count, ours)
        )
        if spams is not None:  # its omp is order-recursive: a peer of both
            # Without eps and lambda1 it chose no atom at all in some processes
            # (SPAMS 2.6.14, single precision), and the right ones in others.
            theirs = partial(
                spams.omp,
                in_columns(s),
                in_columns(d),
                L=ACTIVE,
                eps=0.0,
                lambda1=0.0,
                numThreads=_common.CORES,
            )
            for entries in tasks.values():
                entries.append(("SPAMS", "omp", dtype, count, theirs))
        coder = transform("omp", s[:few], d, transform_n_nonzero_coefs=ACTIVE)
        tasks["omp"].append(
            ("scikit-learn", "SparseCoder, omp", dtype, few, coder)
        )
    return [
        row
        for task, entries in tasks.items()
        for row in measured(task, "learned", entries, patches, atoms, options)
    ]


def lasso_rows(
    kind: str, patches: Tensor, atoms: Tensor, options: argparse.Namespace
) -> list[dict[str, str]]:
    """The lasso on one dictionary."""
    # Signals with λ_max = 1: one λ is then the same for all of them.
    signals = patches / critical_coefficient(patches, atoms)[:, None]
    count, few = options.patches, min(options.few, options.patches)
    entries: list[Entry] = []
    for dtype, wide in DTYPES.items():
        s, d = signals.to(wide), atoms.to(wide)
        ours = partial(basis_pursuit_denoising, s, d, RATIO)
        name = "basis_pursuit_denoising"
        entries.append(("Sparse Book", name, dtype, count, ours))
        if spams is not None:
            number = count if dtype == "float64" else few
            theirs = partial(
                spams.lasso,
                in_columns(s[:number]),
                in_columns(d),
                lambda1=RATIO,
                lambda2=0.0,
                mode=2,
                numThreads=_common.CORES,
            )
            entries.append(("SPAMS", "lasso", dtype, number, theirs))
    some = signals[: max(1, few // 5)]
    for algorithm, size in [("lasso_cd", 1), ("lasso_lars", 8)]:
        less = some[: max(1, len(some) // size)]
        coder = transform(
            algorithm,
            less,
            atoms,
            transform_alpha=RATIO,
            transform_max_iter=10_000,
        )
        name = f"SparseCoder, {algorithm}"
        entries.append(("scikit-learn", name, "float64", len(less), coder))
    estimator = lasso_estimator(some, atoms, 2e-7)
    entries.append(("scikit-learn", "Lasso", "float64", len(some), estimator))
    return measured("lasso", kind, entries, signals, atoms, options)


def compile_all(patches: Tensor, atoms: Tensor) -> None:
    """Let the compiled coders compile before anything is timed."""
    for kind in DTYPES.values():
        s, d = patches[:2].to(kind), atoms.to(kind)
        batch_omp(s, d, active=ACTIVE)
        order_recursive_pursuit(s, d, ACTIVE)
        basis_pursuit_denoising(s, d, RATIO)


def main() -> None:
    """Measure, write the table and print it."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--patches", type=int, default=10_000)
    parser.add_argument("--few", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--learning",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="measure dictionary learning, too, as _learning.py does",
    )
    parser.add_argument(
        "--cores",
        action="store_true",
        help="all cores, by the clock; no dictionary learning",
    )
    options = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    patches = _common.photograph_patches(options.patches, SIDE)
    learned = _common.learned_dictionary(ATOMS, SIDE)
    draws = torch.Generator().manual_seed(0)
    random = random_dictionary(
        ATOMS, SIDE**2, generator=draws, dtype=torch.float64
    )
    compile_all(patches, learned)
    rows = pursuit_rows(patches, learned, options)
    rows += lasso_rows("learned", patches, learned, options)
    rows += lasso_rows("random", patches, random, options)
    _common.write_rows(TABLE, rows)
    shown = list(rows[0])
    _common.print_table(
        f"{options.patches} patches of {SIDE} × {SIDE} pixels, {ATOMS} atoms",
        shown,
        [[row[name] for name in shown] for row in rows],
    )
    if options.learning and not MANY:
        _learning.measure(options)


if __name__ == "__main__":
    main()
