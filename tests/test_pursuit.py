"""Matching pursuit: identities, other programs, hard cases, refusals."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import orthogonal_mp
from torch import Tensor

from sparse_book.linear.dictionaries import (
    SparseCodes,
    coherence,
    random_dictionary,
)
from sparse_book.linear.pursuit import (
    batch_omp,
    matching_pursuit,
    orthogonal_matching_pursuit,
)

Coder = Callable[..., SparseCodes]
ORTHOGONAL = [orthogonal_matching_pursuit, batch_omp]
ALL = [matching_pursuit, *ORTHOGONAL]
SEEDS = st.integers(0, 2**31)


def problem(
    seed: int,
    batch: int = 6,
    atoms: int = 24,
    dimension: int = 12,
    dtype: torch.dtype = torch.float64,
) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    dictionary = random_dictionary(atoms, dimension, generator=draw)
    signals = torch.randn(batch, dimension, generator=draw)
    dictionary, signals = dictionary.double(), signals.double()
    return signals.to(dtype), dictionary.to(dtype)


@given(SEEDS, st.integers(1, 12))
def test_residual_is_orthogonal_to_the_chosen(seed: int, active: int) -> None:
    signals, dictionary = problem(seed)
    for coder in ORTHOGONAL:
        found = coder(signals, dictionary, active=active)
        residual = signals - found.codes @ dictionary
        inner = (residual @ dictionary.mT)[found.codes != 0]
        assert inner.abs().max() < 1e-8
        assert ((found.codes != 0).sum(1) == found.iterations).all()
        assert (found.iterations == active).all() and found.converged.all()


@given(SEEDS, st.integers(1, 30))
def test_energy_is_conserved(seed: int, steps: int) -> None:
    """Each step of MP takes the squared correlation of its atom."""
    signals, dictionary = problem(seed)
    before = signals
    if steps > 1:
        code = matching_pursuit(
            signals, dictionary, max_iterations=steps - 1
        ).codes
        before = signals - code @ dictionary
    after = matching_pursuit(signals, dictionary, max_iterations=steps)
    norms = dictionary.norm(dim=1)
    taken = (before @ dictionary.mT / norms).abs().amax(1).square()
    torch.testing.assert_close(
        before.square().sum(1), taken + after.residual_norm.square()
    )


@given(SEEDS, st.integers(1, 9))
def test_equals_scikit_learn(seed: int, active: int) -> None:
    signals, dictionary = problem(seed)
    theirs = torch.tensor(
        orthogonal_mp(
            dictionary.mT.numpy(), signals.mT.numpy(), n_nonzero_coefs=active
        )
    ).mT
    for coder in ORTHOGONAL:
        ours = coder(signals, dictionary, active=active).codes
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-8)


@given(SEEDS, st.floats(0.05, 0.9))
def test_stops_by_error_as_scikit_learn_does(seed: int, share: float) -> None:
    signals, dictionary = problem(seed)
    goals = share * signals.norm(dim=1)
    for coder in ORTHOGONAL:
        found = coder(signals, dictionary, tolerance=goals)
        assert found.converged.all()
        assert (found.residual_norm <= goals).all()
        for signal, goal, code in zip(
            signals, goals, found.codes, strict=True
        ):
            theirs = orthogonal_mp(
                dictionary.mT.numpy(), signal.numpy(), tol=float(goal) ** 2
            )
            torch.testing.assert_close(
                code, torch.tensor(theirs), rtol=1e-6, atol=1e-8
            )


@given(SEEDS, st.integers(1, 4))
def test_recovers_below_the_coherence_bound(seed: int, active: int) -> None:
    """Identity and Walsh functions: coherence 1/8, up to four atoms."""
    waves = torch.ones(1, 1, dtype=torch.float64)
    two = torch.tensor([[1.0, 1], [1, -1]], dtype=torch.float64)
    for _ in range(6):
        waves = torch.kron(two, waves)
    dictionary = torch.cat([torch.eye(64, dtype=torch.float64), waves / 8])
    assert active < (1 + 1 / float(coherence(dictionary))) / 2
    draw = torch.Generator().manual_seed(seed)
    places = torch.rand(20, 128, generator=draw).topk(active, dim=1).indices
    values = torch.randn(20, active, generator=draw).double()
    values = values.sign() * (0.1 + values.abs())
    truth = torch.zeros(20, 128).double().scatter(1, places, values)
    for coder in ORTHOGONAL:
        found = coder(truth @ dictionary, dictionary, active=active)
        torch.testing.assert_close(found.codes, truth)


@given(SEEDS, st.integers(1, 12), st.integers(1, 7))
def test_batch_omp_is_omp(seed: int, active: int, portion: int) -> None:
    signals, dictionary = problem(seed)
    dictionary = dictionary * torch.linspace(0.1, 9, 24).double()[:, None]
    plain = orthogonal_matching_pursuit(signals, dictionary, active=active)
    fast = batch_omp(
        signals,
        dictionary,
        active=active,
        gram=dictionary @ dictionary.mT,
        portion=portion,
    )
    torch.testing.assert_close(fast.codes, plain.codes, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(fast.residual_norm, plain.residual_norm)
    assert torch.equal(fast.iterations, plain.iterations)


@pytest.mark.parametrize("coder", ALL)
@given(seed=SEEDS)
def test_atoms_of_any_length(coder: Coder, seed: int) -> None:
    signals, dictionary = problem(seed)
    draw = torch.Generator().manual_seed(seed)
    lengths = 10 ** (4 * torch.rand(24, 1, generator=draw).double() - 2)
    unit = coder(signals, dictionary, active=4)
    long = coder(signals, dictionary * lengths, active=4)
    torch.testing.assert_close(long.codes * lengths[:, 0], unit.codes)
    torch.testing.assert_close(long.residual_norm, unit.residual_norm)


@pytest.mark.parametrize("coder", ALL)
@pytest.mark.parametrize("power", [-120, -60, 60, 120])
def test_loud_and_faint_signals(coder: Coder, power: int) -> None:
    signals, dictionary = problem(0, dtype=torch.float32)
    plain = coder(signals, dictionary, active=4, tolerance=1.0)
    scale = 2.0**power
    loud = coder(signals * scale, dictionary, active=4, tolerance=scale)
    assert torch.equal(loud.codes, plain.codes * scale)
    assert torch.equal(loud.converged, plain.converged)


@pytest.mark.parametrize("coder", ALL)
@given(seed=SEEDS)
def test_zero_signals_change_nothing(coder: Coder, seed: int) -> None:
    signals, dictionary = problem(seed)
    padded = torch.cat([torch.zeros(9, 12).double(), signals])
    for stop in [{"active": 4}, {"tolerance": 0.7}]:
        alone = coder(signals, dictionary, **stop)
        found = coder(padded, dictionary, **stop)
        torch.testing.assert_close(found.codes[9:], alone.codes)
        assert torch.equal(found.iterations[9:], alone.iterations)
        assert (found.codes[:9] == 0).all()
        assert (found.iterations[:9] == 0).all()
        assert found.converged[:9].all()


@pytest.mark.parametrize("coder", ALL)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_exact_atoms(coder: Coder, dtype: torch.dtype) -> None:
    _, dictionary = problem(1, atoms=40, dimension=64, dtype=dtype)
    scale = torch.linspace(-3, 5, 40, dtype=dtype)[:, None]
    stops: list[dict[str, Any]] = [{"active": 5}, {"tolerance": 1e-5}]
    for stop in stops:
        found = coder(scale * dictionary, dictionary, **stop)
        torch.testing.assert_close(found.codes, torch.diag(scale[:, 0]))
        assert (found.iterations == 1).all() and found.converged.all()


@pytest.mark.parametrize("coder", ALL)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_duplicate_atoms(coder: Coder, dtype: torch.dtype) -> None:
    signals, half = problem(2, atoms=8, dtype=dtype)
    dictionary = torch.cat([half, half, -2 * half])
    found = coder(signals, dictionary, active=8)
    assert found.codes.isfinite().all()
    if coder is matching_pursuit:
        return  # it may return to a direction, by its other copy too
    assert found.converged.all()
    both = (found.codes != 0).reshape(6, 3, 8).sum(1)
    assert both.max() == 1  # no direction twice
    single = coder(signals, half, active=8)
    torch.testing.assert_close(
        found.residual_norm, single.residual_norm, rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("coder", ALL)
def test_one_signal_and_none(coder: Coder) -> None:
    signals, dictionary = problem(3)
    one = coder(signals[:1], dictionary, active=3)
    assert one.codes.shape == (1, 24) and one.residual_norm.shape == (1,)
    every = coder(signals, dictionary, active=3)
    torch.testing.assert_close(one.codes, every.codes[:1])
    for stop in [{"active": 3}, {"tolerance": 0.5}]:
        none = coder(signals[:0], dictionary, **stop)
        assert none.codes.shape == (0, 24) and none.converged.shape == (0,)


@pytest.mark.parametrize("coder", ALL)
def test_single_precision(coder: Coder) -> None:
    signals, dictionary = problem(4, batch=200, atoms=80, dimension=40)
    double = coder(signals, dictionary, active=8)
    single = coder(signals.float(), dictionary.float(), active=8)
    # A near tie may fall either way; then both codes are about as good.
    torch.testing.assert_close(
        single.residual_norm.double(),
        double.residual_norm,
        rtol=0.1,
        atol=0,
    )
    near = (single.codes - double.codes).abs().amax(1) < 1e-4
    assert near.double().mean() > 0.98
    left = signals - single.codes.double() @ dictionary
    torch.testing.assert_close(
        single.residual_norm.double(), left.norm(dim=1), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("coder", ALL)
@given(seed=SEEDS)
def test_a_tolerance_for_each_signal(coder: Coder, seed: int) -> None:
    signals, dictionary = problem(seed)
    draw = torch.Generator().manual_seed(seed)
    goals = signals.norm(dim=1) * torch.rand(6, generator=draw).double()
    goals[0] = 2 * signals[0].norm()
    found = coder(signals, dictionary, tolerance=goals)
    assert found.iterations[0] == 0 and found.converged[0]
    for k in range(6):
        alone = coder(
            signals[k : k + 1], dictionary, tolerance=float(goals[k])
        )
        torch.testing.assert_close(found.codes[k : k + 1], alone.codes)
        assert torch.equal(found.iterations[k], alone.iterations[0])
    assert torch.equal(found.converged, found.residual_norm <= goals)


@pytest.mark.parametrize("coder", ALL)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_small_tolerances_are_measured(
    coder: Coder, dtype: torch.dtype
) -> None:
    """Where the energy recursion has lost its digits, the truth counts."""
    signals, dictionary = problem(5, batch=50, dtype=dtype)
    relative = 200 * torch.finfo(dtype).eps
    goals = relative * signals.norm(dim=1)
    more = {"max_iterations": 20_000} if coder is matching_pursuit else {}
    found = coder(signals, dictionary, tolerance=goals, **more)
    left = (
        signals.double() - found.codes.double() @ dictionary.double()
    ).norm(dim=1)
    slack = 8 * torch.finfo(dtype).eps * signals.norm(dim=1)
    assert (left[found.converged] <= (goals + slack)[found.converged]).all()
    assert found.converged.double().mean() > 0.9
    zero = coder(signals, dictionary, tolerance=0.0)
    assert torch.equal(zero.converged, zero.residual_norm == 0)


@pytest.mark.parametrize("coder", ALL)
def test_not_reached_is_said(coder: Coder) -> None:
    signals, dictionary = problem(6, atoms=5)  # does not span the space
    found = coder(signals, dictionary, tolerance=1e-3)
    assert not found.converged.any()
    assert (found.residual_norm > 1e-3).all()
    both = coder(signals, dictionary, tolerance=1e-3, active=2)
    assert ((both.codes != 0).sum(1) <= 2).all() and not both.converged.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dependent_atoms_stop_the_signal(dtype: torch.dtype) -> None:
    """Two atoms too close for the Gram matrix, not for QR."""
    apart = math.sqrt(torch.finfo(dtype).eps)
    dictionary = torch.tensor([[1, 0, 0], [1, apart, 0], [0, 0, 1]]).to(dtype)
    signals = torch.tensor([[1, 1, 0], [2, 0, 1]]).to(dtype)
    fast = batch_omp(signals, dictionary, active=2)
    assert fast.converged.tolist() == [False, True]
    assert fast.iterations.tolist() == [1, 2]
    assert fast.codes.isfinite().all()
    plain = orthogonal_matching_pursuit(signals, dictionary, active=2)
    assert plain.converged.all() and (plain.residual_norm < 1e-3).all()


@pytest.mark.parametrize("coder", ALL)
def test_gradients(coder: Coder) -> None:
    signals, dictionary = problem(7, batch=3)
    signals.requires_grad_()
    dictionary = (1.3 * dictionary).requires_grad_()
    # Codes that stop early have unused places: their gradient must be whole.
    goals = signals.detach().norm(dim=1) * torch.tensor([0.9, 0.6, 2]).double()
    for stop in [{"active": 3}, {"tolerance": goals}]:
        assert torch.autograd.gradcheck(
            lambda s, d, stop=stop: coder(s, d, **stop).codes,
            (signals, dictionary),
        )
        found = coder(signals, dictionary, **stop)
        assert not found.residual_norm.requires_grad
        with torch.no_grad():
            same = coder(signals, dictionary, **stop)
        torch.testing.assert_close(found.codes.detach(), same.codes)


def test_matching_pursuit_counts_its_steps() -> None:
    signals, dictionary = problem(8)
    short = matching_pursuit(signals, dictionary, max_iterations=5)
    assert (short.iterations == 5).all() and not short.converged.any()
    long = matching_pursuit(
        signals, dictionary, active=3, max_iterations=100_000
    )
    assert long.converged.all()
    assert ((long.codes != 0).sum(1) == 3).all()
    endless = matching_pursuit(signals, dictionary, max_iterations=5000)
    assert endless.converged.all()  # explained, up to rounding
    assert endless.residual_norm.max() < 1e-12


# --- refusals

BAD: list[tuple[type[Exception], str, dict[str, Any]]] = [
    (ValueError, r"signals .*\(batch, 12\), got \(12,\)", {"signals": 0}),
    (ValueError, r"signals .*\(batch, 12\), got \(6, 11\)", {"signals": 1}),
    (ValueError, "signals must be finite, got 1 NaN", {"signals": 2}),
    (ValueError, "signals must be finite.* 1 infinite", {"signals": 3}),
    (TypeError, "signals .*int64", {"signals": 4}),
    (TypeError, "signals .*got list", {"signals": [1.0]}),
    (ValueError, "one dtype, got torch.float32", {"signals": 5}),
    (ValueError, "one device, got meta and cpu", {"signals": 6}),
    (
        ValueError,
        r"dictionary .*\(24,\)|dictionary .*shape",
        {"dictionary": 0},
    ),
    (ValueError, "no zero atom.* 2", {"dictionary": 1}),
    (ValueError, "at least one atom", {"dictionary": 2}),
    (TypeError, "dictionary .*int64", {"dictionary": 3}),
    (ValueError, "dictionary must be finite", {"dictionary": 4}),
    (ValueError, "active must be in 1…12, got 0", {"active": 0}),
    (ValueError, "active must be in 1…12, got 13", {"active": 13}),
    (TypeError, "active must be an integer, got float", {"active": 3.0}),
    (ValueError, "tolerance must be at least 0, got -1", {"tolerance": -1.0}),
    (ValueError, "tolerance must be at least 0", {"tolerance": math.nan}),
    (TypeError, "tolerance must be a number, got str", {"tolerance": "1"}),
    (ValueError, r"tolerance .*\(6,\), got \(5,\)", {"tolerance": 5}),
    (ValueError, "tolerance .*at least 0, got -2", {"tolerance": -2}),
    (TypeError, "tolerance .*int64", {"tolerance": 7}),
    (ValueError, "one device, got cpu and meta", {"tolerance": 8}),
]


def broken(name: str, case: Any) -> Any:
    signals, dictionary = problem(9)
    if name == "active" or not isinstance(case, int):
        return case
    if name == "signals":
        hole = signals.clone()
        hole[2, 3] = {2: math.nan, 3: math.inf}.get(case, 0.0)
        return {
            0: signals[0],
            1: signals[:, :11],
            4: signals.long(),
            5: signals.float(),
            6: signals.to("meta"),
        }.get(case, hole)
    if name == "dictionary":
        hole = dictionary.clone()
        hole[2] = 0.0 if case == 1 else math.nan
        return {0: dictionary[0], 2: dictionary[:0], 3: dictionary.long()}.get(
            case, hole
        )
    each = torch.ones(6, dtype=torch.float64)
    return {5: each[:5], -2: -2 * each, 7: each.long(), 8: each.to("meta")}[
        case
    ]


@pytest.mark.parametrize("coder", ALL)
@pytest.mark.parametrize(("kind", "words", "change"), BAD)
def test_refuses(
    coder: Coder, kind: type[Exception], words: str, change: dict[str, Any]
) -> None:
    signals, dictionary = problem(9)
    call = {"signals": signals, "dictionary": dictionary, "active": 3}
    call |= {name: broken(name, case) for name, case in change.items()}
    with pytest.raises(kind, match=words):
        coder(**call)


@pytest.mark.parametrize("coder", ALL)
def test_refuses_half_precision(coder: Coder) -> None:
    signals, dictionary = problem(9)
    with pytest.raises(TypeError, match=r"float32 or torch.float64"):
        coder(signals.bfloat16(), dictionary.bfloat16(), active=3)


@pytest.mark.parametrize("coder", ORTHOGONAL)
def test_refuses_to_run_without_an_end(coder: Coder) -> None:
    with pytest.raises(ValueError, match="active, tolerance or both"):
        coder(*problem(9))


def test_refuses_what_only_one_function_takes() -> None:
    signals, dictionary = problem(9)
    gram = dictionary @ dictionary.mT
    for wrong, words in [
        (gram[1:], r"gram .*\(24, 24\), got \(23, 24\)"),
        (2 * gram, "squared norm 1 of atom"),
        (gram.float(), "one dtype"),
        (gram.to("meta"), "one device"),
        (gram * math.nan, "gram must be finite"),
    ]:
        with pytest.raises(ValueError, match=words):
            batch_omp(signals, dictionary, active=2, gram=wrong)
    with pytest.raises(TypeError, match="gram"):
        batch_omp(signals, dictionary, active=2, gram=gram.long())
    with pytest.raises(ValueError, match="portion must be at least 1"):
        batch_omp(signals, dictionary, active=2, portion=0)
    for count, kind in [(0, ValueError), (2.5, TypeError)]:
        with pytest.raises(kind, match="max_iterations"):
            matching_pursuit(signals, dictionary, max_iterations=count)
