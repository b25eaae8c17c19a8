"""Measures of sparsity: identities, and six criteria decided by properties."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from sparse_book.measures.sparsity import (
    active_units,
    activity_ratio,
    exponential_penalty,
    gini,
    gini_shifted,
    hoyer,
    kurtosis,
    l1_norm,
    lifetime_sparseness,
    log_penalty,
    lp_norm,
    population_sparseness,
    treves_rolls_activity,
    vinje_gallant,
)

Measure = Callable[[Tensor], Tensor]

MEASURES: dict[str, Measure] = {
    "active": active_units,
    "ratio": activity_ratio,
    "half": partial(lp_norm, p=0.5),
    "l1": l1_norm,
    "log": log_penalty,
    "exp": exponential_penalty,
    "hoyer": hoyer,
    "gini": gini,
    "shifted": gini_shifted,
    "kurtosis": kurtosis,
    "treves": treves_rolls_activity,
    "vinje": vinje_gallant,
}
FALLING = {"active", "ratio", "half", "l1", "log", "exp", "treves"}
SCALE_FREE = [
    "ratio",
    "active",
    "hoyer",
    "gini",
    "kurtosis",
    "treves",
    "vinje",
]
SIGN_BLIND = sorted(set(MEASURES) - {"kurtosis", "shifted"})
# The verdicts of the page; each tick and each gap is tested below.
PASSED = {
    "active": "D2",
    "ratio": "D2 D4 P2",
    "half": "D1 D3",
    "l1": "D3",
    "log": "D3",
    "exp": "D3 P2",
    "hoyer": "D1 D2 D3 P1 P2",
    "gini": "D1 D2 D3 D4 P1 P2",
    "shifted": "D1 D3 D4 P1",
    "kurtosis": "D2 D4",
    "treves": "D1 D2 D3 D4 P1 P2",
    "vinje": "D1 D2 D3 P1 P2",
}
CRITERIA = {"D1": -1, "D2": 0, "D3": -1, "D4": 0, "P1": 1, "P2": 1}
TICKS = [(n, c) for n, passed in PASSED.items() for c in passed.split()]
GAPS = [(n, c) for n in PASSED for c in CRITERIA if (n, c) not in TICKS]


def double(values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def sparsity(name: str, c: Tensor) -> float:
    """The measure, oriented so that more means sparser."""
    sign = -1.0 if name in FALLING else 1.0
    return sign * float(MEASURES[name](c))


def moved(
    criterion: str, c: Tensor, i: int, j: int, amount: float
) -> tuple[Tensor, Tensor]:
    """A vector before and after the move of a criterion."""
    if criterion == "D1":
        rich, poor = (i, j) if c[i] > c[j] else (j, i)
        gift = (c[rich] - c[poor]) * amount / 2
        after = c.clone()
        after[rich] -= gift
        after[poor] += gift
        return c, after
    if criterion == "D2":
        return c, c * (4 * amount + 0.1)
    if criterion == "D3":
        return c, c + c.amax() * amount
    if criterion == "D4":
        return c, torch.cat([c, c])
    if criterion == "P1":
        before, after = c.clone(), c.clone()
        before[i] += 5 * c.sum()
        after[i] += (5 + amount) * c.sum()
        return before, after
    return c, torch.cat([c, torch.zeros(1, dtype=c.dtype)])


def change(name: str, before: Tensor, after: Tensor) -> int:
    """Sign of the change, with rounding counted as none."""
    old, new = sparsity(name, before), sparsity(name, after)
    if abs(new - old) <= 1e-9 * max(abs(old), abs(new)) + 1e-13:
        return 0
    return 1 if new > old else -1


whole = st.lists(st.integers(0, 6), min_size=2, max_size=9)
amounts = st.sampled_from([0.1, 0.3, 0.6, 0.9])


@pytest.mark.parametrize(("name", "criterion"), TICKS)
@given(whole, st.integers(0, 8), st.integers(0, 8), amounts)
def test_ticks_hold(
    name: str,
    criterion: str,
    entries: list[int],
    i: int,
    j: int,
    amount: float,
) -> None:
    c = double(entries)
    assume(int((c > 0).sum()) >= 2)
    i, j = i % len(c), j % len(c)
    assume(criterion != "D1" or c[i] != c[j])
    assume(criterion != "D3" or c.amax() > c.amin())
    if name == "exp":
        c = c / 4  # so that exp(-c²) does not vanish beside 1
    before, after = moved(criterion, c, i, j, amount)
    assert change(name, before, after) == CRITERIA[criterion], (before, after)


# One vector for each gap, with which the move goes wrong.
REFUTED = {
    ("kurtosis", "D1"): ([0, 1, 2, 3, 30], 3, 0, 0.9),
    ("kurtosis", "P1"): ([1, 1, 1, 5], 3, 0, 0.5),
    ("kurtosis", "P2"): ([5, 5, 5, 0], 0, 1, 0.5),
    ("shifted", "D2"): ([0, 1e-7], 0, 1, 0.9),
    ("shifted", "P2"): ([0, 0, 0, 3e-7, 1e-8], 0, 1, 0.5),
    ("log", "D1"): ([1, 0], 0, 1, 0.5),
    ("exp", "D1"): ([0.7, 0.1], 0, 1, 0.5),
}


@pytest.mark.parametrize(("name", "criterion"), GAPS)
def test_gaps_have_a_counterexample(name: str, criterion: str) -> None:
    plain: tuple[list[float], int, int, float] = ([3, 1, 0.5, 2], 0, 1, 0.5)
    entries, i, j, amount = REFUTED.get((name, criterion), plain)
    before, after = moved(criterion, double(entries), i, j, amount)
    assert change(name, before, after) != CRITERIA[criterion]


def test_no_measure_can_scale_and_love_the_rich_on_one_hot_vectors() -> None:
    for name in SCALE_FREE:
        before, after = moved("P1", double([2.0, 0.0, 0.0]), 0, 1, 0.5)
        assert change(name, before, after) == 0


def test_a_full_scale_leaves_no_room_for_babies() -> None:
    before, after = moved("P2", double([2.0, 0.0]), 0, 1, 0.5)
    assert (
        change("hoyer", before, after) == change("vinje", before, after) == 0
    )
    assert (
        change("gini", before, after) == change("treves", before, after) == 1
    )


finite = st.floats(-1e6, 1e6, allow_subnormal=False, width=32)
vectors = st.lists(finite, min_size=2, max_size=12).map(double)


@given(vectors, st.randoms())
def test_order_of_entries_does_not_matter(a: Tensor, random) -> None:
    order = list(range(len(a)))
    random.shuffle(order)
    for name, measure in MEASURES.items():
        torch.testing.assert_close(
            measure(a[order]), measure(a), rtol=1e-9, atol=1e-9, msg=name
        )


@given(vectors)
def test_signs_do_not_matter_where_promised(a: Tensor) -> None:
    flip = torch.where(torch.arange(len(a)) % 2 == 0, 1.0, -1.0)
    for name in SIGN_BLIND:
        measure = MEASURES[name]
        torch.testing.assert_close(
            measure(flip * a), measure(a), rtol=1e-12, atol=0
        )


@given(vectors, st.integers(-200, 200))
def test_scale_does_not_matter_where_promised(a: Tensor, power: int) -> None:
    scaled = a * 2.0**power  # exact
    for name in SCALE_FREE:
        measure = MEASURES[name]
        torch.testing.assert_close(
            measure(scaled), measure(a), rtol=1e-9, atol=1e-9, msg=name
        )


@given(vectors)
def test_ranges(a: Tensor) -> None:
    n, tiny = len(a), 1e-9
    assert -tiny <= hoyer(a) <= 1 + tiny
    assert -tiny <= vinje_gallant(a) <= 1 + tiny
    assert -tiny <= gini(a) <= 1 - 1 / n + tiny
    assert -tiny <= gini_shifted(a) <= 1 - 1 / n + tiny
    assert 1 / n - tiny <= treves_rolls_activity(a) <= 1 + tiny
    assert -2 - tiny <= kurtosis(a) <= n * n / (n - 1) - 6 + 1e-6
    assert -n <= exponential_penalty(a) <= 0
    assert active_units(a) == n * activity_ratio(a) == torch.count_nonzero(a)


@given(vectors)
def test_gini_is_the_mean_difference(a: Tensor) -> None:
    size = a.abs()
    assume(size.sum() > 0)
    gaps = (size[:, None] - size[None, :]).abs().sum()
    wanted = gaps / (2 * len(a) * size.sum())
    torch.testing.assert_close(gini(a), wanted, rtol=1e-9, atol=1e-12)


@given(vectors)
def test_one_ratio_with_three_names(a: Tensor) -> None:
    n, activity = len(a), treves_rolls_activity(a)
    wanted = (n**0.5 - (n * activity).sqrt()) / (n**0.5 - 1)
    torch.testing.assert_close(hoyer(a), wanted, rtol=0, atol=1e-9)
    wanted = (1 - activity) / (1 - 1 / n)
    torch.testing.assert_close(vinje_gallant(a), wanted, rtol=0, atol=1e-9)


@given(
    st.lists(st.lists(finite, min_size=4, max_size=4), min_size=1, max_size=9),
    st.data(),
)
def test_any_split_of_a_batch_gives_the_same(
    rows: list[list[float]], data: st.DataObject
) -> None:
    batch = double(rows)
    cut = data.draw(st.integers(0, len(rows)))
    for measure in MEASURES.values():
        parts = [measure(batch[:cut]), measure(batch[cut:])]
        assert torch.equal(torch.cat(parts), measure(batch))
        assert torch.equal(measure(batch[0]), measure(batch)[0])
        assert measure(batch[:, None]).shape == (len(rows), 1)


@pytest.mark.parametrize("name", sorted(MEASURES))
def test_a_vector_scores_the_same_in_any_company(name: str) -> None:
    """To the last bit: a fourth power taken as such rounds by place."""
    rng = torch.Generator().manual_seed(6)
    batch = torch.randn(200, 9, 4, generator=rng, dtype=torch.float64)
    together = MEASURES[name](batch)
    alone = [MEASURES[name](vector) for vector in batch.reshape(-1, 4)]
    assert torch.equal(torch.stack(alone), together.flatten())


@given(vectors)
def test_single_precision_follows_double(a: Tensor) -> None:
    a = a.float().double()
    for name in ["active", "ratio", "half", "l1", "hoyer", "gini", "treves"]:
        measure = MEASURES[name]
        torch.testing.assert_close(
            measure(a.float()).double(), measure(a), rtol=1e-4, atol=1e-5
        )
        assert measure(a.float()).dtype == torch.float32


@given(vectors)
def test_gradients_are_finite(a: Tensor) -> None:
    for name, measure in MEASURES.items():
        if name in {"active", "ratio"}:
            continue
        x = a.clone().requires_grad_()
        (slope,) = torch.autograd.grad(measure(x), x)
        assert slope.isfinite().all(), name


def test_silence_and_faintness() -> None:
    zeros = torch.zeros(3, 5)
    wanted = dict.fromkeys(MEASURES, 0.0) | {
        "exp": -5.0,
        "kurtosis": -2.0,
        "treves": 1.0,
    }
    for name, measure in MEASURES.items():
        assert measure(zeros).tolist() == [wanted[name]] * 3, name
    a = torch.tensor([0.3, 1.0, 0.0, 2.5])
    for scale in (1e-6, 1e-30, 1e30):
        torch.testing.assert_close(hoyer(scale * a), hoyer(a))
        torch.testing.assert_close(gini(scale * a), gini(a))
        torch.testing.assert_close(
            lp_norm(scale * a, 3), scale * lp_norm(a, 3)
        )


def test_a_faint_uniform_code_is_exactly_dense() -> None:
    for n in (2, 3, 10, 137, 1797):
        even = torch.full((n,), 0.1)
        assert hoyer(even) == vinje_gallant(even) == gini(even) == 0
        assert treves_rolls_activity(even) == 1 and kurtosis(even) == -2


def test_population_and_lifetime_are_transposes() -> None:
    rng = torch.Generator().manual_seed(5)
    responses = torch.rand(2, 6, 4, generator=rng)
    across = population_sparseness(responses)
    assert across.shape == (2, 6)
    assert lifetime_sparseness(responses).shape == (2, 4)
    assert torch.equal(lifetime_sparseness(responses.mT), across)
    # Sums over any split of the stimuli suffice for the lifetime measure.
    parts = responses[0].double().split([1, 2, 3])
    first = sum(part.sum(0) for part in parts)
    second = sum(part.square().sum(0) for part in parts)
    activity = first**2 / (6 * second)
    torch.testing.assert_close(
        lifetime_sparseness(responses[0].double()),
        (1 - activity) / (1 - 1 / 6),
    )


def test_shift_lifts_zeros() -> None:
    for n in (2, 5, 40):
        lone = torch.zeros(n, dtype=torch.float64)
        lone[n // 2] = -1.0
        torch.testing.assert_close(gini(lone), double(1 - 1 / n))
        torch.testing.assert_close(gini_shifted(lone, 0.0), double(1 / n))


@pytest.mark.parametrize("measure", [hoyer, vinje_gallant, kurtosis])
def test_one_unit_has_no_shape(measure: Measure) -> None:
    with pytest.raises(ValueError, match="at least 2 entries"):
        measure(torch.ones(3, 1))


@pytest.mark.parametrize("measure", MEASURES.values())
def test_doors(measure: Measure) -> None:
    for bad in (
        torch.tensor([1.0, torch.inf]),
        torch.tensor([torch.nan, 0.0]),
    ):
        with pytest.raises(ValueError, match="finite"):
            measure(bad)
    with pytest.raises(TypeError, match="floating-point"):
        measure(torch.tensor([True, False]))
    with pytest.raises(TypeError, match=r"torch\.Tensor"):
        measure([1.0, 2.0])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="shape"):
        measure(torch.tensor(1.0))
    with pytest.raises(ValueError, match="got 0"):
        measure(torch.zeros(2, 0))


def test_measures_leave_their_input_alone() -> None:
    a = double([[0.0, -2.0, 1.0]])
    for measure in MEASURES.values():
        measure(a)
    assert a.tolist() == [[0.0, -2.0, 1.0]]
