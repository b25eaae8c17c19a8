"""Sparsity while learning, single images, and the studies' method."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sparse_book.measures.selectivity import class_means, class_selectivity
from sparse_book.measures.sparsity import hoyer
from sparse_book.networks.fully_connected import FullyConnected
from sparse_book.networks.record import record
from sparse_book.training.ensemble import Ensemble, train_ensemble
from sparse_book.training.online import fits_online, train_online
from sparse_book.training.optimizers import OPTIMIZERS
from sparse_book.training.orders import make_order
from sparse_book.training.tracked import ConvolutionalFront
from sparse_book.training.tracking import RunningSparsity, measure_tracked


def dense(*sizes: int) -> Callable[[], nn.Module]:
    return lambda: FullyConnected(sizes, "sigmoid").double()


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.integers(1, 9), st.integers(2, 5))
def test_sums_equal_the_measures(seed: int, cut: int, classes: int) -> None:
    draws = torch.Generator().manual_seed(seed)
    a = torch.rand(2, 6, 4 * classes, generator=draws).double()
    t = torch.arange(classes).repeat(4)
    running = RunningSparsity(classes)
    for part, labels in zip(a.split(cut, 2), t.split(cut), strict=True):
        running.update([part, part**2], labels[None])
    found = running.measures()
    for n in range(2):
        for layer, values in enumerate((a[n].mT, a[n].mT ** 2)):
            each = class_selectivity(class_means(values, t, classes))
            expected = [
                hoyer(values).mean(),
                each.mean(),
                each.std(),
                values.sum(1).mean(),
            ]
            ours = [part[n, layer] for part in found]
            torch.testing.assert_close(ours, expected)


def test_silence_and_groups() -> None:
    a = torch.zeros(2, 3, 4)
    running = RunningSparsity(2)
    running.update([a], torch.tensor([[0, 1, 0, 1], [1, 1, 0, 0]]))
    found = running.measures()
    assert found.hoyer.tolist() == [[0.0], [0.0]]
    assert found.selectivity.tolist() == [[0.0], [0.0]]
    a[1, 0, :2] = 1.0  # the second network's first unit answers its class 1
    running.reset()
    running.update([a], torch.tensor([[0, 1, 0, 1], [1, 1, 0, 0]]))
    assert abs(running.measures().selectivity[1, 0] - 1 / 3) < 1e-6


def test_nothing_taken_in() -> None:
    with pytest.raises(ValueError, match="update must"):
        RunningSparsity(3).measures()
    with pytest.raises(ValueError, match="classes"):
        RunningSparsity(1)
    with pytest.raises(ValueError, match="equally many"):
        measure_tracked(
            Ensemble(dense(4, 3, 2), [0]),
            torch.rand(3, 4).double(),
            torch.zeros(2, dtype=torch.int64),
            classes=2,
        )


@pytest.mark.parametrize("method", ["stacked", "functional"])
def test_steps_are_seen_before_they_are_taken(method: str) -> None:
    """What `see` is shown is what the network answered, every layer."""
    x, t = torch.rand(12, 4).double(), torch.arange(12) % 2
    many = Ensemble(dense(4, 5, 3, 2), [0, 0, 1])
    nets = [many.network(n) for n in range(3)]
    shown: list[list[torch.Tensor]] = []
    train_ensemble(
        many,
        x,
        t,
        epochs=1,
        batch_size=6,
        optimizer="sgd",
        settings={"learning_rate": 0.0},
        method=method,
        see=lambda layers, targets: shown.append(list(layers)),
        order=lambda seed, epoch, labels, batch: torch.arange(12),
    )
    assert len(shown) == 2
    for n, net in enumerate(nets):
        with torch.no_grad(), record(net, net.hidden_names) as seen:
            net(x)
        for layer, name in enumerate(net.hidden_names):
            got = torch.cat([step[layer][n] for step in shown], 1)
            torch.testing.assert_close(got.mT, seen[name])


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adagrad", "adadelta"])
@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("decay", [0.0, 1e-3])
def test_single_images_equal_the_other_way(
    optimizer: str, batch: int, decay: float
) -> None:
    draws = torch.Generator().manual_seed(1)
    x = torch.rand(61, 12, generator=draws).double()
    x *= torch.rand(61, 12, generator=draws) < 0.3
    x[:, 5] = 0  # a pixel that is always black
    t = torch.arange(61) % 5
    options = {
        "epochs": 3,
        "batch_size": batch,
        "optimizer": optimizer,
        "settings": {
            "learning_rate": torch.tensor([0.05, 0.01]).double(),
            "weight_decay": decay,
        }
        | ({"momentum": 0.8} if optimizer == "sgd" else {}),
        "order": make_order("runs-3"),
    }
    pair = [Ensemble(dense(12, 7, 5), [2, 3]) for _ in range(2)]
    trackers = [RunningSparsity(5) for _ in range(2)]
    ours = train_online(pair[0], x, t, tracker=trackers[0], **options)
    theirs = train_ensemble(pair[1], x, t, see=trackers[1].update, **options)
    torch.testing.assert_close(
        pair[0].parameters, pair[1].parameters, rtol=1e-8, atol=1e-10
    )
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other)
    torch.testing.assert_close(trackers[0].measures(), trackers[1].measures())


def test_what_does_not_fit_is_refused() -> None:
    x, t = torch.rand(4, 6).double(), torch.arange(4) % 2
    relu = Ensemble(lambda: FullyConnected((6, 3, 2)).double(), [0])
    deep = Ensemble(dense(6, 3, 3, 2), [0])
    fine = Ensemble(dense(6, 3, 2), [0])
    for group in (relu, deep):
        assert not fits_online(group, "sgd")
        with pytest.raises(ValueError, match="one hidden layer"):
            train_online(group, x, t, optimizer="sgd")
    assert fits_online(fine, "adagrad")
    assert not fits_online(fine, "adagrad", {"rate_decay": 0.1})
    for name in OPTIMIZERS:
        known = name in ("sgd", "adam", "adagrad", "adadelta")
        assert fits_online(fine, name) == known
    with pytest.raises(ValueError, match="optimizer must be one of"):
        train_online(fine, x, t, optimizer="rmsprop")
    with pytest.raises(KeyboardInterrupt):
        train_online(fine, x, t, stop=lambda: True)


def test_a_lost_network_disturbs_no_other() -> None:
    x, t = torch.rand(20, 6).double(), torch.arange(20) % 2
    group, alone = (
        Ensemble(dense(6, 3, 2), [0, 1]),
        Ensemble(dense(6, 3, 2), [1]),
    )
    group.parameters["output.weight"][0] = torch.nan
    rows = train_online(group, x, t, epochs=1, optimizer="sgd")
    train_online(alone, x, t, epochs=1, optimizer="sgd")
    assert rows[0].loss.isnan().tolist() == [True, False]
    for name, value in alone.parameters.items():
        torch.testing.assert_close(group.parameters[name][1], value[0])


def test_front_end() -> None:
    network = ConvolutionalFront(28, 256, 10)
    count = sum(p.numel() for p in network.parameters())
    first, second = 32 * 9 + 32, 64 * 32 * 9 + 64
    assert count == first + second + 3136 * 256 + 256 + 2570
    assert network(torch.rand(2, 1, 28, 28)).shape == (2, 10)
    with pytest.raises(ValueError, match="side"):
        ConvolutionalFront(3, 4, 2)


def test_within_a_half_of_the_classes() -> None:
    """A network that always answers 5 knows nothing, but within a half."""
    many = Ensemble(dense(4, 3, 6), [0])
    with torch.no_grad():
        for value in many.parameters.values():
            value.zero_()
        many.parameters["output.bias"][0, 5] = 9.0
        many.parameters["output.bias"][0, 1] = 1.0
    t = torch.arange(6).repeat(2)
    found = measure_tracked(many, torch.rand(12, 4).double(), t, classes=6)
    assert found.halves[0].tolist() == pytest.approx([0.0, 1 / 3])
    assert found.within[0].tolist() == pytest.approx([1 / 3, 1 / 3])
    assert float(found.accuracy[0]) == pytest.approx(1 / 6)
    assert np.isfinite(float(found.loss[0]))
