"""Properties of neural codes that hold in every population."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sparse_book.linear.neural_codes import (
    bits_per_cost,
    capacity_bits,
    efficient_activity,
    expected_misreading,
    misreading,
    nearest_pattern,
    overlap,
    overlap_distribution,
    random_patterns,
    silence_units,
    willshaw_capacity,
    willshaw_recall,
    willshaw_store,
)
from sparse_book.measures.sparsity import activity_ratio


@st.composite
def populations(draw: st.DrawFn, most: int = 40) -> tuple[int, int]:
    """A population and a number of active units."""
    units = draw(st.integers(1, most))
    return units, draw(st.integers(0, units))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


seeds = st.integers(0, 2**31)


@given(populations(400), st.integers(2, 9))
def test_capacity_is_the_logarithm_of_a_count(
    population: tuple[int, int], levels: int
) -> None:
    units, active = population
    count = math.comb(units, active) * (levels - 1) ** active
    bits = capacity_bits(units, active, levels).item()
    assert bits == pytest.approx(math.log2(count), rel=1e-10, abs=1e-10)
    if levels == 2:
        mirror = capacity_bits(units, units - active).item()
        assert bits == pytest.approx(mirror, rel=1e-12, abs=1e-12)


def test_capacity_broadcasts() -> None:
    units, active = torch.tensor([[8], [16]]), torch.arange(9)
    bits = capacity_bits(units, active)
    assert bits.shape == (2, 9) and bits.dtype == torch.float64
    for row, column in itertools.product(range(2), range(9)):
        single = capacity_bits(8 * (row + 1), column)
        assert bits[row, column] == single


@given(populations(), st.integers(0, 60), seeds)
def test_random_patterns_have_the_wanted_activity(
    population: tuple[int, int], count: int, seed: int
) -> None:
    units, active = population
    free = random_patterns(count, units, active, generator=seeded(seed))
    assert free.shape == (count, units)
    assert (free.sum(-1) == active).all()
    again = random_patterns(count, units, active, generator=seeded(seed))
    assert torch.equal(free, again)
    count = min(count, math.comb(units, active))
    code = random_patterns(
        count, units, active, distinct=True, generator=seeded(seed)
    )
    assert len(code.unique(dim=0)) == len(code) == count
    ratios = torch.full((count,), active / units)
    torch.testing.assert_close(activity_ratio(code), ratios)


def test_every_code_is_equally_likely() -> None:
    # All 45 codes of two patterns among the ten of 2 in 5 units, by either
    # way of drawing: from the list of all, or until enough are different.
    source = seeded(0)
    for wanted in (2, 8):  # 8 of 10 leave out 2: again 45 possibilities
        often: dict[str, int] = {}
        for _ in range(4500):
            code = random_patterns(
                wanted, 5, 2, distinct=True, generator=source
            )
            name = str(sorted(code.tolist()))
            often[name] = often.get(name, 0) + 1
        assert len(often) == 45
        assert all(40 < number < 170 for number in often.values())


@given(populations(), st.data())
def test_overlaps_are_hypergeometric(
    population: tuple[int, int], data: st.DataObject
) -> None:
    units, active = population
    other = data.draw(st.integers(0, units))
    chance = overlap_distribution(units, active, other)
    exact = torch.tensor(
        [
            math.comb(other, m)
            * math.comb(units - other, active - m)
            / math.comb(units, active)
            for m in range(active + 1)
        ],
        dtype=torch.float64,
    )
    torch.testing.assert_close(chance, exact, rtol=1e-9, atol=1e-12)


@given(populations(12), seeds, st.floats(0, 1))
def test_nearest_patterns_contain_the_survivors(
    population: tuple[int, int], seed: int, share: float
) -> None:
    units, active = population
    source = seeded(seed)
    count = min(9, math.comb(units, active))
    code = random_patterns(
        count, units, active, distinct=True, generator=source
    )
    left = silence_units(code, share, generator=source)
    distance = (left[:, None] != code).sum(-1)
    contains = overlap(left, code) == left.sum(-1, keepdim=True)
    assert torch.equal(distance == distance.amin(-1, keepdim=True), contains)
    labels = torch.arange(count)
    wrong = misreading(left, code, labels)
    torch.testing.assert_close(wrong, 1 - 1 / contains.sum(-1))
    assert torch.equal(nearest_pattern(left, code), distance.argmin(-1))
    shared = overlap(code)
    largest = shared.fill_diagonal_(0).max() if count > 1 else 0
    safe = left.sum(-1) > largest
    assert (wrong[safe] == 0).all()


@given(st.integers(2, 6), st.data())
def test_expected_misreading_is_the_mean_over_everything(
    units: int, data: st.DataObject
) -> None:
    active = data.draw(st.integers(1, units))
    every = list(itertools.combinations(range(units), active))
    stimuli = data.draw(st.integers(1, min(3, len(every))))
    q = data.draw(st.sampled_from([0.0, 0.2, 0.5, 1.0]))
    patterns = torch.zeros(len(every), units, dtype=torch.float64)
    for row, places in enumerate(every):
        patterns[row, list(places)] = 1
    kept = torch.tensor(
        list(itertools.product([0.0, 1.0], repeat=units)), dtype=torch.float64
    )
    weight = (kept * (1 - q) + (1 - kept) * q).prod(-1)
    total, codes = 0.0, 0
    for chosen in itertools.combinations(range(len(every)), stimuli):
        code = patterns[list(chosen)]
        left = kept[:, None] * code
        labels = torch.arange(stimuli).expand(len(kept), stimuli)
        wrong = misreading(left, code, labels).mean(-1)
        total, codes = total + float((weight * wrong).sum()), codes + 1
    failing = torch.tensor(q, dtype=torch.float64)
    expected = expected_misreading(units, active, stimuli, failing)
    assert expected.item() == pytest.approx(total / codes, abs=1e-12)


@given(populations(64), st.integers(1, 300))
def test_expected_misreading_grows(
    population: tuple[int, int], stimuli: int
) -> None:
    units, active = population[0], max(1, population[1])
    stimuli = min(stimuli, math.comb(units, active))
    q = torch.linspace(0, 1, 11, dtype=torch.float64)
    wrong = expected_misreading(units, active, stimuli, q)
    assert wrong[0].abs() < 1e-6
    assert wrong[-1].item() == pytest.approx(1 - 1 / stimuli, abs=1e-9)
    assert (wrong.diff() > -1e-9).all()
    single = expected_misreading(units, active, stimuli, q.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), wrong, rtol=1e-5, atol=1e-6)


def test_expected_misreading_has_gradients() -> None:
    q = torch.tensor([0.1, 0.4, 0.9], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda share: expected_misreading(16, 3, 40, share), (q,)
    )
    start = torch.zeros((), dtype=torch.float64, requires_grad=True)
    expected_misreading(10, 1, 5, start).backward()  # q (1 - 1/P)
    assert start.grad is not None and start.grad.item() == pytest.approx(0.8)


@given(st.floats(0, 1e6))
def test_no_activity_is_more_efficient(price: float) -> None:
    cost = torch.tensor(price, dtype=torch.float64)
    best = efficient_activity(cost)
    f = torch.logspace(-7, -1e-6, 2000, dtype=torch.float64)
    entropy = torch.special.entr(f) + torch.special.entr(1 - f)
    efficiency = entropy / math.log(2) / (1 + cost * f)
    reached = -torch.log1p(-best) / math.log(2)
    assert efficiency.max() <= reached * (1 + 1e-9)
    assert efficiency.max() >= reached * 0.999


@given(populations(), st.floats(0, 50), st.floats(0.1, 5))
def test_cost_scales(
    population: tuple[int, int], spike: float, rest: float
) -> None:
    units, active = population
    once = bits_per_cost(units, active, spike, rest)
    twice = bits_per_cost(units, active, 2 * spike, 2 * rest)
    torch.testing.assert_close(once, 2 * twice)


@given(st.integers(2, 24), st.integers(1, 20), seeds, st.floats(0, 1))
def test_a_willshaw_memory_never_forgets(
    units: int, pairs: int, seed: int, lost: float
) -> None:
    source = seeded(seed)
    keys = random_patterns(pairs, units, 1 + seed % units, generator=source)
    values = random_patterns(pairs, units + 3, 2, generator=source)
    synapses = willshaw_store(keys, values)
    naive = (keys[:, :, None] * values[:, None, :]).amax(0)
    assert torch.equal(synapses, naive)
    answer = willshaw_recall(keys, synapses)
    assert (answer >= values).all()
    part = silence_units(keys, lost, generator=source)
    assert (willshaw_recall(part, synapses) >= answer).all()
    batched = willshaw_store(
        torch.stack([keys, keys]), torch.stack([values, values])
    )
    assert torch.equal(batched[1], synapses)


def test_willshaw_capacity_is_where_the_formula_says() -> None:
    for units, active, accidents in [(100, 4, 1.0), (1000, 7, 0.1)]:
        pairs = willshaw_capacity(units, active, accidents).item()
        on = 1 - (1 - (active / units) ** 2) ** pairs
        assert (units - active) * on**active == pytest.approx(accidents)


ones = torch.ones(3, 4)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: activity_ratio([1.0]), TypeError, "torch.Tensor"),
        (lambda: activity_ratio(torch.ones(2, 0)), ValueError, "at least 1"),
        (lambda: capacity_bits(4, 5), ValueError, "at most units"),
        (lambda: capacity_bits(4.0, 2), TypeError, "integer"),
        (lambda: capacity_bits(torch.ones(2), 2), TypeError, "integers"),
        (lambda: capacity_bits(4, torch.tensor([-1])), ValueError, "-1"),
        (lambda: capacity_bits(4, 2, 1), ValueError, "at least 2"),
        (
            lambda: capacity_bits(torch.tensor([4, 5]), torch.arange(3)),
            ValueError,
            "broadcast",
        ),
        (
            lambda: random_patterns(11, 5, 2, distinct=True),
            ValueError,
            "at most 10, got 11",
        ),
        (lambda: random_patterns(1, 5, 6), ValueError, "0…5"),
        (lambda: bits_per_cost(4, 0, 1.0, 0.0), ValueError, "more than 0"),
        (lambda: bits_per_cost(4, 2, -1.0), ValueError, "spike_cost"),
        (lambda: efficient_activity(-ones), ValueError, "at least 0"),
        (lambda: overlap(2 * ones), ValueError, "only 0 and 1"),
        (lambda: overlap(ones, torch.ones(3, 5)), ValueError, "others"),
        (lambda: overlap(ones, ones.double()), ValueError, "one dtype"),
        (lambda: overlap_distribution(4, 2, 5), ValueError, "other"),
        (lambda: silence_units(ones, 1.5), ValueError, "share"),
        (lambda: nearest_pattern(ones, ones[:0]), ValueError, "patterns"),
        (
            lambda: misreading(ones, ones, torch.zeros(3)),
            TypeError,
            "int64",
        ),
        (
            lambda: misreading(ones, ones, torch.tensor([0, 1, 3])),
            ValueError,
            "0…2",
        ),
        (
            lambda: misreading(ones, ones, torch.tensor([0])),
            ValueError,
            "shape",
        ),
        (
            lambda: expected_misreading(5, 2, 11, ones / 2),
            ValueError,
            "stimuli",
        ),
        (
            lambda: expected_misreading(5, 2, 3, 2 * ones),
            ValueError,
            "failing",
        ),
        (lambda: willshaw_store(ones, ones[:2]), ValueError, "values"),
        (
            lambda: willshaw_recall(ones, ones),
            ValueError,
            "synapses",
        ),
        (lambda: willshaw_capacity(4, 3), ValueError, "silent units"),
    ],
)
def test_bad_input_is_refused(
    call: object, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message.replace("…", ".")):
        call()  # type: ignore[operator]


def test_untouched_inputs() -> None:
    patterns = random_patterns(5, 9, 3, generator=seeded(1))
    before: Tensor = patterns.clone()
    silence_units(patterns, 0.5, generator=seeded(2))
    overlap(patterns)
    willshaw_store(patterns, patterns)
    assert torch.equal(patterns, before)
