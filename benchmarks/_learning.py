"""Dictionary learning against SPAMS and scikit-learn, one thread.

    python benchmarks/_learning.py

Writes results/benchmarks/learning.csv and prints it; sparse_coding.py does so
too. 50,000 patches of 16 × 16 pixels, mean removed, of unit norm; 512 atoms,
which start as the first 512 patches; λ = 0.1; batches of 512. The target is
the objective that SPAMS reaches in one pass in float32. Each learner is run
afresh with more and more batches, its looks at watched patches included, until
it is there: `seconds` are those of the first run that is. A learner that does
not get there in two passes shows what it reached, and its ratios are bounds.
In the last rows ours have the CPU time that SPAMS took. Objectives are means
over 2000 other patches, of codes whose duality gap is computed here, in
float64; `worst_gap` is their largest relative gap. `product` is the time in
which the machine, at the rate of its matrix product, lets all patches meet all
atoms once, as a share of `seconds`. SPAMS is optional (pip install spams-bin):
without it the target is our own objective after one pass.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
import warnings
from collections.abc import Callable

import _common  # sets the number of threads before anything else
import numpy as np
import torch
from sklearn.decomposition import MiniBatchDictionaryLearning
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from sparse_book.linear.basis_pursuit import basis_pursuit_denoising
from sparse_book.linear.dictionaries import normalize_atoms
from sparse_book.linear.online_learning import online_dictionary_learning
from sparse_book.linear.shrinkage import duality_gap, lasso_objective

try:
    import spams
except ImportError:
    spams = None

PATCHES, HELD, ATOMS, SIDE, BATCH, PRICE = 50_000, 2_000, 512, 16, 512, 0.1
WATCHED = 256  # of the training patches, by our learner
TABLE = _common.ROOT / "results" / "benchmarks" / "learning.csv"
DTYPES = {"float32": torch.float32, "float64": torch.float64}
Learner = Callable[[int], Tensor]


def ours(train: Tensor) -> Learner:
    """Our learner; called with a number of batches."""

    def learn(steps: int) -> Tensor:
        return online_dictionary_learning(
            train,
            train[:ATOMS],
            PRICE,
            steps=steps,
            batch=BATCH,
            watch=WATCHED,
            generator=torch.Generator().manual_seed(0),
        ).dictionary

    return learn


def spams_learner(train: Tensor) -> Learner:
    """SPAMS's online learner."""
    columns = np.asfortranarray(train.numpy().T)
    start = np.asfortranarray(columns[:, :ATOMS])

    def learn(steps: int) -> Tensor:
        found = spams.trainDL(
            columns,
            D=start.copy(order="F"),
            K=ATOMS,
            lambda1=PRICE,
            mode=2,
            batchsize=BATCH,
            iter=steps,
            numThreads=1,
            verbose=False,
        )
        return torch.from_numpy(found.T.copy())

    return learn


def scikit_learn(train: Tensor) -> Learner:
    """scikit-learn's MiniBatchDictionaryLearning, by coordinate descent."""
    rows = train.numpy()

    def learn(steps: int) -> Tensor:
        learner = MiniBatchDictionaryLearning(
            ATOMS,
            alpha=PRICE,
            batch_size=BATCH,
            max_iter=1,
            max_no_improvement=None,
            fit_algorithm="cd",
            dict_init=rows[:ATOMS],
            random_state=0,
        )
        chosen = np.random.default_rng(0).permutation(len(rows))
        few = rows[np.resize(chosen, steps * BATCH)]
        return torch.from_numpy(learner.fit(few).components_)

    return learn


def judged(found: Tensor, held: Tensor) -> dict[str, str]:
    """What a dictionary is worth on patches that no learner has seen."""
    atoms = normalize_atoms(found.double())
    codes = basis_pursuit_denoising(held, atoms, PRICE).codes
    cost = lasso_objective(held, codes, atoms, PRICE)
    gap = (duality_gap(held, codes, atoms, PRICE) / cost).max()
    left = (held - codes @ atoms).square().sum() / held.square().sum()
    active = (codes != 0).sum(-1).double().mean()
    return {
        "objective": f"{float(cost.mean()):.5f}",
        "error": f"{float(left):.4f}",
        "worst_gap": f"{float(gap):.1g}",
        "active": f"{float(active):.1f}",
    }


def timed(learn: Learner, steps: int) -> tuple[float, Tensor]:
    """CPU seconds of a run, and its dictionary."""
    start = time.process_time()
    found = learn(steps)
    return time.process_time() - start, found


def budgets(fine: bool) -> list[int]:
    """Numbers of batches to try; slow learners do whole passes only."""
    whole = PATCHES // BATCH
    if not fine:
        return [whole, 2 * whole]
    return [whole * k // 8 for k in range(3, 9)] + [2 * whole]


def until(
    learn: Learner, target: float, held: Tensor, rounds: int, fine: bool
) -> tuple[int, float, dict[str, str]]:
    """Fewest batches that reach the target, median seconds, and judgement.

    If none do, the last: its objective is then above the target, and its
    seconds are a lower bound.
    """
    for steps in budgets(fine):
        seconds, found = timed(learn, steps)
        worth = judged(found, held)
        print(f"  {steps} batches, {seconds:.2f} s: {worth}", flush=True)
        if float(worth["objective"]) <= target:
            break
    more = [timed(learn, steps)[0] for _ in range(rounds - 1)]
    return steps, statistics.median([seconds, *more]), worth


def learning_rows(options: argparse.Namespace) -> list[dict[str, str]]:
    """Rows of the table: time to equal objective, objective in equal time."""
    patches = _common.photograph_patches(PATCHES + HELD, SIDE, seed=2)
    train = {d: patches[:PATCHES].to(t) for d, t in DTYPES.items()}
    held = patches[PATCHES:]
    rate = {d: _common.matmul_rate(t) for d, t in DTYPES.items()}
    rounds, whole = options.rounds, PATCHES // BATCH
    for dtype in DTYPES:
        ours(train[dtype])(1)  # compiles
    reference = spams_learner if spams is not None else ours
    learn, times = reference(train["float32"]), []
    for _ in range(rounds):
        seconds, found = timed(learn, whole)
        times.append(seconds)
    goal = judged(found, held)
    target, given = float(goal["objective"]), statistics.median(times)

    runs: dict[tuple[str, str, str], tuple[Learner, int, float, dict]] = {}
    entries = [("Sparse Book", d, ours) for d in DTYPES]
    if spams is not None:
        key = ("SPAMS", "trainDL", "float32")
        runs[key] = (learn, whole, given, goal)
        entries.append(("SPAMS", "float64", spams_learner))
    entries.append(("scikit-learn", "float32", scikit_learn))
    names = {
        "Sparse Book": "online_dictionary_learning",
        "SPAMS": "trainDL",
        "scikit-learn": "MiniBatchDictionaryLearning",
    }
    for by, dtype, make in entries:
        fine = by != "scikit-learn"
        print(by, dtype, "to", target, flush=True)
        work = make(train[dtype])
        result = until(work, target, held, rounds if fine else 1, fine)
        runs[by, names[by], dtype] = (work, *result)
    equal = {k: v[2] for k, v in runs.items()}
    slow = [s for (by, *_), s in equal.items() if by == "scikit-learn"]

    def row(
        task: str,
        key: tuple[str, str, str],
        steps: int,
        seconds: float,
        worth: dict[str, str],
        peak: float,
    ) -> dict[str, str]:
        rival = equal.get(("SPAMS", "trainDL", key[2]), float("nan"))
        same = task == "learning"
        work = 2.0 * steps * BATCH * ATOMS * SIDE**2 / rate[key[2]]
        ratio = (
            f"{rival / seconds:.3g}" if not math.isnan(rival) and same else ""
        )
        other = f"{slow[0] / seconds:.3g}" if slow and same else ""
        return {
            "task": task,
            "dictionary": "to be learned",
            "by": key[0],
            "coder": key[1],
            "dtype": key[2],
            "patches": str(steps * BATCH),
            "seconds": f"{seconds:.4g}",
            "spams": ratio,
            "sklearn": other,
            **worth,
            "peak_mib": "" if math.isnan(peak) else f"{peak:.0f}",
            "product": f"{work / seconds:.2g}",
            "gigaflops": f"{rate[key[2]] / 1e9:.0f}",
        }

    rows = []
    for key, (work, steps, seconds, worth) in runs.items():
        few = min(steps, 4)  # memory is held per batch, not per pass
        peak = _common.peak_memory(lambda w=work, n=few: w(n))
        rows.append(row("learning", key, steps, seconds, worth, peak))
    for dtype in DTYPES if spams is not None else []:
        key = ("Sparse Book", names["Sparse Book"], dtype)
        work, steps, seconds, _ = runs[key]
        steps = int(steps * equal["SPAMS", "trainDL", "float32"] / seconds)
        seconds, found = timed(work, steps)
        worth = judged(found, held)
        peak = float("nan")
        rows.append(
            row("learning, same time", key, steps, seconds, worth, peak)
        )
    return rows


def measure(options: argparse.Namespace) -> None:
    """Measure, write the table and print it."""
    rows = learning_rows(options)
    _common.write_rows(TABLE, rows)
    _common.print_table(
        f"{PATCHES} patches of {SIDE} × {SIDE} pixels, {ATOMS} atoms",
        list(rows[0]),
        [[row[name] for name in rows[0]] for row in rows],
    )


def main() -> None:
    """Run alone."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    measure(options)


if __name__ == "__main__":
    main()
