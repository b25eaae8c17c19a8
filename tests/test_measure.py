"""Measures of an ensemble against those of one network at a time."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sparse_book.measures.sparsity import active_units, gini, l1_norm
from sparse_book.networks.fully_connected import FullyConnected
from sparse_book.networks.record import record
from sparse_book.training.ensemble import Ensemble
from sparse_book.training.measure import measure_ensemble, unit_profile


def images(count: int) -> tuple[Tensor, Tensor]:
    draws = torch.Generator().manual_seed(count)
    x = torch.randn(count, 6, generator=draws, dtype=torch.float64)
    return x, torch.arange(count) % 4


def crowd(depth: int = 2, kind: str = "relu") -> Ensemble:
    sizes = (6, *(9, 5, 7)[:depth], 4)
    return Ensemble(lambda: FullyConnected(sizes, kind).double(), [0, 1, 2])


@settings(max_examples=15)
@given(
    count=st.integers(1, 40),
    chunk=st.integers(1, 50),
    gini_images=st.integers(1, 50),
    depth=st.integers(1, 3),
    kind=st.sampled_from(["relu", "sigmoid", "tanh"]),
)
def test_one_at_a_time(
    count: int, chunk: int, gini_images: int, depth: int, kind: str
) -> None:
    ensemble, (x, t) = crowd(depth, kind), images(count)
    found = measure_ensemble(
        ensemble, x, t, gini_images=gini_images, chunk=chunk
    )
    for place in range(3):
        network = ensemble.network(place)
        assert isinstance(network, FullyConnected)
        with torch.no_grad(), record(network, network.hidden_names) as seen:
            right = network(x).argmax(1) == t
        assert found.accuracy[place] == right.double().mean()
        for layer, a in enumerate(seen.values()):
            first = a[:gini_images].abs() + 1e-7
            expected = {
                "active_units": active_units(a.clamp_min(0)).double().mean(),
                "l1": l1_norm(a).mean(),
                "gini": gini(first).mean(),
                "dead_units": (a <= 0).all(0).sum().double(),
            }
            for name, value in expected.items():
                torch.testing.assert_close(
                    getattr(found, name)[place, layer], value
                )


def test_silence_scores_nothing() -> None:
    ensemble, (x, t) = crowd(), images(20)
    ensemble.parameters["hidden.0.0.bias"][1] = -1e6
    found = measure_ensemble(ensemble, x, t)
    assert found.dead_units[1, 0] == 9 and found.active_units[1, 0] == 0
    assert found.l1[1, 0] == 0 and abs(found.gini[1, 0]) < 1e-9
    assert (found.active_units[[0, 2], 0] > 0).all()


def test_a_lost_network_disturbs_nobody() -> None:
    ensemble, (x, t) = crowd(), images(20)
    before = measure_ensemble(ensemble, x, t)
    for parameter in ensemble.parameters.values():
        parameter[1] = torch.nan
    after = measure_ensemble(ensemble, x, t)
    for one, other in zip(before, after, strict=True):
        assert torch.equal(one[[0, 2]], other[[0, 2]])
    assert after.l1[1].isnan().all()
    profile = unit_profile(ensemble, 1, x, t)
    assert profile.responses.sum() == 0
    assert profile.activation_counts.sum() == 0
    assert profile.weight_edges.isfinite().all()


def test_no_hidden_layer() -> None:
    ensemble, (x, t) = crowd(0), images(9)
    found = measure_ensemble(ensemble, x, t)
    assert found.accuracy.shape == (3,)
    for value in found[1:]:
        assert value.shape == (3, 0)
    with pytest.raises(ValueError, match="ensemble must record a layer"):
        unit_profile(ensemble, 0, x, t)


def test_profile_counts_by_hand() -> None:
    ensemble, (x, t) = crowd(), images(41)  # class 0 has one image more
    found = unit_profile(ensemble, 2, x, t, shown=1000, bins=7)
    assert found.shown == 10 and found.responses.shape == (4, 9 + 5)
    network = ensemble.network(2)
    with torch.no_grad(), record(network, ["hidden.0", "hidden.1"]) as seen:
        network(x[:40])
    activity = torch.cat(list(seen.values()), 1)
    expected = torch.stack([(activity[c::4] > 0).sum(0) for c in range(4)])
    assert torch.equal(found.responses, expected)
    counts, edges = torch.histogram(activity.flatten(), 7)
    torch.testing.assert_close(found.activation_edges, edges)
    assert torch.equal(found.activation_counts, counts)
    weights = [
        p[2].flatten()
        for name, p in ensemble.parameters.items()
        if "weight" in name
    ]
    counts, edges = torch.histogram(torch.cat(weights), 7)
    torch.testing.assert_close(found.weight_edges, edges)
    assert torch.equal(found.weight_counts, counts)


def test_bad_input() -> None:
    ensemble, (x, t) = crowd(), images(8)
    with pytest.raises(ValueError, match="equally many, at least 1"):
        measure_ensemble(ensemble, x, t[1:])
    with pytest.raises(ValueError, match="equally many, at least 1"):
        measure_ensemble(ensemble, x[:0], t[:0])
    with pytest.raises(ValueError, match="chunk must be at least 1"):
        measure_ensemble(ensemble, x, t, chunk=0)
    with pytest.raises(TypeError, match="gini_images must be an integer"):
        measure_ensemble(ensemble, x, t, gini_images=1.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="must hold 6 numbers"):
        measure_ensemble(ensemble, x[:, 1:], t)
    with pytest.raises(ValueError, match="index must be in 0…2"):
        unit_profile(ensemble, 3, x, t)
    with pytest.raises(ValueError, match="shown must be at least 1"):
        unit_profile(ensemble, 0, x, t, shown=0)
    with pytest.raises(ValueError, match="bins must be at least 1"):
        unit_profile(ensemble, 0, x, t, bins=0)
