"""Layers that skip silent units: the same numbers as layers that do not."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks_for_tests import normal
from torch.nn import functional as F

from sparse_book.networks.autoencoder import Autoencoder
from sparse_book.networks.convolutional import CHANNELS, Convolutional
from sparse_book.networks.fully_connected import FullyConnected
from sparse_book.networks.joint import DECODERS, Joint, joint_loss
from sparse_book.training import silent
from sparse_book.training.ensemble import (
    Ensemble,
    _choose_method,
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
    active = (maps > 0).sum().double() / len(x)
    torch.testing.assert_close(found.active, active)


@pytest.mark.parametrize("decoder", [None, *DECODERS])
@pytest.mark.parametrize("piece", [1, 4, 6, 50])
def test_pieces_of_a_batch_add_up(
    monkeypatch: pytest.MonkeyPatch, decoder: str | None, piece: int
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    monkeypatch.setattr(silent, "_PIECE", piece)
    x, t = joint_data()  # six images: pieces of 4 and 2 among others
    network, batch = joint_network(decoder), silent._Batch(x, t, 0.3)
    told = silent._in_pieces(network, batch)
    ours = {name: p.grad for name, p in network.named_parameters()}
    maps, windows = silent._hear(network, x)
    with torch.no_grad():
        loss, logits = silent._from_products(network, batch, maps, windows)
    theirs = {name: p.grad for name, p in network.named_parameters()}
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(told.loss, loss)
    right = (logits.argmax(1) == t).double().mean()
    torch.testing.assert_close(told.correct, right)


def test_the_first_images_do_not_decide_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where they are silent and the others are not, products are taken."""
    monkeypatch.setattr(silent, "_PIECE", 2)
    limit = 0.3 * torch.get_num_threads()
    monkeypatch.setattr(silent, "_JOINT_SHARE", limit)
    x, t = joint_data()
    x[:2] = 0
    network = joint_network(None)
    with torch.no_grad():
        network.hidden[0][1].bias.fill_(-0.01)
        assert silent._few(network, x[:2]) is not None
        assert silent._few(network, x) is None
    found = silent._joint_gradients(network, silent._Batch(x, t, 0.0))
    loss = F.cross_entropy(network(x), t)
    torch.testing.assert_close(found.loss, loss.detach())


def test_no_list_away_from_the_processor() -> None:
    network = joint_network("subpixel").to("meta")
    x = torch.empty(6, 1, 8, 10, dtype=torch.float64, device="meta")
    t = torch.empty(6, dtype=torch.int64, device="meta")
    assert silent._few(network, x) is None
    silent._joint_gradients(network, silent._Batch(x, t, 0.1))
    for parameter in network.parameters():
        assert parameter.grad is not None
        assert parameter.grad.shape == parameter.shape


@st.composite
def live_problems(draw) -> tuple:
    """Wide networks' problems, with anything from no to all units silent."""
    kind = draw(st.sampled_from(["copies", "classes"]))
    inner = draw(st.lists(st.integers(1, 9), min_size=0, max_size=3))
    if kind == "copies":
        inner = inner[:1] or [3]
        sizes: tuple[int, ...] = (7, *inner, 7)
    else:
        sizes = (7, *inner, 5)
    return (
        kind,
        sizes,
        draw(st.sampled_from([-3.0, -0.4, 0.0, 1.0])),  # of biases
        draw(st.sampled_from([0.0, 0.5, 1.0])),  # of pixels that are black
        draw(st.booleans()),  # per node
        draw(st.booleans()),  # priced
        draw(st.booleans()),  # biases below 0
    )


@settings(max_examples=80, deadline=None)
@given(live_problems(), st.integers(0, 5))
def test_live_gradients_are_those_of_autograd(case, seed) -> None:
    kind, sizes, shift, black, per_node, priced, negative = case

    def build() -> FullyConnected:
        if kind == "copies":
            return Autoencoder(sizes).double()
        return FullyConnected(sizes, negative_biases=negative).double()

    crowd = Ensemble(build, [seed, 1, 2, 2])
    for name, parameter in crowd.parameters.items():
        if name.endswith(".bias") and "hidden" in name:
            parameter[::2] += shift
    draws = torch.Generator().manual_seed(seed)
    x = torch.rand(2, 6, 7, generator=draws, dtype=torch.float64)
    x *= torch.rand(7, generator=draws) >= black
    t = torch.randint(5, (2, 6), generator=draws)
    loss, targets = "cross-entropy", t
    if kind == "copies":
        loss, targets = "squared-error", x
    layers = crowd.layers if priced else ()
    problem = _Problem(crowd.template, layers, loss, per_node)
    prices = torch.tensor([0.0, 0.01, 0.1, 2.0]).double()
    data = crowd.parameters, prices, x, targets
    make = silent._live_gradients(problem)
    make(*data)
    ours, tally = make(*data)  # over what the first has written
    theirs, same = _functional_gradients(problem)(*data)
    near = {"rtol": 1e-10, "atol": 1e-13, "equal_nan": True}
    torch.testing.assert_close(ours, theirs, **near)
    torch.testing.assert_close(tally, same, **near)


def test_wide_rectified_networks_leave_silent_units_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def chosen(build, method="auto", see=None, device="cpu") -> str:
        crowd = Ensemble(build, [0], device=device)
        parts = crowd.template, crowd.layers, "cross-entropy", False, see
        return _choose_method(method, _Problem(*parts)).__qualname__

    def wide() -> FullyConnected:
        return FullyConnected((700, 800, 10))

    live, usual = "_live_gradients", "_stacked_gradients"
    assert chosen(wide).startswith(live)
    assert chosen(wide, "stacked").startswith(usual)
    assert chosen(wide, see=lambda *_: None).startswith(usual)
    assert chosen(lambda: wide().bfloat16()).startswith(usual)
    assert chosen(wide, device="meta").startswith(usual)
    small, bent = (
        lambda: FullyConnected((700, 600, 10)),
        lambda: FullyConnected((700, 800, 10), "tanh"),
    )
    assert chosen(small).startswith(usual)
    assert chosen(bent).startswith(usual)
    monkeypatch.setattr(silent, "_WIDE", 1)
    assert chosen(small).startswith(live)


def test_wide_networks_train_as_without_skipping() -> None:
    draws = torch.Generator().manual_seed(0)
    x = torch.rand(60, 700, generator=draws) * (torch.arange(700) % 3 == 0)
    found = []
    for method in ("auto", "stacked"):
        crowd = Ensemble(lambda: Autoencoder((700, 400, 700)), [0, 1])
        rows = train_ensemble(
            crowd,
            x,
            x,
            coefficient=[0.0, 0.01],
            epochs=4,
            batch_size=20,
            loss="squared-error",
            method=method,
        )
        found.append((crowd.parameters, rows[-1].loss, rows[-1].activity))
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)


def test_a_lost_wide_network_disturbs_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(silent, "_WIDE", 1)
    x = torch.rand(12, 6, generator=torch.Generator().manual_seed(0))
    crowd = Ensemble(lambda: Autoencoder((6, 5, 6)), [0, 1, 2])
    crowd.parameters["hidden.0.0.weight"][1, 0, 0] = torch.nan
    rows = train_ensemble(
        crowd, x, x, epochs=2, loss="squared-error", order_seeds=0
    )
    assert rows[-1].loss.isnan().tolist() == [False, True, False]


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
