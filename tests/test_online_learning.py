"""Learning online: the kernels by brute force, the learner by its promises."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparse_book.linear.basis_pursuit import basis_pursuit_denoising
from sparse_book.linear.dictionaries import normalize_atoms, random_dictionary
from sparse_book.linear.online_learning import (
    _improve,
    _rough_codes,
    online_dictionary_learning,
)
from sparse_book.linear.shrinkage import (
    duality_gap,
    fista,
    lasso_objective,
)
from sparse_book.linear.sparsenet import _block_update, learn_dictionary

seeds = st.integers(0, 2**31 - 1)
dtypes = st.sampled_from([torch.float32, torch.float64])


def problem(seed, count, dimension, atoms, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    signals = torch.randn(count, dimension, generator=generator, dtype=dtype)
    dictionary = random_dictionary(
        atoms, dimension, generator=generator, dtype=dtype
    )
    return signals, dictionary


@given(
    seed=seeds,
    dimension=st.integers(2, 12),
    atoms=st.integers(1, 20),
    price=st.floats(0.05, 3),
    signed=st.booleans(),
    tolerance=st.sampled_from([0.01, 0.2, 0.5]),
    dtype=dtypes,
)
def test_rough_codes_break_no_condition_by_more_than_agreed(
    seed, dimension, atoms, price, signed, tolerance, dtype
) -> None:
    signals, dictionary = problem(seed, 5, dimension, atoms, dtype)
    signals[1] = 0
    codes = _rough_codes(signals, dictionary, price, signed, tolerance)
    assert codes.dtype == dtype and codes[1].abs().max() == 0
    assert signed or (codes >= 0).all()
    pull = (signals - codes @ dictionary) @ dictionary.T
    silent = (pull.abs() if signed else pull)[codes == 0]
    slack = 1e-3 if dtype == torch.float32 else 1e-9
    assert (silent <= (1 + tolerance) * price + slack).all()
    fine = _rough_codes(signals, dictionary, price, signed, 1e-4)
    gap = duality_gap(signals, fine, dictionary, price, nonnegative=not signed)
    cost = lasso_objective(signals, fine, dictionary, price)
    assert (gap <= 0.05 * cost).all()


def test_many_threads_code_alike() -> None:
    signals, dictionary = problem(3, 1000, 16, 40)
    code = partial(_rough_codes, signals, dictionary, 0.3, True, 0.1)
    threads = torch.get_num_threads()
    results = []
    try:
        for number in (1, 3):
            torch.set_num_threads(number)
            results.append(code())
    finally:
        torch.set_num_threads(threads)
    torch.testing.assert_close(*results)
    alone = _rough_codes(signals[7:8], dictionary, 0.3, True, 0.1)
    torch.testing.assert_close(alone[0], results[0][7])


@given(seed=seeds, dimension=st.integers(1, 9), atoms=st.integers(1, 80))
def test_blocks_of_atoms_change_nothing(seed, dimension, atoms) -> None:
    signals, dictionary = problem(seed, 30, dimension, atoms)
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randn(30, atoms, generator=generator).double()
    codes[:, ::5] = 0  # never used: must stay what they are
    moments, cross = codes.T @ codes, codes.T @ signals
    improved = dictionary.clone()
    _improve(improved, moments, cross)
    wanted = _block_update(dictionary, moments, cross)
    torch.testing.assert_close(improved, wanted, atol=1e-6, rtol=1e-6)
    assert torch.equal(improved[::5], dictionary[::5])


@settings(max_examples=15)
@given(seed=seeds, dtype=dtypes, nonnegative=st.booleans())
def test_the_learner_keeps_its_promises(seed, dtype, nonnegative) -> None:
    signals, start = problem(seed, 90, 6, 9, dtype)
    kept = start.clone(), signals.clone()
    rows = []
    learned = online_dictionary_learning(
        signals,
        start,
        0.3,
        nonnegative=nonnegative,
        steps=7,
        batch=10,
        watch=20,
        every=3,
        generator=torch.Generator().manual_seed(seed),
        callback=lambda atoms, row: rows.append((atoms, row)),
    )
    assert torch.equal(start, kept[0]) and torch.equal(signals, kept[1])
    assert learned.dictionary.dtype == dtype and not learned.interrupted
    norms = learned.dictionary.norm(dim=1)
    torch.testing.assert_close(norms, torch.ones_like(norms))
    assert [row.step for row in learned.history] == [0, 3, 6, 7]
    best = min(rows, key=lambda pair: pair[1].objective)
    assert torch.equal(best[0], learned.dictionary)
    assert learned.best == best[1]
    watched = signals[-20:]
    found = basis_pursuit_denoising(
        watched, learned.dictionary, 0.3, nonnegative=nonnegative
    )
    cost = lasso_objective(watched, found.codes, learned.dictionary, 0.3)
    assert learned.best.objective == pytest.approx(
        float(cost.mean()), rel=2e-4
    )


def planted(dtype=torch.float32):
    generator = torch.Generator().manual_seed(4)
    truth = random_dictionary(20, 16, generator=generator, dtype=dtype)
    codes = torch.randn(3000, 20, generator=generator, dtype=dtype)
    chosen = torch.rand(3000, 20, generator=generator).argsort(1) < 2
    return (codes * chosen) @ truth, truth


def test_equal_to_turns_with_another_coder() -> None:
    signals, truth = planted()
    start = normalize_atoms(signals[:20])
    online = online_dictionary_learning(
        signals,
        start,
        0.1,
        steps=150,
        batch=100,
        generator=torch.Generator().manual_seed(0),
    )
    turns = learn_dictionary(
        signals,
        start,
        partial(fista, coefficient=0.1, tolerance=1e-3),
        cost=lambda codes: 0.1 * codes.abs().sum(-1),
        update="block",
        memory=0.95,
        steps=150,
        batch=100,
        generator=torch.Generator().manual_seed(0),
    )
    assert online.best.objective < 1.1 * turns.best.objective
    found = (online.dictionary @ truth.T).abs().amax(0)
    assert (found > 0.95).sum() >= 15


def test_each_signal_comes_once_per_pass_and_dead_atoms_revive() -> None:
    signals, _ = planted()
    start = normalize_atoms(signals[:20])
    start[3] = -start[2]  # a twin, and two atoms that no signal uses:
    signals = torch.cat([signals, torch.zeros(3000, 1)], 1)
    start = torch.cat([start, torch.zeros(20, 1)], 1)
    start[5], start[6] = 0, 0
    start[5:7, -1] = 1
    learned = online_dictionary_learning(
        signals, start, 0.1, steps=60, batch=100, every=20
    )
    assert [row.revived for row in learned.history][1] >= 2
    assert (learned.dictionary[:, -1].abs() < 0.5).all()


@contextmanager
def keyboard():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("delay", [0.3, 0.37, 0.45])
def test_an_interruption_at_any_time_leaves_a_good_dictionary(delay) -> None:
    signals, _ = planted()
    start = normalize_atoms(signals[:20])
    with keyboard():
        online_dictionary_learning(signals, start, 0.1, steps=1)  # compile
        press = threading.Timer(delay, os.kill, (os.getpid(), signal.SIGINT))
        press.start()
        learned = online_dictionary_learning(
            signals, start, 0.1, steps=10**9, batch=100, every=7
        )
        press.join()
    assert learned.interrupted and learned.history[-1].step > 0
    norms = learned.dictionary.norm(dim=1)
    torch.testing.assert_close(norms, torch.ones_like(norms))
    assert learned.best.objective < learned.history[0].objective


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"watch": 60}, ValueError, "more than watch"),
        ({"batch": 0}, ValueError, "batch"),
        ({"coefficient": 0.0}, ValueError, "coefficient"),
        ({"tolerance": 0.0}, ValueError, "tolerance"),
        ({"forgetting": -1.0}, ValueError, "forgetting"),
        ({"steps": 1.0}, TypeError, "steps"),
        ({"start": torch.zeros(3, 6).double()}, ValueError, "zero"),
        ({"start": torch.ones(3, 6).half()}, ValueError, "dtype"),
        ({"signals": torch.zeros(60, 5).double()}, ValueError, "signals"),
        ({"signals": torch.zeros(60, 6)}, ValueError, "dtype"),
    ],
)
def test_learner_refuses(change, kind, words) -> None:
    signals, start = problem(2, 60, 6, 9)
    given_ = {"signals": signals, "start": start, "coefficient": 0.1}
    with pytest.raises(kind, match=words):
        online_dictionary_learning(
            **(given_ | {"watch": 20, "steps": 1} | change)
        )
