"""Sparse activation functions: definitions, ties, gradients, refusals."""

from __future__ import annotations

import copy
import csv
import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.signal import find_peaks
from torch import Tensor

from sparse_book.san import activations as grid
from sparse_book.san import extrema as san
from sparse_book.san.topk import (
    BatchTopK,
    JumpReLU,
    TopK,
    batch_top_k,
    count_above,
    jump_relu,
    top_k,
)

from conftest import ROOT

FIXTURES = ROOT / "tests" / "sparse_activations.json"


@st.composite
def coarse_maps(draw: st.DrawFn) -> Tensor:
    """Small maps, one- or two-dimensional, full of ties and plateaus."""
    sides = draw(
        st.one_of(
            st.tuples(st.integers(1, 24)),
            st.tuples(st.integers(1, 8), st.integers(1, 8)),
        )
    )
    lead = (draw(st.integers(1, 3)), draw(st.integers(1, 2)))
    levels = draw(st.sampled_from([1, 3, 50]))
    span = st.integers(-levels, levels)
    values = arrays(np.int64, lead + sides, elements=span)
    return torch.from_numpy(draw(values)).double()


def axes_of(maps: Tensor) -> tuple[int, ...]:
    return tuple(range(2 - maps.ndim, 0))


def is_candidate(one: np.ndarray, place: tuple[int, ...]) -> bool:
    """The definition, read aloud; a missing neighbour counts as equal."""
    s = one[place]
    for axis, t in enumerate(place):
        line = np.moveaxis(one, axis, -1)
        line = line[tuple(np.delete(place, axis))]
        before = line[t - 1] if t > 0 else s
        after = line[t + 1] if t + 1 < len(line) else s
        peak = s > 0 and before < s and after <= s
        valley = s <= 0 and before >= s and after > s
        if not (peak or valley):
            return False
    return True


def assert_extrema(one: np.ndarray, kept: np.ndarray, distance: int) -> None:
    """Check eq-extrema itself, whatever way the set was found."""
    places = [p for p in np.ndindex(one.shape) if is_candidate(one, p)]
    for t in np.ndindex(one.shape):
        if t not in places:
            assert not kept[t]
    for t in places:
        rivals = (
            u
            for u in places
            if kept[u]
            and u != t
            and max(abs(np.subtract(t, u))) <= distance
            and (-abs(one[u]), u) < (-abs(one[t]), t)
        )
        assert kept[t] == (next(rivals, None) is None)


@settings(max_examples=60)
@given(coarse_maps(), st.integers(1, 9))
def test_extrema_satisfy_their_definition(maps: Tensor, distance: int) -> None:
    axes = axes_of(maps)
    sizes = torch.where(san._candidates(maps, axes), maps.abs(), -1.0)
    rounds, count = san._rounds(sizes, distance, axes)
    compiled = san._compiled_kept(sizes, distance, axes)
    assert torch.equal(rounds, compiled)
    assert count <= rounds.flatten(2).sum(-1).max()
    for one, kept in zip(
        maps.flatten(0, 1), compiled.flatten(0, 1), strict=True
    ):
        assert_extrema(one.numpy(), kept.numpy(), distance)


@given(coarse_maps(), st.data())
def test_all_ways_agree(maps: Tensor, data: st.DataObject) -> None:
    shortest = min(maps.shape[2:])
    m = data.draw(st.integers(1, shortest), "kernel size")
    tolerance = data.draw(st.integers(0, 4), "tolerance")
    k = data.draw(st.integers(1, maps[0, 0].numel()), "k")
    distance = san.minimum_distance(m, tolerance)
    pairs = [
        (grid.top_k_absolutes(maps, k), grid._top_k_loop(maps, k)),
        (grid.max_activations(maps, k), grid._top_k_loop(maps.relu(), k)),
        (grid.extrema_pool_indices(maps, m), grid._pool_loop(maps, m)),
        (grid.max_pool_indices(maps, m), grid._pool_loop(maps.relu(), m)),
        (san.extrema(maps, m, tolerance), san._loop(maps, distance)),
        (san.peaks(maps, m), san._loop(maps.relu(), m)),
    ]
    for ours, loop in pairs:
        assert torch.equal(ours, loop)
        assert not ours[ours == 0].signbit().any()
    for ours, _ in (pairs[0], pairs[2], pairs[4]):
        assert ((ours == maps) | (ours == 0)).all()
    twice = san.extrema(2 * maps, m, tolerance)
    assert torch.equal(twice, 2 * pairs[4][0])


@settings(max_examples=40)
@given(coarse_maps(), st.integers(1, 8))
def test_maps_do_not_see_each_other(maps: Tensor, m: int) -> None:
    m = min(m, *maps.shape[2:])
    for name in san.SPARSE_ACTIVATIONS:
        rule = san.sparse_activation(name, m, 1)
        whole = rule(maps)
        for b in range(len(maps)):
            for c in range(maps.shape[1]):
                one = rule(maps[b : b + 1, c : c + 1])
                assert torch.equal(one[0, 0], whole[b, c])


@settings(max_examples=40)
@given(coarse_maps(), st.integers(1, 8))
def test_gradients_pass_where_values_do(maps: Tensor, m: int) -> None:
    m = min(m, *maps.shape[2:])
    for name in san.SPARSE_ACTIVATIONS:
        leaf = maps.clone().requires_grad_()
        kept = san.sparse_activation(name, m, 1)(leaf)
        weights = torch.arange(1.0, 1 + kept.numel()).double()
        total = (kept * weights.view(kept.shape)).sum()
        (slope,) = torch.autograd.grad(total, leaf)
        active = kept != 0
        expected = weights.view(kept.shape)[active]
        assert torch.equal(slope[active], expected), name
        silent = maps != 0
        assert (slope[~active & silent] == 0).all(), name


@pytest.mark.parametrize("distance", [1, 3, 10, 40])
def test_peaks_are_those_of_scipy(distance: int) -> None:
    draws = np.random.default_rng(distance)
    for _ in range(20):
        signal = draws.normal(size=150)
        signal[[0, -1]] = -1  # SciPy looks at no ends
        found, _ = find_peaks(signal, height=0, distance=distance + 1)
        ours = san.peaks(torch.from_numpy(signal)[None, None], distance)
        assert ours[0, 0].nonzero()[:, 0].tolist() == found.tolist()


@pytest.mark.parametrize("shape", [(2, 3, 50), (2, 3, 9, 12)])
def test_types_and_strides(shape: tuple[int, ...]) -> None:
    draws = torch.Generator().manual_seed(0)
    maps = torch.randint(-9, 10, shape, generator=draws).double() / 4
    for name in san.SPARSE_ACTIVATIONS:
        rule = san.sparse_activation(name, 4, 1)
        expected = rule(maps)
        for dtype in (torch.float32, torch.float16, torch.bfloat16):
            found = rule(maps.to(dtype))
            assert found.dtype == dtype
            assert torch.equal(found.double(), expected)
        turned = maps.transpose(0, 1).contiguous().transpose(0, 1)
        assert torch.equal(rule(turned), expected)
        step = torch.stack([maps, maps], -1)[..., 0]
        assert torch.equal(rule(step), expected)
        if len(shape) == 4:
            last = maps.to(memory_format=torch.channels_last)
            assert torch.equal(rule(last), expected)


def test_long_windows_and_lone_samples() -> None:
    line = torch.randn(1, 1, 300, generator=torch.Generator().manual_seed(1))
    sizes = torch.where(san._candidates(line, (-1,)), line.abs(), -1.0)
    for distance in (298, 299, 300, 999):
        rounds, _ = san._rounds(sizes, distance, (-1,))
        assert torch.equal(rounds, san._compiled_kept(sizes, distance, (-1,)))
    assert (san.extrema(line, 300) != 0).sum() == 1
    for lone in (torch.ones(1, 1, 1), torch.ones(1, 1, 1, 1)):
        assert not san.extrema(lone, 1).any()  # no neighbour, no slope
        assert torch.equal(grid.top_k_absolutes(lone, 1), lone)
        assert torch.equal(grid.extrema_pool_indices(lone, 1), lone)
    wide = torch.tensor([[[[0.0, 2.0, 1.0, 3.0, 0.0]]]])
    assert not san.extrema(wide, 1).any()  # one row: no slope along columns


def test_plateaus_and_silence() -> None:
    for flat in (torch.zeros(2, 1, 20), torch.full((2, 1, 6, 7), -2.0)):
        assert not san.extrema(flat, 3).any()
        assert not san.peaks(flat, 3).any()
    two = torch.full((1, 1, 4, 4), 2.0)
    assert (grid.top_k_absolutes(two, 5).flatten() != 0).nonzero()[
        :, 0
    ].tolist() == [0, 1, 2, 3, 4]
    assert (grid.extrema_pool_indices(two, 2).flatten() != 0).nonzero()[
        :, 0
    ].tolist() == [0, 2, 8, 10]


def test_extremes_of_the_number_range() -> None:
    huge = torch.tensor([[[0.0, 3e38, -3e38, 1.0, 0.0, -1e-45]]])
    assert san.extrema(huge, 1)[0, 0, 1] == huge[0, 0, 1]
    assert grid.top_k_absolutes(huge, 2)[0, 0].tolist() == [
        0,
        *huge[0, 0, 1:3].tolist(),
        0,
        0,
        0,
    ]


BAD_MAPS = [
    (torch.zeros(5), "(batch, channels, length)"),
    (torch.zeros(5, 5), "(batch, channels, length)"),
    (torch.zeros(1, 1, 5, 5, 5), "(batch, channels, height, width)"),
    (torch.zeros(1, 1, 0), "at least one position"),
    (torch.zeros(1, 1, 5, 0), "at least one position"),
    (torch.tensor([[[1.0, torch.nan, 2.0]]]), "1 NaN"),
    (torch.tensor([[[1.0, torch.inf, -torch.inf]]]), "2 infinite"),
]


@pytest.mark.parametrize(("maps", "words"), BAD_MAPS)
def test_bad_maps_are_refused(maps: Tensor, words: str) -> None:
    for function in (
        grid.top_k_absolutes,
        grid.max_activations,
        grid.extrema_pool_indices,
        grid.max_pool_indices,
        san.extrema,
        san.peaks,
    ):
        with pytest.raises(ValueError, match="similarities must") as caught:
            function(maps, 1)
        assert words in str(caught.value)
        with pytest.raises(TypeError, match="similarities must"):
            function(maps.long(), 1)
        with pytest.raises(TypeError, match="similarities must"):
            function(maps.tolist(), 1)


@pytest.mark.parametrize("value", [0, -1, 6])
def test_bad_sizes_are_refused(value: int) -> None:
    for maps, most in [
        (torch.zeros(1, 1, 5), 5),
        (torch.zeros(1, 1, 9, 5), 5),
    ]:
        for function in (
            grid.extrema_pool_indices,
            grid.max_pool_indices,
            san.extrema,
            san.peaks,
        ):
            words = rf"kernel_size must be in 1…{most}, got {value}"
            with pytest.raises(ValueError, match=words):
                function(maps, value)
        k = value if value < 6 else maps[0].numel() + 1
        for function in (grid.top_k_absolutes, grid.max_activations):
            words = rf"k must be in 1…{maps[0].numel()}, got {k}"
            with pytest.raises(ValueError, match=words):
                function(maps, k)
        for name in san.SPARSE_ACTIVATIONS[2:]:
            if value > 0:
                with pytest.raises(ValueError, match="kernel_size must be in"):
                    san.sparse_activation(name, value)(maps)
    with pytest.raises(ValueError, match="border_tolerance must be at least"):
        san.extrema(torch.zeros(1, 1, 5), 2, border_tolerance=-1)
    with pytest.raises(TypeError, match="border_tolerance must be an integer"):
        san.Extrema(2, border_tolerance=1.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="size must be at least 1"):
        grid.matched_count((5, 0), 1)
    with pytest.raises(ValueError, match="at least one side"):
        grid.matched_count((), 1)


def test_numba_waits_until_it_is_needed() -> None:
    code = (
        "import sys, sparse_book.san.extrema, sparse_book.san.topk\n"
        "sys.exit('numba' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == 0


class JumpReference(torch.autograd.Function):
    """Forward and backward as the paper's pseudo-code has them."""

    @staticmethod
    def forward(ctx, x, threshold, bandwidth):
        ctx.save_for_backward(x, threshold)
        ctx.bandwidth = bandwidth
        return x * (x > threshold)

    @staticmethod
    def backward(ctx, upstream):
        x, threshold = ctx.saved_tensors
        scaled = (x - threshold) / ctx.bandwidth
        box = ((scaled > -0.5) & (scaled < 0.5)).double()
        slope = -(threshold / ctx.bandwidth) * box * upstream
        return (x > threshold) * upstream, slope.sum(0), None


def test_jump_relu_against_its_pseudo_code() -> None:
    draws = torch.Generator().manual_seed(2)
    x = torch.randn(200, 7, generator=draws, dtype=torch.float64)
    weights = torch.randn(200, 7, generator=draws, dtype=torch.float64)
    threshold = torch.rand(7, generator=draws, dtype=torch.float64)
    results = []
    for function in (jump_relu, JumpReference.apply):
        leaves = [x.clone().requires_grad_(), threshold.clone()]
        leaves[1].requires_grad_()
        out = function(*leaves, 0.3)
        slopes = torch.autograd.grad((out * weights).sum(), leaves)
        results.append((out.detach(), *slopes))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_thresholds_of_many_networks_at_once() -> None:
    draws = torch.Generator().manual_seed(3)
    x = torch.randn(4, 30, 5, generator=draws)
    thresholds = torch.rand(4, 5, generator=draws)
    alone = []
    for rows, level in zip(x, thresholds, strict=True):
        leaf = level.clone().requires_grad_()
        total = jump_relu(rows, leaf, 0.5).sum()
        alone.append(torch.autograd.grad(total, leaf)[0])
    together = thresholds.clone().requires_grad_()
    kept = jump_relu(x, together[:, None], 0.5)
    assert torch.equal(kept != 0, x > thresholds[:, None])
    (slopes,) = torch.autograd.grad(kept.sum(), together)
    torch.testing.assert_close(slopes, torch.stack(alone))


@given(
    arrays(np.int64, (4, 6), elements=st.integers(-3, 3)), st.integers(1, 6)
)
def test_top_k_by_sorting(values: np.ndarray, k: int) -> None:
    rows = torch.from_numpy(values).double()
    expected = np.zeros_like(values)
    for row, code in zip(values, expected, strict=True):
        for j in np.argsort(-row, kind="stable")[:k]:
            code[j] = max(row[j], 0)
    assert top_k(rows, k).tolist() == expected.tolist()
    flat = np.zeros(values.size, np.int64)
    for j in np.argsort(-values.ravel(), kind="stable")[: 4 * k]:
        flat[j] = max(values.ravel()[j], 0)
    assert batch_top_k(rows, k).flatten().tolist() == flat.tolist()
    whole = rows.view(2, 2, 6)
    assert torch.equal(
        batch_top_k(whole, k).flatten(), batch_top_k(rows, k).flatten()
    )
    assert count_above(rows, 1.0).tolist() == (values > 1).sum(1).tolist()


def test_batch_top_k_remembers_its_threshold() -> None:
    draws = torch.Generator().manual_seed(4)
    module = BatchTopK(3)
    assert torch.equal(module.eval()(torch.eye(4)), torch.eye(4))  # a ReLU
    module.train()
    lowest = []
    for _ in range(5):
        kept = module(torch.randn(16, 20, generator=draws))
        assert (kept > 0).sum() == 48
        lowest.append(kept[kept > 0].min())
    module(-torch.ones(16, 20))
    module(torch.ones(0, 20))
    mean = torch.stack(lowest).mean()
    torch.testing.assert_close(module.threshold, mean)
    twin = BatchTopK(3).eval()
    twin.load_state_dict(module.state_dict())
    x = torch.randn(9, 20, generator=draws)
    frozen = copy.deepcopy(module).eval()(x)
    assert torch.equal(twin(x), frozen)
    assert torch.equal(pickle.loads(pickle.dumps(twin))(x), frozen)
    assert torch.equal(frozen, torch.where(x > module.threshold, x, 0.0))
    assert not (frozen < 0).any()


def test_modules_learn_and_are_saved() -> None:
    module = JumpReLU(6, threshold=0.5, bandwidth=0.5)
    torch.testing.assert_close(module.threshold, torch.full((6,), 0.5))
    x = torch.rand(50, 6, generator=torch.Generator().manual_seed(0))
    module(x).sum().backward()
    assert (module.log_threshold.grad < 0).all()
    twin = JumpReLU(6)
    twin.load_state_dict(module.state_dict())
    assert torch.equal(twin(x), module(x))
    for name in san.SPARSE_ACTIVATIONS:
        rule = san.sparse_activation(name, 3, 1)
        assert not rule.state_dict()
        again = pickle.loads(pickle.dumps(rule))
        maps = torch.randn(1, 2, 12)
        assert torch.equal(again(maps), rule(maps))
    assert str(TopK(4)) == "TopK(k=4)"


def test_the_benchmark_reached_its_goals() -> None:
    """Stored ratios, with what it takes to repeat them."""
    path = ROOT / "results" / "benchmarks" / "extrema.csv"
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["shape"] for row in rows} == {"64x1x1000", "64x1x28x28"}
    for row in rows:
        goal = 50 if row["dimensions"] == "1" else 20
        assert float(row["ratio"]) >= goal, row
        ratio = float(row["loop_ms"]) / float(row["function_ms"])
        assert float(row["ratio"]) == pytest.approx(ratio, abs=0.11)
        for name in ("torch", "numba", "python", "processor", "command"):
            assert row[name]


def fixtures() -> list[dict[str, object]]:
    """What the library keeps of a few signals."""
    draws = np.random.default_rng(0)
    cases = []
    for m, tolerance, levels in [
        (1, 0, 20),
        (4, 3, 3),
        (7, 2, 20),
        (13, 0, 2),
        (40, 5, 20),
    ]:
        values = draws.integers(-levels, levels + 1, 60) / 20
        maps = torch.from_numpy(values)[None, None]
        kept = {
            name: san.sparse_activation(name, m, tolerance)(maps)
            for name in san.SPARSE_ACTIVATIONS
        }
        cases.append(
            {
                "values": values.tolist(),
                "kernel_size": m,
                "border_tolerance": tolerance,
                "kept": {n: k[0, 0].tolist() for n, k in kept.items()},
            }
        )
    return cases


def test_fixtures_of_the_widget_are_the_librarys() -> None:
    stored = json.loads(FIXTURES.read_text(encoding="utf-8"))
    assert stored == json.loads(json.dumps(fixtures()))
