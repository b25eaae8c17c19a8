"""Sparse-set coding: brute force, identities, hard cases, the verdict."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparse_book.linear.dictionaries import random_dictionary
from sparse_book.linear.receptive_fields import field_statistics, fit_gabor
from sparse_book.linear.sparse_set import (
    field_diversity,
    hopfield_codes,
    hopfield_energy,
    order_recursive_pursuit,
)

from conftest import ROOT

seeds = st.integers(0, 2**31 - 1)
sizes = st.integers(2, 8)


def problem(seed, dimension, atoms, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    signals = torch.randn(4, dimension, generator=generator, dtype=dtype)
    dictionary = random_dictionary(
        atoms, dimension, generator=generator, dtype=dtype
    )
    return signals, dictionary


@given(seed=seeds, dimension=sizes, atoms=sizes, price=st.floats(0, 1))
def test_every_step_is_the_best_step(seed, dimension, atoms, price) -> None:
    signals, dictionary = problem(seed, dimension, atoms)
    most = min(dimension, atoms)
    trail = [
        order_recursive_pursuit(signals, dictionary, k, coefficient=price)
        for k in range(1, most + 1)
    ]
    for n, signal in enumerate(signals):
        support, error = [], float(signal.square().sum())
        for found in trail:
            now = found.codes[n].nonzero()[:, 0].tolist()
            assert set(support) <= set(now)
            best = error
            for k in set(range(atoms)) - set(support):
                some = dictionary[[*support, k]].T.numpy()
                a = np.linalg.lstsq(some, signal.numpy(), rcond=None)[0]
                left = float(((signal.numpy() - some @ a) ** 2).sum())
                best = min(best, left)
            if len(now) == len(support):
                assert (error - best) / 2 <= price + 1e-9
                break
            left = float(found.residual_norm[n]) ** 2
            assert left == pytest.approx(best, abs=1e-8)
            support, error = now, left


@given(seed=seeds, dimension=sizes, atoms=sizes)
def test_residual_is_orthogonal_to_what_was_chosen(
    seed, dimension, atoms
) -> None:
    signals, dictionary = problem(seed, dimension, atoms)
    found = order_recursive_pursuit(signals, dictionary, 3)
    residual = signals - found.codes @ dictionary
    inner = (residual @ dictionary.T) * (found.codes != 0)
    assert inner.abs().max() < 1e-6
    torch.testing.assert_close(
        found.residual_norm, residual.norm(dim=1), atol=1e-9, rtol=0
    )


@given(seed=seeds, count=st.integers(1, 20))
def test_company_changes_no_code(seed, count) -> None:
    generator = torch.Generator().manual_seed(seed)
    dictionary = random_dictionary(30, 20, generator=generator)
    signals = torch.randn(count, 20, generator=generator)
    signals[0] = 0
    found = order_recursive_pursuit(signals, dictionary, 17, coefficient=0.1)
    alone = order_recursive_pursuit(
        signals[-1:], dictionary, 17, coefficient=0.1
    )
    torch.testing.assert_close(
        found.codes[-1:], alone.codes, atol=1e-4, rtol=1e-4
    )
    assert found.codes[0].abs().max() == 0 and found.iterations[0] == 0


@given(seed=seeds, atoms=st.integers(2, 7), price=st.floats(0.01, 1))
def test_network_rests_where_no_unit_can_improve(seed, atoms, price) -> None:
    signals, dictionary = problem(seed, 5, atoms)
    last = None
    for sweeps in range(1, 12):
        found = hopfield_codes(signals, dictionary, price, sweeps=sweeps)
        states = (found.codes != 0).double()
        energy = hopfield_energy(states, signals, dictionary, price)
        assert last is None or (energy <= last + 1e-9).all()
        last = energy
    assert found.converged.all() and (last <= 1e-12).all()
    for k in range(atoms):
        turned = states.clone()
        turned[:, k] = 1 - turned[:, k]
        other = hopfield_energy(turned, signals, dictionary, price)
        assert (other >= last - 1e-9).all()


def test_refusals() -> None:
    signals, dictionary = problem(0, 5, 7)
    with pytest.raises(ValueError, match="unit norm"):
        hopfield_codes(signals, 2 * dictionary, 0.1)
    with pytest.raises(ValueError, match="active"):
        order_recursive_pursuit(signals, dictionary, 0)
    with pytest.raises(ValueError, match="coefficient"):
        order_recursive_pursuit(signals, dictionary, 2, coefficient=-1.0)
    with pytest.raises(ValueError, match="0 or 1"):
        hopfield_energy(
            torch.full((4, 7), 0.5).double(), signals, dictionary, 0.1
        )
    with pytest.raises(TypeError, match="active"):
        order_recursive_pursuit(signals, dictionary, 2.0)
    noise = torch.randn(3, 64, generator=torch.Generator().manual_seed(0))
    fits, kinds = fit_gabor(noise, 8), field_statistics(noise, 8)
    with pytest.raises(ValueError, match="same atoms"):
        field_diversity(fits, field_statistics(noise[:2], 8))
    with pytest.raises(ValueError, match="no atom is a field"):
        field_diversity(fits, kinds)


def test_the_verdict_on_diversity_follows_from_the_stored_fields() -> None:
    measured = {}
    for run in ("l1", "l0", "l0-active"):
        with np.load(ROOT / "results" / "fields" / f"{run}.npz") as file:
            atoms = torch.from_numpy(file["dictionary"]).double()
        measured[run] = fit_gabor(atoms, 16), field_statistics(atoms, 16)
    counted = {run: field_diversity(*both) for run, both in measured.items()}
    for kind in counted.values():
        assert kind.formed > 0.5
        for name in ("blobs", "unoriented", "elongated"):
            assert 0 <= getattr(kind, name) <= 1
    generator = torch.Generator().manual_seed(1)
    gaps = {
        run: {"blobs": [], "unoriented": [], "entropy": []}
        for run in ("l0", "l0-active")
    }
    for _ in range(300):
        drawn = {
            run: field_diversity(
                *both, torch.randint(256, (256,), generator=generator)
            )
            for run, both in measured.items()
        }
        for run, parts in gaps.items():
            for part, values in parts.items():
                values.append(
                    getattr(drawn[run], part) - getattr(drawn["l1"], part)
                )
    said = {}
    for run, parts in gaps.items():
        for part, values in parts.items():
            low, high = np.quantile(values, [0.025, 0.975])
            said[run, part] = (
                "more" if low > 0 else "fewer" if high < 0 else "undecided"
            )
    assert said == {
        ("l0", "blobs"): "undecided",
        ("l0", "unoriented"): "more",
        ("l0", "entropy"): "undecided",
        ("l0-active", "blobs"): "fewer",
        ("l0-active", "unoriented"): "more",
        ("l0-active", "entropy"): "more",
    }


def test_equal_activity_and_equal_error_are_what_the_page_says() -> None:
    with (ROOT / "results" / "fields" / "runs.csv").open() as file:
        runs = {line["run"]: line for line in csv.DictReader(file)}
    for start in ("", "-again"):
        soft, hard = runs[f"l1{start}"], runs[f"l0{start}"]
        assert abs(float(hard["error"]) / float(soft["error"]) - 1) < 0.02
        busy = runs[f"l0-active{start}"]
        assert abs(float(busy["active"]) / float(soft["active"]) - 1) < 0.15
    assert runs["l1-again"]["seed"] != runs["l1"]["seed"]
