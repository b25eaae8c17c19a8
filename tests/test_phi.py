"""φ on networks: brute force, batches, and the published tables."""

from __future__ import annotations

import csv
import math
import pickle
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparse_book.measures.description_length import description_weights
from sparse_book.san.phi import (
    Description,
    describe,
    matched_cost,
    mean_description,
    phi_interval,
)

from conftest import ROOT

SEEDS = st.integers(0, 2**31)
PUBLISHED = ROOT / "results" / "published"


def network(
    seed: int, batch: int, axes: int, kernels: int, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return signals, reconstructions and sparse maps."""
    generator = torch.Generator().manual_seed(seed)
    positions = (5, 4)[:axes]
    signals, rebuilt = torch.randn(
        2, batch, 1, *positions, generator=generator
    ).to(dtype)
    maps = torch.randn(batch, kernels, *positions, generator=generator)
    keep = torch.rand(maps.shape, generator=generator) < 0.3
    return signals, rebuilt, (maps * keep).to(dtype)


@settings(max_examples=40)
@given(
    seed=SEEDS,
    batch=st.integers(1, 4),
    axes=st.integers(1, 2),
    kernels=st.integers(1, 3),
    side=st.integers(1, 4),
    counting=st.sampled_from(["weights", "sides"]),
    version=st.integers(1, 2),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_describe_as_one_counts_by_hand(
    seed: int,
    batch: int,
    axes: int,
    kernels: int,
    side: int,
    counting: str,
    version: int,
    dtype: torch.dtype,
) -> None:
    signals, rebuilt, maps = network(seed, batch, axes, kernels, dtype)
    weights = description_weights([(side,) * axes] * kernels, counting)
    result = describe(signals, rebuilt, maps, weights=weights, version=version)
    each = side**axes if counting == "weights" else side
    for k in range(batch):
        x, y = signals[k].flatten().tolist(), rebuilt[k].flatten().tolist()
        active = sum(value != 0 for value in maps[k].flatten().tolist())
        cost = (kernels * each + (axes + 1) * active) / len(x)
        error = sum(abs(a - b) for a, b in zip(x, y, strict=True))
        loss = error / sum(map(abs, x))
        joined = (cost + loss) / 2 if version == 1 else math.hypot(cost, loss)
        found = [float(part[k]) for part in result]
        assert found == pytest.approx([cost, loss, joined], rel=1e-5)
    assert all(part.dtype == dtype for part in result)


@settings(max_examples=20)
@given(
    seed=SEEDS,
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    version=st.integers(1, 2),
)
def test_means_do_not_depend_on_batches(
    seed: int, sizes: list[int], version: int
) -> None:
    tensors = network(seed, sum(sizes), 1, 2, torch.float64)
    metrics = mean_description(6, version)
    for batch in zip(*(x.split(sizes) for x in tensors), strict=True):
        metrics.update(*batch)
    whole = describe(*tensors, weights=6, version=version)
    computed = metrics.compute()
    assert set(computed) == set(Description._fields)
    for name, value in whole._asdict().items():
        torch.testing.assert_close(computed[name], value.mean())
    again = pickle.loads(pickle.dumps(metrics))
    torch.testing.assert_close(again.compute(), computed)
    metrics.reset()
    with (
        pytest.warns(UserWarning, match="before the"),
        pytest.raises(ValueError, match="needs a sample"),
    ):
        metrics.compute()


def test_gradients_reach_the_reconstruction() -> None:
    signals, rebuilt, maps = network(0, 2, 1, 1, torch.float64)

    def total(r: torch.Tensor) -> torch.Tensor:
        return describe(signals, r, maps, weights=3).phi.sum()

    assert torch.autograd.gradcheck(total, rebuilt.requires_grad_())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"maps": (2, 1, 4)}, r"activations must have shape \(2, kernels, 5"),
        ({"maps": (3, 1, 5)}, r"activations must have shape"),
        ({"maps": (2, 5)}, r"activations must have shape"),
        ({"rebuilt": (2, 1, 4)}, "one shape"),
        ({"signals": (2, 5)}, r"signals must have shape \(batch, channels"),
        ({"signals": (2, 1, 2, 2, 2)}, "height, width"),
        ({"weights": -1.0}, "weights"),
        ({"version": 0}, "version must be in 1…2"),
    ],
)
def test_describe_refuses(change: dict, message: str) -> None:
    given_ = {"signals": (2, 1, 5), "rebuilt": (2, 1, 5), "maps": (2, 1, 5)}
    shapes = given_ | {k: v for k, v in change.items() if k in given_}
    rest = {"weights": 3.0} | {
        k: v for k, v in change.items() if k not in given_
    }
    with pytest.raises(ValueError, match=message):
        describe(*(torch.rand(shapes[name]) for name in given_), **rest)


@pytest.mark.parametrize("name", ["signals", "rebuilt", "maps"])
def test_describe_refuses_nan(name: str) -> None:
    tensors = {key: torch.rand(2, 1, 5) for key in ("signals", "rebuilt")}
    tensors["maps"] = torch.rand(2, 1, 5)
    tensors[name][0, 0, 0] = math.nan
    with pytest.raises(ValueError, match="finite"):
        describe(*tensors.values(), weights=3)


@settings(max_examples=40)
@given(
    size=st.lists(st.integers(1, 40), min_size=1, max_size=2),
    kernels=st.integers(1, 3),
    data=st.data(),
)
def test_matched_cost_by_counting_cells(
    size: list[int], kernels: int, data: st.DataObject
) -> None:
    m = data.draw(st.integers(1, min(size)))
    cells = math.prod(len(range(0, side - m + 1, m)) for side in size)
    for counting, each in {"weights": m ** len(size), "sides": m}.items():
        numbers = kernels * (each + (len(size) + 1) * cells)
        cost = matched_cost(size, m, kernels, counting)
        assert cost == pytest.approx(numbers / math.prod(size))
    with pytest.raises(ValueError, match="kernel_size must be in 1"):
        matched_cost(size, min(size) + 1)


def rows(version: int) -> list[dict[str, str]]:
    path: Path = PUBLISHED / f"sparsely_activated_networks_v{version}.csv"
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("version", [1, 2])
def test_published_tables_are_whole(version: int) -> None:
    table = rows(version)
    names = [tuple(row.values())[:4] for row in table]
    assert len(set(names)) == len(names)
    databases = {r["data"] for r in table if r["artefact"] == "table-1"}
    assert len(databases) == 15
    kinds = {row["activation"] for row in table}
    assert len(kinds) == {1: 4, 2: 5}[version]
    per_kind = 15 + 8 + {1: 6, 2: 12}[version]
    assert len(table) == per_kind * len(kinds)


@pytest.mark.parametrize("version", [1, 2])
def test_published_phi_is_never_below_its_columns(version: int) -> None:
    """The mean of φ is at least the φ of the means."""
    for row in rows(version):
        cost = float(row["inverse_compression_ratio"])
        loss = float(row["normalised_loss"])
        low, high = phi_interval(cost, loss, version)
        assert low <= high
        middle = (cost + loss) / 2 if version == 1 else math.hypot(cost, loss)
        assert low <= middle <= high
        printed = float(row["phi"])
        assert printed >= low - 0.005 - 1e-9
        if version == 1:
            assert printed <= high + 0.005 + 1e-9


def test_phi_interval_refuses() -> None:
    with pytest.raises(ValueError, match="at least 0"):
        phi_interval(-0.1, 0.5)
    with pytest.raises(ValueError, match="at least 0"):
        phi_interval(0.1, 0.5, rounding=math.nan)
    with pytest.raises(ValueError, match="version"):
        phi_interval(0.1, 0.5, 3)
