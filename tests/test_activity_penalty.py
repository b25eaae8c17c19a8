"""The penalty against hand computation, brute force and finite differences."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.nn import functional as F

from sparse_book.measures import sparsity
from sparse_book.networks.fully_connected import FullyConnected
from sparse_book.networks.record import record
from sparse_book.training.activity_penalty import (
    PENALTY_MEASURES,
    activity_penalty,
)

PUBLIC: dict[str, Callable[[Tensor], Tensor]] = {
    "l1": sparsity.l1_norm,
    "log": sparsity.log_penalty,
    "exponential": sparsity.exponential_penalty,
    "negative-hoyer": lambda a: -sparsity.hoyer(a),
    "negative-gini": lambda a: -sparsity.gini(a),
}
NAMES = sorted(PENALTY_MEASURES)


def recorded(
    sizes: tuple[int, ...] = (5, 4, 3, 2), batch: int = 6, seed: int = 0
) -> tuple[FullyConnected, Tensor, dict[str, Tensor]]:
    """Return a network, images and its record as a dictionary."""
    torch.manual_seed(seed)
    model = FullyConnected(sizes).double()
    images = torch.randn(batch, sizes[0], dtype=torch.float64)
    with record(model, model.hidden_names) as activations:
        model(images)
    return model, images, dict(activations)


def test_names_cover_the_public_measures() -> None:
    assert sorted(PUBLIC) == NAMES


@given(
    widths=st.lists(st.integers(2, 6), min_size=1, max_size=3),
    batch=st.integers(1, 5),
    prices=st.lists(st.floats(0, 10), min_size=3, max_size=3),
    name=st.sampled_from(NAMES),
    per_node=st.booleans(),
    seed=st.integers(0, 99),
)
def test_equals_loops_over_images_and_layers(
    widths: list[int],
    batch: int,
    prices: list[float],
    name: str,
    per_node: bool,
    seed: int,
) -> None:
    generator = torch.Generator().manual_seed(seed)
    layers = {
        f"layer {i}": torch.randn(
            batch, width, generator=generator, dtype=torch.float64
        ).relu()
        for i, width in enumerate(widths)
    }
    each = dict(zip(layers, prices, strict=False))
    expected = 0.0
    for key, layer in layers.items():
        for image in layer:
            expected += each[key] * float(PUBLIC[name](image)) / batch
    expected /= sum(widths) if per_node else 1
    found = activity_penalty(layers, each, name, per_node=per_node)
    assert found.shape == () and found.dtype == torch.float64
    assert float(found) == pytest.approx(expected, rel=1e-9, abs=1e-12)
    one = activity_penalty(layers, prices[0], name, per_node=per_node)
    same = dict.fromkeys(layers, prices[0])
    assert torch.equal(
        one, activity_penalty(layers, same, name, per_node=per_node)
    )


@given(
    batch=st.integers(1, 5),
    copies=st.integers(1, 4),
    factor=st.floats(0, 100),
    name=st.sampled_from(NAMES),
)
def test_mean_over_the_batch_and_linear_in_the_coefficient(
    batch: int, copies: int, factor: float, name: str
) -> None:
    _, _, layers = recorded(batch=batch)
    once = activity_penalty(layers, 1.0, name)
    many = {key: layer.repeat(copies, 1) for key, layer in layers.items()}
    torch.testing.assert_close(activity_penalty(many, 1.0, name), once)
    torch.testing.assert_close(
        activity_penalty(layers, factor, name), factor * once
    )


@given(cut=st.integers(1, 5))
def test_batches_of_any_sizes_add_up_by_their_weights(cut: int) -> None:
    _, _, layers = recorded(batch=6)
    parts = [
        {key: layer[:cut] for key, layer in layers.items()},
        {key: layer[cut:] for key, layer in layers.items()},
    ]
    first, second = (activity_penalty(part, 0.7) for part in parts)
    whole = activity_penalty(layers, 0.7)
    torch.testing.assert_close((cut * first + (6 - cut) * second) / 6, whole)


def test_convolutions_pay_for_every_place() -> None:
    maps = torch.rand(3, 2, 4, 5)
    found = activity_penalty({"maps": maps}, 0.5, per_node=True)
    torch.testing.assert_close(found, 0.5 * maps.mean())


def test_gradient_by_hand_through_two_layers() -> None:
    model, images, _ = recorded()
    with record(model, model.hidden_names) as activations:
        model(images)
    prices = {"hidden.0": 0.3, "hidden.1": 0.2}
    activity_penalty(activations, prices).backward()
    a1, a2 = (a.detach() for a in activations.values())
    second = 0.2 * (a2 > 0).double() / len(images)
    weight2 = model.hidden[1][0].weight
    first = (0.3 / len(images) + second @ weight2.detach()) * (a1 > 0)
    torch.testing.assert_close(weight2.grad, second.T @ a1)
    torch.testing.assert_close(model.hidden[1][0].bias.grad, second.sum(0))
    torch.testing.assert_close(
        model.hidden[0][0].weight.grad, first.T @ images
    )
    assert model.output.weight.grad is None


@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh"])
@pytest.mark.parametrize("measure", NAMES)
def test_gradient_against_finite_differences(
    measure: str, activation: str
) -> None:
    torch.manual_seed(3)
    model = FullyConnected((4, 5, 3, 2), activation).double()
    images = torch.randn(5, 4, dtype=torch.float64)
    names, values = zip(*model.named_parameters(), strict=True)

    def penalty(*parameters: Tensor) -> Tensor:
        weights = dict(zip(names, parameters, strict=True))
        with record(model, model.hidden_names) as activations:
            functional_call(model, weights, (images,))
        return activity_penalty(activations, 0.3, measure)

    start = [value.detach().clone().requires_grad_() for value in values]
    assert torch.autograd.gradcheck(penalty, start)


def test_gradient_with_respect_to_the_coefficient() -> None:
    _, _, layers = recorded()
    layers = {key: layer.detach() for key, layer in layers.items()}
    price = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(activity_penalty(layers, price), price)
    torch.testing.assert_close(slope, activity_penalty(layers, 1.0))


def test_a_silent_unit_gets_no_gradient_and_an_active_one_a_constant() -> None:
    drive = torch.tensor([[-1.0, 0.0, 1e-6, 5.0]], requires_grad=True)
    price = activity_penalty({"units": drive.relu()}, 0.3)
    (slope,) = torch.autograd.grad(price, drive)
    assert torch.equal(slope, torch.tensor([[0.0, 0.0, 0.3, 0.3]]))
    for name in NAMES:
        silent = torch.zeros(2, 4, requires_grad=True)
        price = activity_penalty({"units": silent}, 1.0, name)
        (slope,) = torch.autograd.grad(price, silent)
        assert (slope == 0).all(), name


@pytest.mark.parametrize("measure", [*NAMES, sparsity.l1_norm])
@pytest.mark.parametrize("per_node", [False, True])
def test_vmap_with_batched_coefficients_equals_a_loop(
    measure: str | Callable[[Tensor], Tensor], per_node: bool
) -> None:
    torch.manual_seed(2)
    models = [FullyConnected((5, 4, 3, 2)) for _ in range(4)]
    weights, _ = stack_module_state(models)  # type: ignore[arg-type]
    skeleton = copy.deepcopy(models[0]).to("meta")
    images, labels = torch.randn(7, 5), torch.randint(2, (7,))
    prices = torch.tensor([0.0, 0.1, 0.5, 2.0])
    first = torch.tensor([0.3, 0.0, 0.1, 1.0])

    def cost(
        weights: dict[str, Tensor], first: Tensor, second: Tensor
    ) -> Tensor:
        with record(skeleton, skeleton.hidden_names) as heard:
            logits = functional_call(skeleton, weights, (images,))
        both = {"hidden.0": first, "hidden.1": second}
        price = activity_penalty(heard, both, measure, per_node=per_node)
        return F.cross_entropy(logits, labels) + price

    slopes, by_price = vmap(grad(cost, (0, 2)))(weights, first, prices)
    for index, model in enumerate(models):
        with record(model, model.hidden_names) as heard:
            loss = F.cross_entropy(model(images), labels)
        both = {
            "hidden.0": float(first[index]),
            "hidden.1": float(prices[index]),
        }
        price = activity_penalty(heard, both, measure, per_node=per_node)
        second = {"hidden.0": 0.0, "hidden.1": 1.0}
        unit = activity_penalty(heard, second, measure, per_node=per_node)
        torch.testing.assert_close(by_price[index], unit)
        (loss + price).backward()
        for name, weight in model.named_parameters():
            torch.testing.assert_close(slopes[name][index], weight.grad)


def test_a_module_that_runs_twice_pays_twice_under_one_name() -> None:
    relu = nn.ReLU()
    model = nn.Sequential(nn.Linear(3, 4), relu, nn.Linear(4, 2), relu)
    with record(model, "1") as heard:
        model(torch.randn(5, 3))
    outputs = heard.calls("1")
    expected = sum(output.sum() for output in outputs) / 5 * 0.2
    torch.testing.assert_close(activity_penalty(heard, 0.2), expected)
    torch.testing.assert_close(activity_penalty(heard, {"1": 0.2}), expected)
    by_call = {"1[0]": 0.0, "1[1]": 0.2}
    only = activity_penalty(dict(heard), by_call)
    torch.testing.assert_close(only, outputs[1].sum() / 5 * 0.2)


def test_rescaled_network_dodges_the_price() -> None:
    model, images, layers = recorded()
    cheat = copy.deepcopy(model)
    with torch.no_grad():
        cheat.hidden[0][0].weight *= 0.01
        for layer in cheat.hidden:
            layer[0].bias *= 0.01
        cheat.output.weight /= 0.01
    with record(cheat, cheat.hidden_names) as heard:
        logits = cheat(images)
    torch.testing.assert_close(logits, model(images))
    for name, factor in [("l1", 0.01), ("negative-gini", 1.0)]:
        torch.testing.assert_close(
            activity_penalty(heard, 1.0, name),
            factor * activity_penalty(layers, 1.0, name),
        )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_neither_overflows_nor_stalls(
    dtype: torch.dtype,
) -> None:
    many = torch.full((2, 40_000), 2.0, dtype=dtype, requires_grad=True)
    price = activity_penalty({"units": many}, 1.0)
    assert price.dtype == torch.float32 and price.item() == 80_000
    price.backward()
    assert many.grad is not None and (many.grad == 0.5).all()


def test_nan_activations_give_nan_rather_than_a_wait() -> None:
    layers = {"units": torch.tensor([[1.0, math.nan]])}
    assert activity_penalty(layers, 1.0, sparsity.l1_norm).isnan()


def test_without_gradients_it_just_measures() -> None:
    model, images, layers = recorded()
    with torch.no_grad(), record(model, model.hidden_names) as heard:
        model(images)
    price = activity_penalty(heard, 0.1)
    assert not price.requires_grad
    torch.testing.assert_close(price, activity_penalty(layers, 0.1).detach())
    with torch.no_grad():  # counting may be asked for where nothing learns
        count = activity_penalty(layers, 1.0, sparsity.active_units)
    assert float(count) > 0


def test_training_with_a_price_needs_fewer_units() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(200, 10, generator=generator)
    labels = (images[:, 0] > images[:, 1]).long()
    active = {}
    for price in (0.0, 0.05):
        torch.manual_seed(0)
        model = FullyConnected((10, 16, 2))
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(200):
            optimizer.zero_grad()
            with record(model, "hidden.0") as heard:
                logits = model(images)
            loss = F.cross_entropy(logits, labels)
            (loss + activity_penalty(heard, price)).backward()
            optimizer.step()
        active[price] = float((heard["hidden.0"] > 0).sum(1).float().mean())
        assert (logits.argmax(1) == labels).float().mean() > 0.9
    assert 0 < active[0.05] < active[0.0] / 2


UNITS = {"units": torch.ones(2, 3, requires_grad=True)}
BAD_COEFFICIENTS: list[tuple[object, type[Exception], str]] = [
    (-1.0, ValueError, "coefficient must be at least 0, got -1"),
    (math.nan, ValueError, "coefficient must be at least 0, got nan"),
    (math.inf, ValueError, "coefficient must be at least 0, got inf"),
    (torch.tensor(-1.0), ValueError, "coefficient must be at least 0"),
    (torch.tensor(math.nan), ValueError, "at least 0, got nan"),
    (torch.tensor(1), ValueError, "floating-point tensor of shape"),
    (torch.ones(2), ValueError, r"got torch.float32 of shape \(2,\)"),
    ("0.1", TypeError, "coefficient must be a number, got str"),
    (None, TypeError, "coefficient must be a number, got NoneType"),
    ({"units": -1.0}, ValueError, r"coefficient\['units'\] must be at least"),
    ({"units": math.nan}, ValueError, r"coefficient\['units'\].* got nan"),
    ({"unit": 1.0}, ValueError, r"layers \('units',\) and no other"),
    ({"units": 1.0, "x": 1.0}, ValueError, r"got \('units', 'x'\)"),
    ({}, ValueError, r"layers \('units',\) and no other, got \(\)"),
]


@pytest.mark.parametrize(("coefficient", "error", "words"), BAD_COEFFICIENTS)
def test_bad_coefficients(
    coefficient: object, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        activity_penalty(UNITS, coefficient)  # type: ignore[arg-type]


BAD_MEASURES: list[tuple[object, str]] = [
    ("l0", "measure must be one of 'l1', 'log'.* got 'l0'"),
    (None, "measure must be one of"),
    (torch.sum, r"must return shape \(2,\) for 'units' .* got \(\)"),
    (lambda a: a.abs(), r"must return shape \(2,\).* got \(2, 3\)"),
    (lambda a: 1.0, r"must return shape \(2,\).* got 1.0"),
    (sparsity.active_units, "must be differentiable.*'units'"),
    (lambda a: a.detach().sum(-1), "must be differentiable"),
]


@pytest.mark.parametrize(("measure", "words"), BAD_MEASURES)
def test_bad_measures(measure: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        activity_penalty(UNITS, 1.0, measure)  # type: ignore[arg-type]


def test_one_unit_has_no_hoyer() -> None:
    with pytest.raises(ValueError, match="at least two units"):
        activity_penalty({"x": torch.ones(2, 1)}, 1.0, "negative-hoyer")


BAD_ACTIVATIONS: list[tuple[object, type[Exception], str]] = [
    ({}, ValueError, "no layer at all"),
    (torch.ones(2, 3), TypeError, "activations must be a mapping, got Tensor"),
    ({"x": [1.0]}, TypeError, r"activations\['x'\] must be a floating-point"),
    ({"x": torch.ones(2, 3).long()}, TypeError, "got torch.int64"),
    ({"x": torch.ones(3)}, ValueError, r"\(batch, units, ...\).* got \(3,\)"),
    ({"x": torch.ones(0, 3)}, ValueError, r"at least 1, got \(0, 3\)"),
    ({"x": torch.ones(2, 0)}, ValueError, r"at least 1, got \(2, 0\)"),
    (
        {"x": torch.ones(2, 3), "y": torch.ones(4, 3)},
        ValueError,
        "one batch, got {'x': 2, 'y': 4}",
    ),
]


@pytest.mark.parametrize(("activations", "error", "words"), BAD_ACTIVATIONS)
def test_bad_activations(
    activations: object, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        activity_penalty(activations, 1.0)  # type: ignore[arg-type]


def test_records_of_layers_that_did_not_run() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    with (
        record(model, ["0", "1"]) as heard,
        pytest.raises(ValueError, match="nothing from '0', '1'"),
    ):
        activity_penalty(heard, 1.0)
    with record(model, ["0", "1"]) as heard:
        model[0](torch.ones(2, 3))
    with pytest.raises(ValueError, match="nothing from '1'"):
        activity_penalty(heard, 1.0)
    assert activity_penalty(dict(heard), 0.0).item() == 0  # on purpose
