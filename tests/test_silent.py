"""Layers that skip silent units: the same numbers as layers that do not."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from sparse_book.networks.convolutional import CHANNELS, Convolutional
from sparse_book.networks.joint import DECODERS, Joint, joint_loss
from sparse_book.training import silent
from sparse_book.training.ensemble import (
    Ensemble,
    _functional_gradients,
    _Problem,
    train_ensemble,
)
from sparse_book.training.ensemble_convolutions import (
    _convolutional_gradients,
)

from conftest import ROOT


def sparse_maps(
    shape: tuple[int, ...], share: float, seed: int, dtype: torch.dtype
) -> torch.Tensor:
    """Maps of which a share is active, at random places."""
    draws = torch.Generator().manual_seed(seed)
    kept = torch.rand(shape, generator=draws) < share
    values = torch.rand(shape, generator=draws, dtype=torch.float64) + 0.1
    return (values * kept).to(dtype)


def normal(*shape: int, seed: int = 1) -> torch.Tensor:
    draws = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=draws, dtype=torch.float64)


@settings(max_examples=60, deadline=None)
@given(
    images=st.integers(1, 4),
    below=st.integers(1, 4),
    above=st.integers(1, 5),
    side=st.integers(1, 4),
    room=st.tuples(st.integers(0, 5), st.integers(0, 5)),
    share=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
    double=st.booleans(),
)
def test_a_layer_equals_torch(
    images, below, above, side, room, share, double
) -> None:
    dtype = torch.float64 if double else torch.float32
    near = {} if double else {"rtol": 1e-4, "atol": 1e-4}
    high, wide = (side + more for more in room)
    maps = sparse_maps((images, below, high, wide), share, 0, dtype)
    weight = normal(above, below, side, side).to(dtype)
    bias = normal(above).to(dtype)
    active = silent._active(maps, share=1.0)
    assert active is not None
    states = silent._layer(active, weight, bias)
    inputs = maps.clone().requires_grad_(), weight.clone().requires_grad_()
    expected = F.conv2d(*inputs, bias)
    torch.testing.assert_close(states, expected.detach(), **near)
    delta = normal(*states.shape).to(dtype)
    by_maps, by_weight = torch.autograd.grad(expected, inputs, delta)
    slopes, back = silent._layer_back(delta, active, weight)
    torch.testing.assert_close(slopes, by_weight, **near)
    torch.testing.assert_close(back, by_maps * (maps > 0), **near)


def test_maps_that_do_not_lie_in_order() -> None:
    maps = sparse_maps((3, 8, 9, 2), 0.3, 0, torch.float64)
    turned = maps.permute(0, 3, 1, 2)
    weight, bias = normal(4, 2, 3, 3), normal(4)
    active = silent._active(turned, share=1.0)
    assert active is not None
    states = silent._layer(active, weight, bias)
    torch.testing.assert_close(states, F.conv2d(turned, weight, bias))
    delta = normal(*states.transpose(2, 3).shape).transpose(2, 3)
    slopes, _ = silent._layer_back(delta, active, weight)
    weight.requires_grad_()
    F.conv2d(turned, weight, bias).backward(delta)
    torch.testing.assert_close(slopes, weight.grad)


def test_the_list_of_active_units() -> None:
    maps = torch.tensor([[0.0, 2, -1, 0], [torch.nan, 0, 0, 3]])
    found = silent._active(maps.view(2, 1, 2, 2), share=1.0)
    assert found is not None
    assert found.ends.tolist() == [0, 1, 3]
    assert found.units.tolist() == [1, 0, 3] and found.sides == (2, 2)
    assert found.value[[0, 2]].tolist() == [2, 3]
    assert silent._active(maps.view(2, 1, 2, 2), share=0.25) is None
    assert silent._active(maps.view(2, 1, 2, 2).half(), share=1.0) is None
    assert silent._active(maps.view(2, 1, 2, 2).to("meta")) is None


def test_threads_that_could_be_used_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    maps = torch.zeros(1, 1, 10, 10)
    maps[0, 0, 0] = 1  # a tenth
    for threads, few in ((1, True), (2, True), (4, False)):
        monkeypatch.setattr(torch, "get_num_threads", lambda n=threads: n)
        assert (silent._active(maps) is not None) == few


SHAPES = [(2, 3, (1, 8, 8)), (3, 3, (3, 9, 9)), (2, 4, (1, 12, 11))]


def crowd_of(layers: int, side: int, image: tuple[int, int, int]) -> Ensemble:
    channels = CHANNELS[:layers]
    return Ensemble(
        lambda: Convolutional(image, channels, side, units=7).double(),
        [5, 1, 1, 2],
    )


@pytest.mark.parametrize(("layers", "side", "image"), SHAPES)
@pytest.mark.parametrize("share", [0.0, 0.45, 1.0])
def test_gradients_of_an_ensemble(
    monkeypatch: pytest.MonkeyPatch, layers, side, image, share
) -> None:
    monkeypatch.setattr(silent, "_SHARE", share * torch.get_num_threads())
    crowd = crowd_of(layers, side, image)
    draws = torch.Generator().manual_seed(3)
    x = torch.rand(2, 6, *image, generator=draws, dtype=torch.float64)
    t = torch.randint(10, (2, 6), generator=draws)
    prices = torch.tensor([0.0, 0.01, 0.1, 2.0]).double()
    problem = _Problem(crowd.template, crowd.layers, "cross-entropy", False)
    data = crowd.parameters, prices, x, t
    ours, tally = _convolutional_gradients(problem)(*data)
    theirs, same = _functional_gradients(problem)(*data)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-13)
    torch.testing.assert_close(tally, same, rtol=1e-10, atol=1e-13)


def test_skipping_hides_no_lost_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(silent, "_SHARE", 1.0 * torch.get_num_threads())
    crowd = crowd_of(2, 3, (1, 8, 8))
    crowd.parameters["hidden.0.0.weight"][1] = torch.nan
    x = torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    t = torch.arange(12) % 10
    rows = train_ensemble(crowd, x.double(), t, epochs=1, order_seeds=0)
    assert rows[0].loss.isnan().tolist() == [False, True, False, False]


def joint_data(count: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(7)
    x = torch.rand(count, 1, 8, 10, generator=draws, dtype=torch.float64)
    return x, torch.randint(10, (count,), generator=draws)


def joint_network(decoder: str | None) -> Joint:
    torch.manual_seed(2)
    return Joint((1, 8, 10), maps=9, decoder=decoder).double()


@pytest.mark.parametrize("decoder", [None, *DECODERS])
@pytest.mark.parametrize("price", [0.0, 0.7])
@pytest.mark.parametrize("share", [0.0, 1.0])
def test_gradients_of_a_joint_network(
    monkeypatch: pytest.MonkeyPatch,
    decoder: str | None,
    price: float,
    share: float,
) -> None:
    limit = share * torch.get_num_threads()
    monkeypatch.setattr(silent, "_JOINT_SHARE", limit)
    x, t = joint_data()
    network = joint_network(decoder)
    found = silent._joint_gradients(network, silent._Batch(x, t, price))
    ours = {name: p.grad for name, p in network.named_parameters()}
    network.zero_grad()
    answer, maps = network(x), network.hidden[0](x)
    if decoder is None:
        logits, loss = answer, F.cross_entropy(answer, t)
    else:
        logits, loss = answer[0], joint_loss(*answer, x, t)
    (loss + price * maps.sum() / len(x)).backward()
    theirs = {name: p.grad for name, p in network.named_parameters()}
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(found.loss, loss.detach())
    right = (logits.argmax(1) == t).double().mean()
    torch.testing.assert_close(found.correct, right)
    torch.testing.assert_close(found.maps, maps.detach().flatten(2))
    if share:
        assert found.active == float((maps > 0).sum()) / len(x)
    else:
        assert found.active is None


def test_no_list_away_from_the_processor() -> None:
    network = joint_network("subpixel").to("meta")
    x = torch.empty(6, 1, 8, 10, dtype=torch.float64, device="meta")
    t = torch.empty(6, dtype=torch.int64, device="meta")
    found = silent._joint_gradients(network, silent._Batch(x, t, 0.1))
    assert found.active is None
    for parameter in network.parameters():
        assert parameter.grad is not None
        assert parameter.grad.shape == parameter.shape


def test_both_ways_of_the_benchmark_agree(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    bench = importlib.import_module("silent")
    try:
        maps = sparse_maps((3, 2, 9, 8), 0.3, 0, torch.float64)
        data = maps, normal(4, 2, 3, 3), normal(4), normal(3, 4, 7, 6)
        ways: dict[str, Callable[[], tuple[torch.Tensor, ...]]]
        ways = bench.layer_ways(*data)
        dense, skipping = (work() for work in ways.values())
        torch.testing.assert_close(dense, skipping)
        usual = silent._SHARE, silent._JOINT_SHARE
        limits = bench.both_ways(lambda: (silent._SHARE, silent._JOINT_SHARE))
        assert limits["dense"]() == (0.0, 0.0)
        assert limits["skipping"]() == usual
        assert usual == (silent._SHARE, silent._JOINT_SHARE)
    finally:
        sys.modules.pop("silent", None)
