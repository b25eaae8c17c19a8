"""The compiled pursuits: as PyTorch's, by brute force, in hard cases."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sparse_book.linear import compiled_pursuit
from sparse_book.linear.compiled_pursuit import _can_compile, _largest
from sparse_book.linear.dictionaries import SparseCodes, random_dictionary
from sparse_book.linear.pursuit import batch_omp
from sparse_book.linear.sparse_set import order_recursive_pursuit

DTYPES = [torch.float32, torch.float64]
SEEDS = st.integers(0, 2**31)
Coder = Callable[..., SparseCodes]


def omp(signals: Tensor, dictionary: Tensor, active: int) -> SparseCodes:
    return batch_omp(signals, dictionary, active=active)


CODERS = [omp, order_recursive_pursuit]


def problem(
    seed: int,
    batch: int = 6,
    dtype: torch.dtype = torch.float64,
    twin: bool = False,
) -> tuple[Tensor, Tensor]:
    """A zero signal, an exact atom, noise; unequal norms, perhaps a twin."""
    draw = torch.Generator().manual_seed(seed)
    unit = random_dictionary(24, 12, generator=draw, dtype=torch.float64)
    if twin:
        unit[17] = -unit[5]
    norms = 10 ** (2 * torch.rand(24, 1, generator=draw).double() - 1)
    signals = torch.randn(batch, 12, generator=draw).double()
    signals[0], signals[1] = 0, 3 * unit[7]
    return signals.to(dtype), (unit * norms).to(dtype)


def in_torch(coder: Coder, *arguments: Any, **options: Any) -> SparseCodes:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled_pursuit, "_can_compile", lambda *_: False)
        return coder(*arguments, **options)


def same(fast: SparseCodes, slow: SparseCodes) -> None:
    """Compare codes; of an atom and its twin either may be chosen."""
    codes = []
    for found in (fast, slow):
        size = found.codes.abs()
        codes.append(found.codes.clone())
        codes[-1][:, [5, 17]] = 0
        assert not (size[:, 5] * size[:, 17]).any()
    torch.testing.assert_close(*codes, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(
        fast.residual_norm, slow.residual_norm, rtol=1e-6, atol=1e-7
    )
    assert torch.equal(fast.iterations, slow.iterations)
    assert torch.equal(fast.converged, slow.converged)


@given(SEEDS, st.integers(1, 9), st.integers(1, 7), st.floats(0.05, 0.9))
def test_omp_is_as_in_torch(
    seed: int, active: int, portion: int, share: float
) -> None:
    signals, atoms = problem(seed, twin=True)
    goals = share * signals.norm(dim=1)
    stops: list[dict[str, Any]] = [
        {"active": active},
        {"tolerance": goals},
        {"active": active, "tolerance": 0.5},
    ]
    for stop in stops:
        fast = batch_omp(signals, atoms, portion=portion, **stop)
        same(fast, in_torch(batch_omp, signals, atoms, **stop))
        table = atoms @ atoms.mT
        same(batch_omp(signals, atoms, gram=table, **stop), fast)


@given(SEEDS, st.integers(1, 9), st.floats(0, 0.5))
def test_order_recursive_is_as_in_torch(
    seed: int, active: int, price: float
) -> None:
    arguments = (*problem(seed, twin=True), active)
    fast = order_recursive_pursuit(*arguments, coefficient=price)
    slow = in_torch(order_recursive_pursuit, *arguments, coefficient=price)
    same(fast, slow)


@given(SEEDS)
def test_every_step_lowers_the_error_most(seed: int) -> None:
    signals, atoms = problem(seed)
    support: list[int] = []
    signal, columns = signals[3].numpy(), atoms.T.numpy()
    for k in range(1, 6):
        tried = {}
        for j in set(range(24)) - set(support):
            some = columns[:, [*support, j]]
            fit = np.linalg.lstsq(some, signal, rcond=None)[0]
            tried[j] = ((signal - some @ fit) ** 2).sum()
        found = order_recursive_pursuit(signals[3:4], atoms, k)
        left = float(found.residual_norm[0]) ** 2
        assert left == pytest.approx(min(tried.values()), rel=1e-6)
        now = found.codes[0].nonzero()[:, 0].tolist()
        (new,) = set(now) - set(support)
        support.append(new)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("coder", CODERS)
def test_hard_signals(coder: Coder, dtype: torch.dtype) -> None:
    signals, atoms = problem(1, dtype=dtype, twin=True)
    found = coder(signals, atoms, 4)
    assert found.iterations.tolist() == [0, 1, 4, 4, 4, 4]
    assert (found.codes != 0).sum(1).tolist() == [0, 1, 4, 4, 4, 4]
    assert found.codes[1].argmax() == 7
    alone = coder(signals[2:3], atoms, 4)
    assert alone.codes.shape == (1, 24)
    torch.testing.assert_close(
        alone.residual_norm, found.residual_norm[2:3], rtol=1e-4, atol=0
    )
    full = coder(signals, atoms, 12)
    assert full.codes.isfinite().all()
    assert not ((full.codes[:, 5] != 0) & (full.codes[:, 17] != 0)).any()
    assert full.residual_norm.max() < 1e-3 * signals.norm(dim=1).max()
    assert coder(signals[:0], atoms, 4).codes.shape == (0, 24)


@pytest.mark.parametrize("coder", CODERS)
def test_company_changes_nothing(coder: Coder) -> None:
    signals, atoms = problem(2, batch=40)
    plain = coder(signals, atoms, 5)
    padded = torch.cat([torch.zeros(1100, 12).double(), signals])
    found = coder(padded, atoms, 5)
    torch.testing.assert_close(found.codes[1100:], plain.codes)
    assert (found.codes[:1100] == 0).all()


@pytest.mark.parametrize("coder", CODERS)
def test_single_precision_is_near_double(coder: Coder) -> None:
    signals, atoms = problem(3, batch=300)
    double = coder(signals, atoms, 6)
    single = coder(signals.float(), atoms.float(), 6)
    near = (single.codes - double.codes).abs().amax(1) < 1e-3
    assert near.double().mean() > 0.97  # near ties may fall either way
    left = signals - single.codes.double() @ atoms
    torch.testing.assert_close(
        single.residual_norm.double(), left.norm(dim=1), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("power", [-120, 100])
@pytest.mark.parametrize("coder", CODERS)
def test_loud_and_faint_signals(coder: Coder, power: int) -> None:
    signals, atoms = problem(4, dtype=torch.float32)
    plain = coder(signals, atoms, 4)
    scaled = coder(signals * 2.0**power, atoms, 4)
    assert torch.equal(scaled.codes, plain.codes * 2.0**power)


def test_threads_agree() -> None:
    signals, atoms = problem(5, batch=200)
    threads = torch.get_num_threads()
    codes = []
    for count in (1, 3):
        torch.set_num_threads(count)
        codes.append([coder(signals, atoms, 5).codes for coder in CODERS])
    torch.set_num_threads(threads)
    for one, three in zip(*codes, strict=True):
        torch.testing.assert_close(one, three)


def test_layout_does_not_matter() -> None:
    signals, atoms = problem(6)
    strided = torch.cat([signals, signals], 1)[:, :12]
    for coder in CODERS:
        found = coder(strided, atoms.T.contiguous().T, 4)
        torch.testing.assert_close(found.codes, coder(signals, atoms, 4).codes)


def test_gradients_go_through_torch() -> None:
    signals, atoms = problem(7)
    tracked = signals.requires_grad_()
    assert not _can_compile(tracked, atoms)
    assert batch_omp(tracked, atoms, active=3).codes.requires_grad
    with torch.no_grad():
        assert _can_compile(tracked, atoms)
        assert not batch_omp(tracked, atoms, active=3).codes.requires_grad
    assert not _can_compile(torch.zeros(1, device="meta"))


@given(st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=200))
def test_largest_finds_the_first_largest(numbers: list[int]) -> None:
    bits = np.array(numbers, np.int32)
    assert _largest(bits) == bits.argmax()
