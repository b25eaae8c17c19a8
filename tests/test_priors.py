"""Priors and penalties: the two readings of one objective agree."""

import math
from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from torch import Tensor
from torch.distributions import Cauchy, Laplace, Normal, Uniform

from sparse_book.linear.dictionaries import random_dictionary
from sparse_book.linear.priors import (
    SpikeAndSlab,
    coefficient_of,
    implied_penalty,
    l0_penalty,
    l1_penalty,
    log_penalty,
    log_posterior,
    penalized_objective,
)

SEEDS = st.integers(0, 2**32 - 1)
SCALES = st.floats(0.05, 20)
SHARES = st.floats(0.01, 0.99)


def double(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def problem(
    seed: int, atoms: int, dimension: int, batch: int = 1
) -> tuple[Tensor, Tensor, Tensor]:
    """Signals, codes and a dictionary drawn by lot."""
    stream = torch.Generator().manual_seed(seed)
    kind = {"generator": stream, "dtype": torch.float64}
    dictionary = random_dictionary(atoms, dimension, **kind)
    signals = 2 * torch.randn(1, dimension, **kind).expand(batch, -1)
    codes = 2 * torch.randn(batch, atoms, **kind)
    kept = torch.rand(batch, atoms, **kind) < 0.6
    return signals, codes * kept, dictionary


@given(SEEDS, SCALES, SCALES, SHARES)
def test_bill_and_posterior_differ_by_a_constant(
    seed: int, noise: float, scale: float, share: float
) -> None:
    signals, codes, dictionary = problem(seed, 7, 4, batch=20)
    pairs = [
        (Laplace(double(0.0), double(scale)), l1_penalty),
        (
            Cauchy(double(0.0), double(scale)),
            lambda a: log_penalty(a, scale),
        ),
        (
            SpikeAndSlab(share, Uniform(double(-99.0), double(99.0))),
            l0_penalty,
        ),
    ]
    for prior, penalty in pairs:
        strength = float(coefficient_of(prior, noise))
        ours = log_posterior(signals, codes, dictionary, noise, prior)
        likelihood = Normal(codes @ dictionary, noise).log_prob(signals)
        theirs = likelihood.sum(-1) + prior.log_prob(codes).sum(-1)
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
        implied = implied_penalty(codes, prior, noise)
        size = float(implied.abs().max())
        torch.testing.assert_close(
            implied, strength * penalty(codes), rtol=1e-9, atol=1e-12 * size
        )
        if strength >= 0:
            bill = penalized_objective(
                signals, codes, dictionary, strength, penalty
            )
            total = bill + noise**2 * theirs
            spread = float(total.max() - total.min())
            assert spread <= 1e-10 * (1 + float(bill.abs().max()))


@given(SEEDS, st.floats(0.2, 1.5), st.floats(0.2, 2))
def test_grid_minimum_is_grid_maximum(
    seed: int, noise: float, scale: float
) -> None:
    signal, _, dictionary = problem(seed, 2, 3)
    axis = torch.arange(-80, 81, dtype=torch.float64) / 20
    plane = torch.cartesian_prod(axis, axis)
    many = signal.expand(len(plane), -1)
    slab = Uniform(double(-50.0), double(50.0))
    pairs = [
        (Laplace(double(0.0), double(scale)), l1_penalty),
        (
            Cauchy(double(0.0), double(scale)),
            lambda a: log_penalty(a, scale),
        ),
        (SpikeAndSlab(0.2, slab), l0_penalty),
    ]
    for prior, penalty in pairs:
        strength = float(coefficient_of(prior, noise))
        bill = penalized_objective(many, plane, dictionary, strength, penalty)
        likelihood = Normal(plane @ dictionary, noise).log_prob(many).sum(-1)
        posterior = likelihood + prior.log_prob(plane).sum(-1)
        cheap, likely = bill.argmin(), posterior.argmax()
        assert cheap == likely or bill[likely] - bill[cheap] < 1e-9


@pytest.mark.parametrize("seed", range(8))
def test_cauchy_reweighting_meets_posterior_climbing(seed: int) -> None:
    """Majorise the logarithm by parabolas; climb the posterior from there.

    The reweighted ridge knows the penalty only, the quasi-Newton method the
    posterior only. From one start both find the same stationary point.
    """
    signal, start, dictionary = problem(seed, 10, 6)
    noise, scale = 0.5, 0.8
    prior = Cauchy(double(0.0), double(scale))
    strength = float(coefficient_of(prior, noise))
    code = start[0]
    for _ in range(20_000):
        weights = 2 * strength / (scale**2 + code.square())
        system = dictionary @ dictionary.mT + torch.diag(weights)
        step = torch.linalg.solve(system, dictionary @ signal[0])
        moved, code = float((step - code).abs().max()), step
        if moved < 1e-13:
            break

    def descend(values: object) -> tuple[float, object]:
        point = torch.tensor(values, dtype=torch.float64).requires_grad_()
        value = -log_posterior(
            signal, point[None], dictionary, noise, prior
        ).sum()
        value.backward()
        return value.item(), point.grad.numpy()

    nudged = code + 1e-3 * start[0]
    found = minimize(descend, nudged.numpy(), jac=True, options={"gtol": 1e-9})
    torch.testing.assert_close(
        torch.tensor(found.x), code, atol=1e-5, rtol=1e-5
    )


@given(SEEDS, st.floats(0.05, 0.6), st.floats(0.5, 3))
def test_gaussian_slab_by_enumeration(
    seed: int, share: float, tau: float
) -> None:
    """Search the supports twice: by bill, and by posterior density."""
    signal, _, dictionary = problem(seed, 6, 4)
    noise = 0.4
    prior = SpikeAndSlab(share, Normal(double(0.0), double(tau)))
    price = math.log(math.sqrt(2 * math.pi) * tau * (1 - share) / share)
    bills, heights = [], []
    for size in range(7):
        for chosen in combinations(range(6), size):
            code = torch.zeros(1, 6, dtype=torch.float64)
            if chosen:
                part = dictionary[list(chosen)]
                shift = noise**2 / tau**2 * torch.eye(size).double()
                code[0, list(chosen)] = torch.linalg.solve(
                    part @ part.mT + shift, part @ signal[0]
                )
            error = (signal - code @ dictionary).square().sum()
            bill = error / 2 + noise**2 * (
                price * size + code.square().sum() / (2 * tau**2)
            )
            bills.append(float(bill))
            height = log_posterior(signal, code, dictionary, noise, prior)
            heights.append(float(height))
    best, likely = bills.index(min(bills)), heights.index(max(heights))
    assert best == likely or bills[likely] - bills[best] < 1e-9


@given(SHARES, st.floats(-3, 3), SCALES, SEEDS)
def test_spike_and_slab_moments(
    share: float, centre: float, tau: float, seed: int
) -> None:
    prior = SpikeAndSlab(share, Normal(double(centre), double(tau)))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        drawn = prior.sample((20_000,))
    n = len(drawn)
    silent = float((drawn == 0).double().mean())
    assert abs(silent - (1 - share)) < 6 * math.sqrt(share * (1 - share) / n)
    spread = math.sqrt(float(prior.variance) / n)
    assert abs(float(drawn.mean() - prior.mean)) < 6 * spread
    points = torch.linspace(centre - 9 * tau, centre + 9 * tau, 4000)
    points = points.double() + 1e-7
    mass = torch.trapezoid(prior.log_prob(points).exp(), points)
    assert abs(float(mass) - share) < 1e-5
    assert math.isclose(
        float(prior.log_prob(double(0.0)).exp()), 1 - share, rel_tol=1e-9
    )


def test_spike_and_slab_keeps_types_and_shapes() -> None:
    single = SpikeAndSlab(0.3, Normal(torch.zeros(4), torch.ones(4)))
    drawn = single.sample((5, 2))
    assert drawn.shape == (5, 2, 4) and drawn.dtype == torch.float32
    assert single.log_prob(drawn).dtype == torch.float32
    assert single.mean.dtype == single.variance.dtype == torch.float32
    wide = SpikeAndSlab(torch.full((3, 1), 0.5), single.slab)
    assert wide.batch_shape == (3, 4)
    assert wide.sample((2,)).shape == (2, 3, 4)
    assert "SpikeAndSlab" in repr(wide)
    for share in [0.0, 1.0, -0.1, float("nan")]:
        with pytest.raises(ValueError, match="active_probability"):
            SpikeAndSlab(share, Normal(0.0, 1.0))


@given(SEEDS, SCALES)
def test_penalties_are_even_and_grow(seed: int, scale: float) -> None:
    _, codes, _ = problem(seed, 6, 3, batch=5)
    for penalty in [l0_penalty, l1_penalty, lambda a: log_penalty(a, scale)]:
        value = penalty(codes)
        assert value.shape == (5,) and (value >= 0).all()
        assert torch.equal(penalty(-codes), value)
        assert (penalty(2 * codes) >= value).all()
        assert (penalty(torch.zeros_like(codes)) == 0).all()


def test_gradients() -> None:
    signals, codes, dictionary = problem(3, 5, 3, batch=2)
    codes = (codes + 0.1).requires_grad_()
    check = torch.autograd.gradcheck
    prior = Cauchy(double(0.0), double(0.5))
    assert check(
        lambda a: log_posterior(signals, a, dictionary, 0.3, prior), codes
    )
    assert check(
        lambda a: penalized_objective(signals, a, dictionary, 0.2, l1_penalty),
        codes,
    )
    assert check(lambda a: implied_penalty(a, prior, 0.3), codes)


def test_bad_input_is_refused() -> None:
    signals, codes, dictionary = problem(0, 5, 3)
    prior = Laplace(0.0, 1.0)
    for noise in [0.0, -1.0, float("nan")]:
        with pytest.raises(ValueError, match="noise_std"):
            log_posterior(signals, codes, dictionary, noise, prior)
        with pytest.raises(ValueError, match="noise_std"):
            coefficient_of(prior, noise)
        with pytest.raises(ValueError, match="noise_std"):
            implied_penalty(codes, prior, noise)
    with pytest.raises(ValueError, match="coefficient must be at least 0"):
        penalized_objective(signals, codes, dictionary, -1.0, l1_penalty)
    with pytest.raises(ValueError, match="scale"):
        log_penalty(codes, 0.0)
    with pytest.raises(TypeError, match="int64"):
        l1_penalty(torch.ones(3, dtype=torch.int64))
    with pytest.raises(ValueError, match="implied_penalty"):
        coefficient_of(Normal(0.0, 1.0), 1.0)
    with pytest.raises(ValueError, match="centred"):
        coefficient_of(Cauchy(1.0, 1.0), 1.0)
