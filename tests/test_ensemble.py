"""Many networks at once: each as if it were alone."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from optimizers_for_tests import peer_of
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sparse_book.networks.fully_connected import FullyConnected
from sparse_book.networks.record import record
from sparse_book.training import ensemble as ensemble_module
from sparse_book.training.activity_penalty import activity_penalty
from sparse_book.training.ensemble import (
    Ensemble,
    _functional_gradients,
    _order_groups,
    _Problem,
    _ReplayedSteps,
    _stacked_gradients,
    epoch_order,
    seeded_network,
    train_ensemble,
)
from sparse_book.training.optimizers import OPTIMIZERS, make_stepper

INPUTS, CLASSES, COUNT, BATCH = 12, 5, 47, 10
SETTINGS: dict[str, dict[str, float]] = {
    "sgd": {"momentum": 0.9, "weight_decay": 1e-3},
    "adam": {},
    "adagrad": {"rate_decay": 0.01, "weight_decay": 1e-3},
    "rmsprop": {"rho": 0.9, "momentum": 0.5},
    "adadelta": {"epsilon": 0.1, "weight_decay": 1e-3},
    "adagrad-squared": {"factor": 1e3, "weight_decay": 1e-3},
    "adadelta-squared": {"factor": 1e6, "epsilon": 1e-3},
}
RATES = [0.01, 0.003, 0.03]
PRICES = [0.0, 0.02, 0.1]


def data(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Inputs and labels that have something to do with each other."""
    draws = torch.Generator().manual_seed(0)
    x = torch.randn(COUNT, INPUTS, generator=draws, dtype=torch.float64)
    return x.to(dtype), x[:, :CLASSES].argmax(1)


def dense(
    depth: int = 1, kind: str = "relu", **options: bool
) -> Callable[[], nn.Module]:
    sizes = (INPUTS, *(7, 6, 5)[:depth], CLASSES)
    return lambda: FullyConnected(sizes, kind, **options).double()


class Autoencoder(nn.Module):
    """Rectified everywhere, output included, as in the thesis."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Sequential(nn.Linear(INPUTS, 6), nn.ReLU())
        self.decode = nn.Sequential(nn.Linear(6, INPUTS), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.decode(self.encode(x))
        return out


def convolutional() -> nn.Module:
    """Images of 3 × 4, through a convolution and a hidden layer."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 3, 4)),
        nn.Conv2d(1, 3, 2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(18, 6),
        nn.ReLU(),
        nn.Linear(6, CLASSES),
    ).double()


def trained_alone(
    build: Callable[[], nn.Module],
    layers: tuple[str, ...],
    place: int,
    *,
    seed: int,
    order: int,
    optimizer: str = "adam",
    loss: str = "cross-entropy",
    per_node: bool = False,
    epochs: int = 1,
) -> nn.Module:
    """The same with autograd, hooks and torch.optim, one network only."""
    x, t = data()
    network = seeded_network(build, seed)
    chosen = {"learning_rate": RATES[place], **SETTINGS[optimizer]}
    descent = peer_of(optimizer, network.parameters(), chosen)
    for epoch in range(epochs):
        for index in epoch_order(order, epoch, COUNT).split(BATCH):
            cost = torch.zeros((), dtype=torch.float64)
            if layers:
                with record(network, layers) as seen:
                    outputs = network(x[index])
                cost = activity_penalty(seen, PRICES[place], per_node=per_node)
            else:
                outputs = network(x[index])
            if loss == "cross-entropy":
                cost = cost + F.cross_entropy(outputs, t[index])
            else:
                cost = cost + (outputs - x[index].abs()).square().mean()
            descent.zero_grad()
            cost.backward()
            descent.step()
    return network


def check_alone_is_together(
    build: Callable[[], nn.Module],
    layers: tuple[str, ...],
    orders: list[int] | int,
    *,
    method: str = "auto",
    optimizer: str = "adam",
    loss: str = "cross-entropy",
    per_node: bool = False,
) -> None:
    seeds = [4, 5, 5]
    x, t = data()
    group = Ensemble(build, seeds, layers=layers)
    train_ensemble(
        group,
        x,
        t if loss == "cross-entropy" else x.abs(),
        coefficient=PRICES,
        per_node=per_node,
        order_seeds=orders,
        epochs=1,
        batch_size=BATCH,
        optimizer=optimizer,
        settings={
            "learning_rate": torch.tensor(RATES, dtype=torch.float64),
            **SETTINGS[optimizer],
        },
        loss=loss,
        method=method,
    )
    for place, seed in enumerate(seeds):
        alone = trained_alone(
            build,
            layers,
            place,
            seed=seed,
            order=orders if isinstance(orders, int) else orders[place],
            optimizer=optimizer,
            loss=loss,
            per_node=per_node,
        )
        for name, expected in alone.named_parameters():
            found = group.parameters[name][place]
            torch.testing.assert_close(
                found, expected.detach(), rtol=1e-8, atol=1e-10
            )
        begin = dict(seeded_network(build, seed).named_parameters())
        ways = [
            float((p - begin[name]).abs().max().detach())
            for name, p in alone.named_parameters()
        ]
        assert max(ways) > 1e-3, "a network that stands still proves nothing"


@pytest.mark.parametrize("kind", ["relu", "sigmoid", "tanh", "identity"])
@pytest.mark.parametrize("depth", [0, 1, 2, 3])
def test_alone_is_together(depth: int, kind: str) -> None:
    names = tuple(f"hidden.{k}" for k in range(depth))
    check_alone_is_together(dense(depth, kind), names, 9)


@pytest.mark.parametrize("orders", [9, [1, 2, 2], [1, 2, 3]])
@pytest.mark.parametrize("optimizer", list(OPTIMIZERS))
@pytest.mark.parametrize("method", ["stacked", "sparse", "functional"])
def test_orders_and_optimizers(
    method: str, optimizer: str, orders: list[int] | int
) -> None:
    check_alone_is_together(
        dense(2),
        ("hidden.0", "hidden.1"),
        orders,
        method=method,
        optimizer=optimizer,
    )


@pytest.mark.parametrize("kind", ["relu", "sigmoid"])
@pytest.mark.parametrize("method", ["stacked", "sparse", "functional"])
def test_negative_biases_and_price_per_node(method: str, kind: str) -> None:
    check_alone_is_together(
        dense(2, kind, negative_biases=True, output_bias=False),
        ("hidden.0", "hidden.1"),
        [1, 2, 3],
        method=method,
        per_node=True,
    )


@pytest.mark.parametrize("orders", [9, [1, 2, 3]])
@pytest.mark.parametrize("optimizer", list(OPTIMIZERS))
def test_autoencoder(optimizer: str, orders: list[int] | int) -> None:
    check_alone_is_together(
        lambda: Autoencoder().double(),
        ("encode.1",),
        orders,
        optimizer=optimizer,
        loss="squared-error",
    )


@pytest.mark.parametrize("optimizer", list(OPTIMIZERS))
@pytest.mark.parametrize("layers", [(), ("2", "5"), ("5",)])
def test_convolutional(layers: tuple[str, ...], optimizer: str) -> None:
    check_alone_is_together(
        convolutional, layers, [1, 1, 2], optimizer=optimizer
    )


def test_some_layers_only() -> None:
    check_alone_is_together(dense(2), ("hidden.1",), 9)
    check_alone_is_together(dense(2), (), 9, method="stacked")


def test_images_for_targets_keep_their_shape() -> None:
    """Outputs with channels meet targets with channels."""

    def build() -> nn.Module:
        return nn.Sequential(nn.Unflatten(1, (1, 3, 4)), nn.Conv2d(1, 1, 1))

    x = data(torch.float32)[0]
    flat, shaped = (Ensemble(build, [0, 1], layers=[]) for _ in range(2))
    train_ensemble(flat, x, x, loss="squared-error", epochs=1)
    images = x.view(-1, 1, 3, 4)
    rows = train_ensemble(shaped, x, images, loss="squared-error", epochs=1)
    assert rows[0].accuracy.isnan().all()
    for name, found in flat.parameters.items():
        torch.testing.assert_close(found, shaped.parameters[name])


def random_problem(
    seed: int, depth: int, kind: str, dtype: torch.dtype
) -> tuple[_Problem, dict[str, Tensor], Tensor]:
    network = seeded_network(dense(depth, kind), seed).to(dtype)
    assert isinstance(network, FullyConnected)
    problem = _Problem(
        network, network.hidden_names, "cross-entropy", seed % 2 == 1
    )
    draws = torch.Generator().manual_seed(seed)
    stack = {
        name: p.detach()
        * torch.randn(4, *p.shape, generator=draws, dtype=torch.float64).to(p)
        for name, p in network.named_parameters()
    }
    return problem, stack, torch.rand(4, generator=draws).to(dtype)


@settings(max_examples=20)
@given(
    seed=st.integers(0, 1000),
    depth=st.integers(0, 3),
    kind=st.sampled_from(["relu", "sigmoid", "tanh", "identity"]),
    groups=st.sampled_from([1, 2, 4]),
    batch=st.integers(1, 11),
)
def test_stacked_is_functional(
    seed: int, depth: int, kind: str, groups: int, batch: int
) -> None:
    x, t = data()
    index = torch.arange(groups * batch).view(groups, batch) % COUNT
    for dtype, tolerance in [(torch.float64, 1e-12), (torch.float32, 2e-4)]:
        problem, stack, prices = random_problem(seed, depth, kind, dtype)
        found = [
            gradients(problem)(stack, prices, x[index].to(dtype), t[index])
            for gradients in (_stacked_gradients, _functional_gradients)
        ]
        torch.testing.assert_close(
            found[0], found[1], rtol=tolerance, atol=tolerance / 10
        )


@pytest.mark.parametrize("method", ["stacked", "sparse", "functional"])
def test_single_precision_stays_close(method: str) -> None:
    groups = []
    for dtype in (torch.float64, torch.float32):
        x, t = data(dtype)

        def build(dtype: torch.dtype = dtype) -> nn.Module:
            return dense(2)().to(dtype)

        group = Ensemble(build, [1, 2])
        train_ensemble(group, x, t, coefficient=0.01, epochs=3, method=method)
        groups.append(group.parameters)
    for name, wide in groups[0].items():
        torch.testing.assert_close(
            groups[1][name].double(), wide, rtol=1e-3, atol=1e-4
        )


def test_default_order_is_the_networks_own() -> None:
    x, t = data()
    one, two = (Ensemble(dense(), [4, 4, 6]) for _ in range(2))
    train_ensemble(one, x, t, epochs=2, batch_size=BATCH)
    train_ensemble(
        two, x, t, epochs=2, batch_size=BATCH, order_seeds=[4, 4, 6]
    )
    for name, found in one.parameters.items():
        assert torch.equal(found, two.parameters[name])
    twins = one.parameters["output.bias"]  # same seed, same order
    torch.testing.assert_close(twins[0], twins[1])
    assert not torch.allclose(twins[0], twins[2])


@pytest.mark.parametrize("optimizer", list(OPTIMIZERS))
@pytest.mark.parametrize("method", ["stacked", "sparse", "functional"])
def test_a_lost_network_disturbs_nobody(method: str, optimizer: str) -> None:
    x, t = data()
    whole, rest = Ensemble(dense(2), [0, 1, 2]), Ensemble(dense(2), [0, 2])
    rates = torch.tensor([0.01, 1e300, 0.01], dtype=torch.float64)
    options = {"optimizer": optimizer, "method": method, "order_seeds": 3}
    rows = train_ensemble(
        whole,
        x,
        t,
        epochs=4,
        batch_size=BATCH,
        settings={"learning_rate": rates},
        **options,  # type: ignore[arg-type]
    )
    train_ensemble(
        rest,
        x,
        t,
        epochs=4,
        batch_size=BATCH,
        settings={"learning_rate": 0.01},
        **options,  # type: ignore[arg-type]
    )
    assert rows[-1].loss.isfinite().tolist() == [True, False, True]
    for name, expected in rest.parameters.items():
        torch.testing.assert_close(
            whole.parameters[name][[0, 2]], expected, rtol=1e-9, atol=1e-12
        )


@pytest.mark.parametrize("build", [dense(2), convolutional])
@pytest.mark.parametrize("optimizer", list(OPTIMIZERS))
@pytest.mark.parametrize("groups", [1, 2])
def test_a_step_asks_for_no_value(
    build: Callable[[], nn.Module], optimizer: str, groups: int
) -> None:
    """On the meta device every question for a value is an error."""
    network = build()
    layers = ("2", "5")
    makers: list[Callable[[_Problem], object]] = [_functional_gradients]
    if isinstance(network, FullyConnected):
        layers = network.hidden_names
        makers.append(_stacked_gradients)
    network = network.to("meta")
    stack = {
        name: torch.empty(4, *p.shape, dtype=p.dtype, device="meta")
        for name, p in network.named_parameters()
    }
    x = torch.empty(groups, 8, INPUTS, dtype=torch.float64, device="meta")
    t = torch.empty(groups, 8, dtype=torch.int64, device="meta")
    prices = torch.empty(4, dtype=torch.float64, device="meta")
    rates = {"learning_rate": torch.tensor([0.1, 0.2, 0.3, 0.4])}
    for maker in makers:
        problem = _Problem(network, layers, "cross-entropy", False)
        step = make_stepper(optimizer, stack, rates, networks=4)
        gradients, tally = maker(problem)(stack, prices, x, t)  # type: ignore[operator]
        step(gradients)
        assert tally.loss.shape == (4,)
        assert tally.activity.shape == (4, len(layers))
        assert set(gradients) == set(stack)
    with pytest.raises(RuntimeError):
        tally.loss.sum().item()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("build", [dense(2), convolutional])
@pytest.mark.parametrize("optimizer", list(OPTIMIZERS))
def test_cuda(build: Callable[[], nn.Module], optimizer: str) -> None:
    x, t = data()
    layers = None if isinstance(build(), FullyConnected) else ["2", "5"]
    groups = [
        Ensemble(build, [0, 1, 2], layers=layers, device=device)
        for device in ("cpu", "cuda")
    ]
    for group in groups:
        rows = train_ensemble(
            group,
            x,
            t,
            coefficient=PRICES,
            epochs=2,
            optimizer=optimizer,
            settings={"learning_rate": torch.tensor(RATES)},
        )
        assert rows[-1].loss.device.type == "cpu"
    for name, expected in groups[0].parameters.items():
        found = groups[1].parameters[name]
        assert found.is_cuda
        torch.testing.assert_close(
            found.cpu(), expected, rtol=1e-8, atol=1e-10
        )


class Again:
    """Replays by doing the work again, on the same tensors."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.warmed, self.replayed = device, 0, 0

    def warm(self, work: Callable[[], None]) -> None:
        work()
        self.warmed += 1

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        def launch() -> None:
            work()
            self.replayed += 1

        return launch


class Tape(TorchDispatchMode):
    """Takes down the operations of a step, with their tensors and numbers.

    Like a CUDA graph, it knows nothing of the Python code that asked for
    them: what Python computed while it ran is frozen. Unlike one, the step
    is taken while it is recorded, so the first launch has nothing to do.
    """

    QUESTIONS = ("_local_scalar_dense", "is_nonzero", "nonzero", "equal")

    def __init__(self, device: torch.device) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.device, self.warmed, self.replayed = device, 0, 0
        self.lines: list[tuple[Callable[[], object], object]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        name = func.overloadpacket.__name__
        if name in self.QUESTIONS:
            raise RuntimeError(f"a value was asked for: {name}")
        operation = partial(func, *args, **(kwargs or {}))
        out: object = operation()
        self.lines.append((operation, out))
        return out

    def warm(self, work: Callable[[], None]) -> None:
        work()
        self.warmed += 1

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        with self:
            work()
        return self.launch

    @torch.no_grad()
    def launch(self) -> None:
        self.replayed += 1
        for operation, before in self.lines if self.replayed > 1 else ():
            after = operation()
            for old, new in zip(
                tree_leaves(before), tree_leaves(after), strict=True
            ):
                if isinstance(old, Tensor) and (
                    old.data_ptr() != new.data_ptr()
                ):
                    old.copy_(new)


def train_again(
    build: Callable[[], nn.Module],
    layers: tuple[str, ...] | None,
    watch: Callable[[int, object], None] | None = None,
    **options: Any,
) -> tuple[dict[str, Tensor], list[Tensor]]:
    """Parameters and means of three epochs: 4 whole batches and a rest."""
    x, t = data()
    group = Ensemble(build, [4, 5, 5, 6], layers=layers)
    rows = train_ensemble(
        group,
        x,
        t if options.get("loss") != "squared-error" else x.abs(),
        coefficient=[0.0, 0.02, 0.1, 0.02],
        epochs=3,
        batch_size=BATCH,
        watch=watch,
        **options,
    )
    return group.parameters, [part for row in rows for part in row[1:]]


@pytest.fixture
def plain_update(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Optimizers as on a graphics card: their `update`, nothing compiled."""
    made: list[Any] = []

    def stepper(*arguments: Any, **options: Any) -> object:
        step: Any = make_stepper(*arguments, **options)
        step._table = None
        made.append(step)
        return step

    monkeypatch.setattr(ensemble_module, "make_stepper", stepper)
    return made


CASES: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "stacked": (dense(2), None, {"method": "stacked"}),
    "functional": (dense(2), None, {"method": "functional"}),
    "no layers": (dense(1, "tanh"), (), {}),
    "raw biases": (
        dense(2, "sigmoid", negative_biases=True),
        None,
        {"per_node": True},
    ),
    "convolutional": (convolutional, ("2", "5"), {}),
    "autoencoder": (
        lambda: Autoencoder().double(),
        ("encode.1",),
        {"loss": "squared-error"},
    ),
}


@pytest.mark.parametrize("recorder", [Again, Tape])
@pytest.mark.parametrize("orders", [9, [1, 1, 2, 2], [1, 2, 3, 4]])
@pytest.mark.parametrize("optimizer", list(OPTIMIZERS))
@pytest.mark.parametrize("case", list(CASES))
def test_replayed_steps_are_steps(
    case: str,
    optimizer: str,
    orders: list[int] | int,
    recorder: type,
    plain_update: list[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    build, layers, options = CASES[case]
    rates = torch.tensor([1e-2, 3e-3, 3e-2, 1e-2], dtype=torch.float64)
    options = options | {
        "optimizer": optimizer,
        "order_seeds": orders,
        "settings": {"learning_rate": rates},
    }
    plain = train_again(build, layers, **options)
    made: list[Any] = []

    def recorder_for(device: torch.device) -> object:
        made.append(recorder(device))
        return made[-1]

    monkeypatch.setattr(ensemble_module, "_recorder", recorder_for)
    replayed = train_again(build, layers, **options)
    assert made[0].warmed == _ReplayedSteps.warm_steps
    assert made[0].warmed + made[0].replayed == 3 * (COUNT // BATCH)
    for name, expected in plain[0].items():
        assert torch.equal(replayed[0][name], expected), name
    for found, expected in zip(replayed[1], plain[1], strict=True):
        torch.testing.assert_close(
            found, expected, rtol=0, atol=0, equal_nan=True
        )


def test_replays_on_the_compiled_optimizer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = train_again(dense(2), None)
    monkeypatch.setattr(ensemble_module, "_recorder", Again)
    replayed = train_again(dense(2), None)
    for name, expected in plain[0].items():
        assert torch.equal(replayed[0][name], expected)


@pytest.mark.parametrize("optimizer", list(OPTIMIZERS))
def test_everything_a_replay_changes_stays_in_place(
    optimizer: str,
    plain_update: list[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    places: list[list[int]] = []

    def note(number: int, tally: object) -> None:
        (step,) = plain_update
        held = [step.parameters, *step.state.values()]
        tensors = [tensor for part in held for tensor in part.values()]
        assert all(isinstance(tensor, Tensor) for tensor in tensors)
        places.append([tensor.data_ptr() for tensor in tensors])

    monkeypatch.setattr(ensemble_module, "_recorder", Tape)
    train_again(dense(2), None, optimizer=optimizer, watch=note)
    assert len(places) == 15
    assert all(row == places[0] for row in places)
    count = plain_update[0].state["step"][""]
    assert count.ndim == 0 and int(count) == 15


def test_a_watcher_may_keep_what_it_is_told(
    plain_update: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: dict[str, list[Any]] = {"plain": [], "replayed": []}
    train_again(dense(), None, watch=lambda _, y: told["plain"].append(y))
    monkeypatch.setattr(ensemble_module, "_recorder", Tape)
    train_again(dense(), None, watch=lambda _, y: told["replayed"].append(y))
    for found, expected in zip(told["replayed"], told["plain"], strict=True):
        for one, other in zip(found, expected, strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("kind", [RuntimeError, torch.OutOfMemoryError])
def test_what_cannot_be_recorded_runs_as_it_is(
    kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Unable(Again):
        def record(self, work: Callable[[], None]) -> Callable[[], None]:
            raise kind("not permitted when stream is capturing")

    plain = train_again(dense(), None)
    monkeypatch.setattr(ensemble_module, "_recorder", Unable)
    if kind is torch.OutOfMemoryError:
        with pytest.raises(kind):
            train_again(dense(), None)
        return
    with pytest.warns(RuntimeWarning, match="unrecorded.*capturing") as seen:
        found = train_again(dense(), None)
    assert len(seen) == 1
    for name, expected in plain[0].items():
        assert torch.equal(found[0][name], expected)


@pytest.mark.parametrize("method", ["stacked", "functional"])
@pytest.mark.parametrize("optimizer", list(OPTIMIZERS))
def test_a_replayed_step_asks_for_no_value(
    optimizer: str, method: str
) -> None:
    """The whole of it, looking up images and adding up means included."""
    network = dense(2)().to("meta")
    assert isinstance(network, FullyConnected)
    stack = {
        name: torch.empty(4, *p.shape, dtype=p.dtype, device="meta")
        for name, p in network.named_parameters()
    }
    x = torch.empty(COUNT, INPUTS, dtype=torch.float64, device="meta")
    t = torch.empty(COUNT, dtype=torch.int64, device="meta")
    prices = torch.empty(4, dtype=torch.float64, device="meta")
    problem = _Problem(network, network.hidden_names, "cross-entropy", True)
    makers = {
        "stacked": _stacked_gradients,
        "functional": _functional_gradients,
    }
    again = Again(x.device)
    steps = _ReplayedSteps(
        again,
        (2, BATCH),
        (x, t),
        partial(makers[method](problem), stack, prices),
        make_stepper(optimizer, stack, networks=4),
    )
    for _ in range(2):
        steps.begin()
        for start in range(0, COUNT, BATCH):
            index = steps.shown[0][start : start + BATCH].expand(2, -1)
            steps.take(index, index)
    assert (again.warmed, again.replayed) == (3, 5)
    assert [total.shape for total in steps.totals] == [(4,), (4, 2), (4,)]
    with pytest.raises(RuntimeError):
        steps.told().loss.sum().item()


def test_no_recording_on_a_processor() -> None:
    assert ensemble_module._recorder(torch.device("cpu")) is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("optimizer", list(OPTIMIZERS))
@pytest.mark.parametrize("case", list(CASES))
def test_cuda_graphs(
    case: str, optimizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recorded training is the same as one without recording."""
    build, layers, options = CASES[case]
    x, t = data()
    found = []
    for recorder in (ensemble_module._recorder, lambda device: None):
        monkeypatch.setattr(ensemble_module, "_recorder", recorder)
        group = Ensemble(build, [4, 5, 5, 6], layers=layers, device="cuda")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            train_ensemble(
                group,
                x,
                t if options.get("loss") != "squared-error" else x.abs(),
                coefficient=[0.0, 0.02, 0.1, 0.02],
                epochs=3,
                batch_size=BATCH,
                optimizer=optimizer,
                **options,
            )
        found.append(group.parameters)
    for name, expected in found[1].items():
        torch.testing.assert_close(
            found[0][name], expected, rtol=1e-10, atol=1e-12
        )


def test_history_and_watch() -> None:
    x, t = data()
    group = Ensemble(dense(2), [0, 1])
    start = {k: p.clone() for k, p in group.parameters.items()}
    seen: list[tuple[int, Tensor]] = []
    rows = train_ensemble(
        group,
        x,
        t,
        epochs=2,
        batch_size=20,
        settings={"learning_rate": 0.0},
        watch=lambda step, tally: seen.append((step, tally.loss.clone())),
    )
    assert [step for step, _ in seen] == list(range(6))
    assert [row.epoch for row in rows] == [1, 2]
    for name, value in start.items():
        assert torch.equal(group.parameters[name], value)
    for place in range(2):  # nothing has moved: means over all the data
        network = group.network(place)
        assert isinstance(network, FullyConnected)
        with torch.no_grad(), record(network, network.hidden_names) as acts:
            outputs = network(x)
        right = (outputs.argmax(1) == t).double().mean()
        sums = torch.stack([a.abs().sum(1).mean() for a in acts.values()])
        for row in rows:
            torch.testing.assert_close(
                row.loss[place], F.cross_entropy(outputs, t)
            )
            torch.testing.assert_close(row.accuracy[place], right)
            torch.testing.assert_close(row.activity[place], sums)


@given(st.lists(st.integers(0, 2), min_size=1, max_size=8))
def test_groups_keep_every_order(seeds: list[int]) -> None:
    groups = _order_groups(seeds, len(seeds))
    each = len(seeds) // len(groups)
    assert each * len(groups) == len(seeds)
    assert [seed for seed in groups for _ in range(each)] == seeds


def test_seeds_do_not_depend_on_company() -> None:
    state = torch.get_rng_state()
    alone, crowd = Ensemble(dense(), [7]), Ensemble(dense(), [3, 9, 7])
    assert torch.equal(torch.get_rng_state(), state)
    for name, value in alone.parameters.items():
        assert torch.equal(value[0], crowd.parameters[name][2])


def test_forward_of_any_module() -> None:
    group = Ensemble(convolutional, [0, 1], layers=["2", "5"])
    x, _ = data()
    outputs, activations = group.forward(x)
    for place in range(2):
        network = group.network(place)
        with torch.no_grad(), record(network, ["2", "5"]) as seen:
            torch.testing.assert_close(outputs[place], network(x))
        for name in ("2", "5"):
            torch.testing.assert_close(
                activations[name][place], seen[name].flatten(1)
            )


BAD_ENSEMBLES = [
    (ValueError, "seeds must hold at least one", {"seeds": []}),
    (TypeError, "seeds must be an integer", {"seeds": [0.5]}),
    (ValueError, "seeds must be at least 0", {"seeds": [-1]}),
    (ValueError, "no layer 'hidden.9'", {"layers": ["hidden.9"]}),
    (TypeError, "build must return", {"build": lambda: None}),
    (ValueError, "layers must name", {"build": convolutional}),
    (
        ValueError,
        "without buffers",
        {"build": lambda: nn.BatchNorm1d(3), "layers": []},
    ),
]


@pytest.mark.parametrize(("kind", "words", "changes"), BAD_ENSEMBLES)
def test_bad_ensembles(
    kind: type[Exception], words: str, changes: dict[str, object]
) -> None:
    options: dict[str, object] = {"build": dense(), "seeds": [0]} | changes
    with pytest.raises(kind, match=words):
        Ensemble(
            options.pop("build"),  # type: ignore[arg-type]
            options.pop("seeds"),  # type: ignore[arg-type]
            **options,  # type: ignore[arg-type]
        )


X, T = data()
BAD_TRAINING = [
    (TypeError, "inputs and targets must be", {"inputs": X.tolist()}),
    (TypeError, "inputs must be a floating", {"inputs": X.long()}),
    (TypeError, "inputs must be torch.float64", {"inputs": X.float()}),
    (ValueError, "must hold 12 numbers", {"inputs": X[:, 1:]}),
    (ValueError, "one count", {"inputs": X[1:]}),
    (ValueError, "inputs must be finite", {"inputs": X / 0}),
    (TypeError, "targets must be int64", {"targets": T.double()}),
    (ValueError, "targets must be in 0…4", {"targets": T + 1}),
    (ValueError, "targets must be in 0…4", {"targets": T * 0 - 100}),
    (
        ValueError,
        "must hold 5 numbers",
        {"targets": X, "loss": "squared-error"},
    ),
    (ValueError, "coefficient must be at least 0", {"coefficient": -1.0}),
    (
        ValueError,
        "coefficient must be at least 0",
        {"coefficient": float("nan")},
    ),
    (
        ValueError,
        "coefficient must be a number or",
        {"coefficient": [0, 1, 2]},
    ),
    (TypeError, "coefficient must be a number", {"coefficient": "dear"}),
    (ValueError, "order_seeds must hold 2", {"order_seeds": [1, 2, 3]}),
    (ValueError, "order_seeds must be at least 0", {"order_seeds": -3}),
    (TypeError, "order_seeds must be an integer", {"order_seeds": [0.5, 1]}),
    (ValueError, "epochs must be at least 1", {"epochs": 0}),
    (ValueError, "batch_size must be at least 1", {"batch_size": 0}),
    (ValueError, "optimizer must be one of 'sgd'", {"optimizer": "best"}),
    (ValueError, "setting of adam", {"settings": {"lr": 0.1}}),
    (
        ValueError,
        r"learning_rate must have shape \(2,\)",
        {"settings": {"learning_rate": torch.ones(3)}},
    ),
    (ValueError, "loss must be one of 'cross", {"loss": "hinge"}),
    (ValueError, "method must be one of 'auto'", {"method": "fast"}),
]


@pytest.mark.parametrize(("kind", "words", "changes"), BAD_TRAINING)
def test_bad_training(
    kind: type[Exception], words: str, changes: dict[str, object]
) -> None:
    group = Ensemble(dense(), [0, 1])
    before = {k: p.clone() for k, p in group.parameters.items()}
    options: dict[str, object] = {"inputs": X, "targets": T} | changes
    with pytest.raises(kind, match=words):
        train_ensemble(group, **options)  # type: ignore[arg-type]
    for name, value in before.items():
        assert torch.equal(group.parameters[name], value)


def test_stacked_refuses_what_it_cannot() -> None:
    group = Ensemble(convolutional, [0], layers=["2"])
    with pytest.raises(ValueError, match="method 'stacked' needs"):
        train_ensemble(group, X, T, method="stacked")
    part = Ensemble(dense(2), [0], layers=["hidden.1"])
    with pytest.raises(ValueError, match="method 'stacked' needs"):
        train_ensemble(part, X, T, method="stacked")


@pytest.mark.parametrize("bad", [-1, 3])
def test_no_such_network(bad: int) -> None:
    with pytest.raises(ValueError, match="index must be in 0…2"):
        Ensemble(dense(), [0, 1, 2]).network(bad)


def test_orders_differ() -> None:
    orders = [
        epoch_order(seed, epoch, 50)
        for seed, epoch in itertools.product(range(4), range(4))
    ]
    for one, other in itertools.combinations(orders, 2):
        assert not torch.equal(one, other)
    with pytest.raises(ValueError, match="epoch must be at least 0"):
        epoch_order(0, -1, 5)
