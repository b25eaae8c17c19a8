"""Sweeps over kernel sizes: rows that do not depend on company."""

import pytest
import torch
from torch import Tensor

from sparse_book.san.kernel_sizes import (
    SanCondition,
    san_condition,
    train_signals_group,
)
from sparse_book.san.network import measure_networks, train_networks


def sets(seed: int, *size: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(
        torch.randn(n, 1, *size, generator=generator, dtype=torch.float64)
        for n in (4, 2, 3)
    )


DATA = {"one": sets(0, 60), "two": sets(1, 60), "image": sets(2, 9, 9)}
MIXED = [
    SanCondition("two", 5, "extrema", seed=1, epochs=3),
    SanCondition("image", 3, "extrema_pool_indices", kernels=2, epochs=2),
    SanCondition("one", 5, "extrema", seed=1, epochs=3),
    SanCondition("one", 7, "peaks", version=1, epochs=2),
    SanCondition("one", 5, "extrema", seed=0, epochs=3),
]


def test_rows_are_those_of_networks_alone() -> None:
    rows = train_signals_group(MIXED, DATA)
    for condition, row in zip(MIXED, rows, strict=True):
        assert {**row, **condition._asdict()} == row
        (alone,) = train_signals_group([condition], DATA)
        assert alone.keys() == row.keys()
        for key, value in alone.items():
            if isinstance(value, float | list):
                assert row[key] == pytest.approx(value, 1e-9)


def test_a_row_is_what_training_and_measuring_give() -> None:
    condition = MIXED[1]
    train, validation, test = (part[None] for part in DATA["image"])
    done = train_networks(
        train,
        validation,
        [0],
        kernel_size=3,
        kernels=2,
        activation=condition.activation,
        epochs=2,
    )
    (row,) = train_signals_group([condition], DATA)
    for kernels, prefix in ((done.kernels, ""), (done.last_kernels, "last_")):
        seen = measure_networks(kernels, test, activation=condition.activation)
        expected = {
            "phi": seen.mean_phi(2),
            "first_phi": seen.mean_phi(1),
            "phi_by_weights": seen.mean_phi(2, "weights"),
            "first_phi_by_weights": seen.mean_phi(1, "weights"),
            "inverse_compression_ratio": seen.cost_by_sides.mean(),
            "cost_by_weights": seen.cost_by_weights.mean(),
            "normalized_loss": seen.normalized_loss.mean(),
            "loss": seen.loss.mean(),
            "active": seen.active.mean(),
        }
        for name, value in expected.items():
            assert row[prefix + name] == pytest.approx(float(value))
        values = row[f"{prefix}kernels_values"]
        assert values == kernels.flatten().tolist()
    assert row["chosen_epoch"] == int(done.epoch)
    assert row["phi_by_epoch"] == done.phi[0].tolist()


def test_conditions_of_the_papers() -> None:
    second = san_condition("physionet", "mitdb", 72, "extrema", seed=3)
    assert second == SanCondition("mitdb", 72, "extrema", 2, 3, 1, 3, 30, 2)
    first = san_condition("uci-epilepsy", "eeg", 9, "peaks", version=1)
    assert first == SanCondition("eeg", 9, "peaks", 1, 0, 2, 0, 20, 16)
    images = san_condition("images", "mnist", 2, "relu")
    assert images == SanCondition("mnist", 2, "relu", 2, 0, 2, 2, 5, 64)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="protocol must be one of"):
        san_condition("music", "mitdb", 3, "extrema")
    with pytest.raises(ValueError, match="version must be in 1…2"):
        san_condition("physionet", "mitdb", 3, "extrema", version=0)
    condition = SanCondition("three", 5, "extrema")
    with pytest.raises(ValueError, match="data must hold 'three', got 'one'"):
        train_signals_group([condition], DATA)
    with pytest.raises(ValueError, match="three tensors for each name"):
        train_signals_group([condition], {"three": DATA["one"][:2]})
    with pytest.raises(ValueError, match="kernel_size must be in 1…60"):
        train_signals_group([SanCondition("one", 61, "extrema")], DATA)
