"""Gabor fits and field statistics: invariances, known answers, claims."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparse_book.linear.receptive_fields import (
    GaborFits,
    bootstrap_distance,
    field_statistics,
    fit_gabor,
    gabor,
    histogram_distance,
    ringach_counts,
    shape_entropy,
    shape_histogram,
)

from conftest import ROOT

NAMES = ("x", "y", "direction", "frequency", "sigma_x", "sigma_y")


def made(*numbers, side=16):
    values = torch.tensor(numbers, dtype=torch.float64)
    return GaborFits(*values[:, None], torch.ones(1).double(), side=side)


known = st.builds(
    lambda x, y, turn, f, n_x, n_y, phase, size: made(
        x, y, turn, f, n_x / f, n_y / f, phase, size
    ),
    st.floats(-2, 2),
    st.floats(-2, 2),
    st.floats(0, 3.14),
    st.floats(0.1, 0.25),
    st.floats(0.3, 0.5),
    st.floats(0.3, 0.5),
    st.floats(-3.1, 3.1),
    st.floats(0.1, 10),
)


@settings(max_examples=40)
@given(fits=known)
def test_known_functions_are_recovered(fits) -> None:
    found = fit_gabor(gabor(fits), 16)
    assert found.explained > 1 - 1e-6
    torch.testing.assert_close(gabor(found), gabor(fits), atol=1e-2, rtol=0)
    assert abs(found.n_x - fits.n_x) < 0.02
    assert abs(found.n_y - fits.n_y) < 0.02


@settings(max_examples=20)
@given(seed=st.integers(0, 2**31 - 1))
def test_statistics_know_the_symmetries_of_the_square(seed) -> None:
    generator = torch.Generator().manual_seed(seed)
    atoms = torch.randn(3, 12, 12, generator=generator, dtype=torch.float64)
    first = field_statistics(atoms.flatten(1), 12)
    for other in (-3 * atoms, atoms.mT, atoms.flip(1), atoms.flip(2)):
        same = field_statistics(other.flatten(1), 12)
        torch.testing.assert_close(same.spread, first.spread)
        torch.testing.assert_close(
            same.orientation, first.orientation, atol=0.02, rtol=0
        )
    assert (first.spread <= 2).all() and (first.orientation <= 1).all()


@settings(max_examples=10)
@given(seed=st.integers(0, 2**31 - 1))
def test_fits_do_not_depend_on_company_or_scale(seed) -> None:
    generator = torch.Generator().manual_seed(seed)
    atoms = torch.randn(3, 64, generator=generator, dtype=torch.float64)
    together = fit_gabor(atoms, 8)
    assert (together.explained >= 0).all() and (together.explained <= 1).all()
    drawn = gabor(together)
    error = (atoms - drawn).square().sum(1) / atoms.square().sum(1)
    torch.testing.assert_close(1 - error, together.explained)
    alone = fit_gabor(atoms[1:2], 8)
    torch.testing.assert_close(
        alone.explained, together.explained[1:2], atol=1e-3, rtol=0
    )
    larger = fit_gabor(1024 * atoms, 8)  # a power of two: no rounding
    torch.testing.assert_close(larger.n_x, together.n_x)
    torch.testing.assert_close(larger.amplitude, 1024 * together.amplitude)


def test_half_a_turn_is_no_turn() -> None:
    one = made(1, -1, 0.4, 0.15, 3, 3, 0.8, 1)
    other = made(1, -1, 0.4 + math.pi, 0.15, 3, 3, -0.8, 1)
    torch.testing.assert_close(gabor(one), gabor(other))
    found = fit_gabor(gabor(other), 16)
    assert abs(found.direction - 0.4) < 1e-4 and abs(found.phase - 0.8) < 1e-4


@given(
    first=st.lists(st.integers(0, 9), min_size=26, max_size=26).filter(any),
    second=st.lists(st.integers(0, 9), min_size=26, max_size=26).filter(any),
    third=st.lists(st.integers(0, 9), min_size=26, max_size=26).filter(any),
)
def test_distance_is_a_distance(first, second, third) -> None:
    a, b, c = (torch.tensor(x).double() for x in (first, second, third))
    ab = histogram_distance(a, b)
    assert -1e-12 <= ab <= 1 + 1e-12
    assert abs(ab - histogram_distance(b, a)) < 1e-12
    assert ab <= histogram_distance(a, c) + histogram_distance(c, b) + 1e-12
    assert histogram_distance(a, 7 * a) < 1e-12
    assert -1e-12 <= shape_entropy(a) <= math.log2(26) + 1e-12


def test_bootstrap_holds_what_it_should() -> None:
    counts = ringach_counts()
    generator = torch.Generator().manual_seed(0)
    low, high = bootstrap_distance(counts, counts, generator=generator)
    assert 0 < low < high < 0.5
    many_low, many_high = bootstrap_distance(
        100 * counts, 100 * counts, draws=20, generator=generator
    )
    assert many_high < low / 2 and many_low > 0
    outside = torch.zeros(26).double()
    outside[25] = 50
    low, high = bootstrap_distance(counts, outside, generator=generator)
    assert low == pytest.approx(1) and high == pytest.approx(1)


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda: fit_gabor(torch.ones(2, 63), 8), ValueError, "64"),
        (lambda: fit_gabor(torch.zeros(2, 64), 8), ValueError, "zero"),
        (lambda: fit_gabor(torch.ones(2, 9), 3), ValueError, "side"),
        (lambda: field_statistics(torch.zeros(1, 64), 8), ValueError, "zero"),
        (
            lambda: field_statistics(torch.ones(1, 64).int(), 8),
            TypeError,
            "floating",
        ),
        (
            lambda: histogram_distance(torch.ones(5), torch.ones(25)),
            ValueError,
            "first",
        ),
        (
            lambda: histogram_distance(torch.zeros(25), torch.ones(25)),
            ValueError,
            "at least one",
        ),
        (
            lambda: shape_histogram(torch.ones(2), torch.ones(3)),
            ValueError,
            "n_y",
        ),
        (lambda: shape_entropy(-torch.ones(3)), ValueError, "negative"),
    ],
)
def test_refusals(call, kind, words) -> None:
    with pytest.raises(kind, match=words):
        call()


def stored(run):
    with np.load(ROOT / "results" / "fields" / f"{run}.npz") as file:
        return torch.from_numpy(file["dictionary"]).double()


def test_the_claim_in_three_words_is_decided_as_the_page_says() -> None:
    """Localised, oriented, bandpass: most atoms of l1, next to no noise."""

    def share(atoms):
        kind = field_statistics(atoms, 16)
        both = kind.localised & kind.oriented & kind.bandpass
        return float(both.double().mean())

    generator = torch.Generator().manual_seed(0)
    assert share(torch.randn(256, 256, generator=generator)) < 0.05
    assert share(stored("l1")) > 0.5
    assert share(stored("log")) > 0.05
    counts = ringach_counts()
    fits = fit_gabor(stored("l1"), 16)
    good = fits.explained > 0.6
    shapes = shape_histogram(fits.n_x[good], fits.n_y[good])
    _, chance = bootstrap_distance(
        counts, counts, generator=torch.Generator().manual_seed(0)
    )
    distance = histogram_distance(shapes, counts)
    noise = fit_gabor(torch.randn(64, 256, generator=generator), 16)
    far = histogram_distance(shape_histogram(noise.n_x, noise.n_y), counts)
    assert distance < far
    assert distance > 0.1 and chance < 0.5
