"""Basis pursuit denoising: properties, oracles, and the faults of others."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import lsq_linear
from sklearn.linear_model import Lasso
from torch import Tensor

from sparse_book.linear.basis_pursuit import (
    _choose_method,
    basis_pursuit_denoising,
)
from sparse_book.linear.dictionaries import random_dictionary
from sparse_book.linear.shrinkage import (
    critical_coefficient,
    duality_gap,
    lasso_objective,
)

METHODS = ["coordinate-descent", "fista", "ista", "lca"]
QUICK = METHODS[:2]


def problem(
    seed: int, batch: int = 6, dimension: int = 12, atoms: int = 24
) -> tuple[Tensor, Tensor]:
    """Signals built from few atoms, with noise; atoms of unequal norms."""
    draws = torch.Generator().manual_seed(seed)
    unit = random_dictionary(
        atoms, dimension, generator=draws, dtype=torch.float64
    )
    norms = 0.5 + torch.rand(atoms, 1, generator=draws).double()
    codes = torch.randn(batch, atoms, generator=draws).double()
    codes *= torch.rand(batch, atoms, generator=draws) < 0.15
    noise = 0.05 * torch.randn(batch, dimension, generator=draws).double()
    return codes @ unit + noise, unit * norms


def exact(
    signals: Tensor, atoms: Tensor, weight: Tensor, nonnegative: bool
) -> Tensor:
    """The optimal objectives, from scikit-learn alone."""
    best = []
    for s, w in zip(signals, weight, strict=True):
        oracle = Lasso(
            alpha=float(w) / len(s),
            fit_intercept=False,
            positive=nonnegative,
            tol=1e-13,
            max_iter=1_000_000,
        )
        oracle.fit(atoms.T.numpy(), s.numpy())
        code = torch.from_numpy(oracle.coef_)
        misfit = (s - code @ atoms).square().sum() / 2
        best.append(misfit + w * code.abs().sum())
    return torch.stack(best)


def gap_by_definition(
    s: np.ndarray, a: np.ndarray, d: np.ndarray, w: float, nonnegative: bool
) -> float:
    """P − D in float64, from the definitions, for one signal."""
    r = s - a @ d
    seen = d @ r if nonnegative else abs(d @ r)
    theta = r * min(1.0, w / max(seen.max(), 1e-300))
    primal = r @ r / 2 + w * abs(a).sum()
    return float(primal - (theta @ s - theta @ theta / 2))


@pytest.mark.parametrize("nonnegative", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_agrees_with_scikit_learn(method: str, nonnegative: bool) -> None:
    signals, atoms = problem(0)
    top = critical_coefficient(signals, atoms, nonnegative=nonnegative)
    for ratio in (0.02, 0.1, 0.5):
        weight = ratio * top
        found = basis_pursuit_denoising(
            signals, atoms, weight, method=method, nonnegative=nonnegative
        )
        cost = lasso_objective(signals, found.codes, atoms, weight)
        best = exact(signals, atoms, weight, nonnegative)
        assert found.converged.all()
        torch.testing.assert_close(cost, best, rtol=1e-6, atol=0)


@pytest.mark.parametrize("method", METHODS)
def test_the_gap_is_honest_for_every_signal(method: str) -> None:
    signals, atoms = problem(1, batch=20)
    signals *= torch.logspace(-3, 3, 20).double()[:, None]
    weight = 0.1 * critical_coefficient(signals, atoms)
    found = basis_pursuit_denoising(signals, atoms, weight, method=method)
    for s, a, w, gap in zip(
        signals, found.codes, weight, found.gap, strict=True
    ):
        honest = gap_by_definition(
            s.numpy(), a.numpy(), atoms.numpy(), float(w), False
        )
        cost = lasso_objective(s[None], a[None], atoms, float(w))
        assert abs(honest - float(gap)) <= 1e-12 * float(cost)
        assert honest <= 1.0001e-6 * float(cost)


@given(
    seed=st.integers(0, 10_000),
    batch=st.integers(1, 5),
    dimension=st.integers(1, 9),
    atoms=st.integers(1, 20),
    ratio=st.floats(0.02, 1.5),
    nonnegative=st.booleans(),
    method=st.sampled_from(QUICK),
)
def test_optimality_conditions(
    seed: int,
    batch: int,
    dimension: int,
    atoms: int,
    ratio: float,
    nonnegative: bool,
    method: str,
) -> None:
    signals, dictionary = problem(seed, batch, dimension, atoms)
    weight = ratio * critical_coefficient(signals, dictionary) + 1e-6
    found = basis_pursuit_denoising(
        signals,
        dictionary,
        weight,
        method=method,
        nonnegative=nonnegative,
        tolerance=1e-10,
        max_iterations=100_000,
    )
    assert found.converged.all()
    pull = (signals - found.codes @ dictionary) @ dictionary.T
    level = weight[:, None]
    loud = pull if nonnegative else pull.abs()
    assert (loud <= level * (1 + 1e-4)).all()
    if nonnegative:
        assert (found.codes >= 0).all()
    # An atom's share of the gap is |a| times what it lacks of λ.
    share = found.codes.abs() * (level - pull * found.codes.sign())
    cost = lasso_objective(signals, found.codes, dictionary, weight)
    assert (share.abs() <= 1e-4 * cost[:, None] + 1e-12).all()


@given(
    seed=st.integers(0, 10_000),
    spread=st.floats(1e-6, 10),
    nonnegative=st.booleans(),
)
def test_the_gap_bounds_the_distance_from_the_optimum(
    seed: int, spread: float, nonnegative: bool
) -> None:
    signals, atoms = problem(seed, batch=3)
    weight = 0.2 * critical_coefficient(signals, atoms)
    best = basis_pursuit_denoising(
        signals, atoms, weight, nonnegative=nonnegative, tolerance=1e-10
    ).codes
    draws = torch.Generator().manual_seed(seed)
    codes = best + spread * torch.randn(best.shape, generator=draws).double()
    codes = codes.clamp_min(0) if nonnegative else codes
    gap = duality_gap(signals, codes, atoms, weight, nonnegative=nonnegative)
    above = lasso_objective(signals, codes, atoms, weight)
    above -= lasso_objective(signals, best, atoms, weight)
    assert (gap >= above * (1 - 1e-9) - 1e-12).all()


def test_nonnegative_codes_agree_with_bounded_least_squares() -> None:
    """For a ≥ 0 the price is linear; scipy sees one more equation."""
    signals, atoms = problem(2)
    weight = 0.1 * critical_coefficient(signals, atoms, nonnegative=True)
    for method in METHODS:
        found = basis_pursuit_denoising(
            signals, atoms, weight, method=method, nonnegative=True
        )
        for s, w, a in zip(signals, weight, found.codes, strict=True):
            small = 1e-3
            tall = np.vstack([atoms.T.numpy(), small * np.ones(len(atoms))])
            level = np.append(s.numpy(), -float(w) / small)
            other = lsq_linear(
                tall, level, (0, np.inf), tol=1e-14, method="bvls"
            ).x
            both = torch.stack([torch.from_numpy(other), a])
            cost = lasso_objective(s.expand(2, -1), both, atoms, float(w))
            assert cost[1] <= cost[0] * (1 + 1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_a_warm_start_at_the_solution_stays(method: str) -> None:
    signals, atoms = problem(3)
    weight = 0.1 * critical_coefficient(signals, atoms)
    found = basis_pursuit_denoising(
        signals, atoms, weight, method=method, tolerance=5e-7
    )
    for other in METHODS:
        again = basis_pursuit_denoising(
            signals, atoms, weight, method=other, warm_start=found.codes
        )
        assert (again.iterations == 0).all()
        torch.testing.assert_close(
            again.codes, found.codes, rtol=1e-12, atol=0
        )


@pytest.mark.parametrize("method", METHODS)
def test_a_bad_warm_start_is_left_behind(method: str) -> None:
    signals, atoms = problem(4)
    weight = 0.1 * critical_coefficient(signals, atoms)
    codes = 50 * torch.ones(len(signals), len(atoms)).double()
    before = codes.clone()
    found = basis_pursuit_denoising(
        signals, atoms, weight, method=method, warm_start=codes
    )
    assert found.converged.all() and torch.equal(codes, before)


@pytest.mark.parametrize("method", METHODS)
def test_zero_signals_change_nothing(method: str) -> None:
    signals, atoms = problem(5)
    weight = 0.1 * critical_coefficient(signals, atoms)
    alone = basis_pursuit_denoising(signals, atoms, weight, method=method)
    padded = torch.cat([torch.zeros(40, 12).double(), signals])
    prices = torch.cat([torch.ones(40).double(), weight])
    found = basis_pursuit_denoising(padded, atoms, prices, method=method)
    assert found.converged.all() and (found.codes[:40] == 0).all()
    assert (found.gap[:40] == 0).all()
    torch.testing.assert_close(
        found.codes[40:], alone.codes, rtol=1e-9, atol=0
    )


@pytest.mark.parametrize("method", METHODS)
def test_single_precision_keeps_the_promise(method: str) -> None:
    signals, atoms = problem(6, batch=30)
    weight = 0.1 * critical_coefficient(signals, atoms)
    found = basis_pursuit_denoising(
        signals.float(), atoms.float(), weight.float(), method=method
    )
    assert found.codes.dtype == torch.float32 and found.converged.all()
    wide = (signals.float(), atoms.float(), weight.float())
    s, d, w = (part.double() for part in wide)
    cost = lasso_objective(s, found.codes.double(), d, w)
    best = basis_pursuit_denoising(s, d, w, tolerance=1e-10)
    least = lasso_objective(s, best.codes, d, w)
    torch.testing.assert_close(cost, least, rtol=1e-6, atol=0)


@pytest.mark.parametrize("method", METHODS)
def test_copies_of_atoms_and_parallel_atoms(method: str) -> None:
    signals, atoms = problem(7)
    weight = 0.1 * critical_coefficient(signals, atoms)
    many = torch.cat([atoms, atoms, -atoms])
    found = basis_pursuit_denoising(signals, many, weight, method=method)
    cost = lasso_objective(signals, found.codes, many, weight)
    best = exact(signals, atoms, weight, False)
    assert found.converged.all()
    torch.testing.assert_close(cost, best, rtol=1e-6, atol=0)


@pytest.mark.parametrize("method", METHODS)
def test_one_signal_is_coded_like_one_of_many(method: str) -> None:
    signals, atoms = problem(8)
    together = basis_pursuit_denoising(signals, atoms, 0.1, method=method)
    for row in range(len(signals)):
        part = slice(row, row + 1)
        alone = basis_pursuit_denoising(
            signals[part], atoms, 0.1, method=method
        )
        assert alone.codes.shape == (1, 24)
        torch.testing.assert_close(
            alone.codes, together.codes[part], rtol=1e-9, atol=1e-12
        )


@pytest.mark.parametrize("method", METHODS)
def test_chunks_change_nothing(method: str) -> None:
    signals, atoms = problem(9, batch=11)
    whole = basis_pursuit_denoising(signals, atoms, 0.1, method=method)
    parts = basis_pursuit_denoising(
        signals, atoms, 0.1, method=method, chunk=3
    )
    torch.testing.assert_close(whole.codes, parts.codes, rtol=1e-9, atol=1e-12)
    assert torch.equal(whole.iterations, parts.iterations)


@pytest.mark.parametrize("method", METHODS)
def test_strict_tolerances_are_reached(method: str) -> None:
    signals, atoms = problem(10)
    weight = 0.3 * critical_coefficient(signals, atoms)
    found = basis_pursuit_denoising(
        signals, atoms, weight, method=method, tolerance=1e-11
    )
    assert found.converged.all()
    gap = duality_gap(signals, found.codes, atoms, weight)
    cost = lasso_objective(signals, found.codes, atoms, weight)
    assert (gap <= 1e-11 * cost).all()


@pytest.mark.parametrize("method", METHODS)
def test_many_atoms_in_few_dimensions(method: str) -> None:
    """More than two atoms per dimension: the residual form of FISTA."""
    signals, atoms = problem(11, dimension=6, atoms=40)
    weight = 0.2 * critical_coefficient(signals, atoms)
    found = basis_pursuit_denoising(signals, atoms, weight, method=method)
    cost = lasso_objective(signals, found.codes, atoms, weight)
    best = exact(signals, atoms, weight, False)
    torch.testing.assert_close(cost, best, rtol=1e-6, atol=0)


def test_coherent_atoms_with_hidden_valleys() -> None:
    """Atoms that differ by a hundredth: the worst case for descent."""
    draws = torch.Generator().manual_seed(0)
    centre = torch.randn(1, 30, generator=draws).double()
    jitter = torch.randn(60, 30, generator=draws).double()
    atoms = centre + 0.03 * jitter
    signals = torch.randn(8, 60, generator=draws).double() @ atoms
    weight = 0.001 * critical_coefficient(signals, atoms)
    found = basis_pursuit_denoising(signals, atoms, weight)
    assert found.converged.all()
    best = exact(signals, atoms, weight, False)
    cost = lasso_objective(signals, found.codes, atoms, weight)
    torch.testing.assert_close(cost, best, rtol=1e-6, atol=0)


def test_gradients_reach_the_objective() -> None:
    signals, atoms = problem(12, batch=2)
    codes = torch.randn(2, 24).double().requires_grad_()
    signals, atoms = signals.requires_grad_(), atoms.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda s, a, d: lasso_objective(s, a, d, 0.1), (signals, codes, atoms)
    )
    for method in METHODS:
        found = basis_pursuit_denoising(signals, atoms, 0.1, method=method)
        assert not found.codes.requires_grad


def test_the_rule_of_auto() -> None:
    assert _choose_method(torch.zeros(8192, 1)) == "coordinate-descent"
    assert _choose_method(torch.zeros(8193, 1)) == "fista"
    assert _choose_method(torch.zeros(8, 1, device="meta")) == "fista"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"method": "lasso"}, "method must be one of"),
        ({"coefficient": 0.0}, "coefficient must be above 0"),
        ({"coefficient": float("nan")}, "coefficient must be"),
        ({"coefficient": torch.tensor([0.1, -1.0])}, "one dtype"),
        ({"tolerance": 0.0}, "tolerance must be above 0"),
        ({"max_iterations": -1}, "max_iterations must be at least 0"),
        ({"chunk": 0}, "chunk must be at least 1"),
        ({"warm_start": torch.zeros(2, 3).double()}, "warm_start must have"),
    ],
)
@pytest.mark.parametrize("method", QUICK)
def test_refusals(method: str, change: dict, words: str) -> None:
    signals, atoms = problem(13, batch=2)
    options = {"coefficient": 0.1, "method": method} | change
    with pytest.raises(ValueError, match=words):
        basis_pursuit_denoising(signals, atoms, **options)


def test_numba_waits_until_it_is_needed() -> None:
    program = (
        "import sys, sparse_book.linear.basis_pursuit, "
        "sparse_book.linear.coordinate_descent; "
        "sys.exit('numba' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False)
    assert done.returncode == 0
