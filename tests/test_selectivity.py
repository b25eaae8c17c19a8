"""Selectivity: properties that hold for any answers and labels."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sparse_book.measures.selectivity import (
    class_means,
    class_selectivity,
    layer_weighted_mean,
    layer_weights,
)

SEEDS = st.integers(0, 2**31)


def sample(seed: int, samples: int, units: int, classes: int):
    """Return answers, some units of them dead, and labels of all classes."""
    generator = torch.Generator().manual_seed(seed)
    answers = torch.randn(samples, units, generator=generator).double().relu()
    answers = answers * (torch.rand(units, generator=generator) > 0.2)
    labels = torch.cat([torch.arange(classes), torch.arange(samples)])
    labels = labels[:samples] % classes
    return answers, labels[torch.randperm(samples, generator=generator)]


@given(SEEDS, st.integers(2, 6), st.integers(1, 5), st.integers(0, 30))
def test_bounds_and_invariances(
    seed: int, classes: int, units: int, more: int
) -> None:
    answers, labels = sample(seed, classes + more, units, classes)
    means = class_means(answers, labels, classes)
    s = class_selectivity(means)
    assert means.shape == (units, classes) and s.shape == (units,)
    assert bool(((s >= 0) & (s <= 1)).all())
    assert bool((s[(answers == 0).all(0)] == 0).all())
    order = torch.randperm(len(labels))
    again = class_means(answers[order], labels[order], classes)
    torch.testing.assert_close(again, means)
    names = torch.randperm(classes)
    renamed = class_means(answers, names[labels], classes)
    torch.testing.assert_close(renamed[:, names], means)
    torch.testing.assert_close(class_selectivity(renamed), s)
    louder = class_selectivity(1e3 * means, 0.0)
    torch.testing.assert_close(louder, class_selectivity(means, 0.0))
    assert bool((class_selectivity(means, 1e-2) <= s).all())


@given(
    SEEDS, st.integers(2, 8), st.sampled_from([torch.float32, torch.float64])
)
def test_exact_ends(seed: int, classes: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(seed)
    value = torch.rand(6, 1, generator=generator).to(dtype) * 1e3
    favourite = torch.randint(classes, (6,), generator=generator)
    own = torch.nn.functional.one_hot(favourite, classes)
    assert bool((class_selectivity(value * own, 0.0) == 1).all())
    equal = value.expand(6, classes)
    assert bool((class_selectivity(equal, 0.0) == 0).all())
    nearly = equal + equal * own * torch.finfo(dtype).eps
    assert bool((class_selectivity(nearly, 0.0) >= 0).all())


def test_empty_class_and_empty_batch_are_refused_by_name() -> None:
    answers, labels = torch.rand(4, 3), torch.tensor([0, 2, 2, 0])
    with pytest.raises(ValueError, match=r"none of \[1\]"):
        class_means(answers, labels, 3)
    with pytest.raises(ValueError, match=r"none of \[0, 1\]"):
        class_means(answers[:0], labels[:0], 2)
    with pytest.raises(ValueError, match="and others"):
        class_means(answers, labels, 1000)
    with pytest.raises(ValueError, match="got -1…2"):
        class_means(answers, labels - (labels == 0).int(), 3)
    with pytest.raises(TypeError, match=r"got torch\.bool"):
        class_means(answers, labels.bool(), 2)
    with pytest.raises(TypeError, match="got list"):
        class_means(answers, [0, 1, 0, 1], 2)  # type: ignore[arg-type]


def test_single_precision_agrees_with_double_over_many_samples() -> None:
    generator = torch.Generator().manual_seed(0)
    answers = 0.1 + torch.rand(200_000, 2, generator=generator) / 1000
    labels = torch.arange(200_000) % 2
    single = class_means(answers, labels, 2).double()
    double = class_means(answers.double(), labels, 2)
    torch.testing.assert_close(single, double, atol=1e-8, rtol=0)


def test_dead_units_have_a_gradient() -> None:
    means = torch.zeros(3, 4, dtype=torch.float64)
    means[0] = torch.tensor([1.0, 2.0, 3.0, 4.0])
    means.requires_grad_()
    gradient: Tensor
    (gradient,) = torch.autograd.grad(class_selectivity(means).sum(), means)
    assert bool(gradient.isfinite().all()) and bool((gradient[1:] == 0).all())


@given(SEEDS, st.integers(1, 6))
def test_weights_are_shares(seed: int, layers: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    activity = torch.rand(3, layers, generator=generator).double() + 1e-3
    values = torch.rand(3, layers, generator=generator).double()
    weights = layer_weights(activity)
    torch.testing.assert_close(weights.sum(-1), torch.ones(3).double())
    torch.testing.assert_close(layer_weights(7 * activity), weights)
    mean = layer_weighted_mean(values, activity)
    assert bool((mean >= values.amin(-1) - 1e-12).all())
    assert bool((mean <= values.amax(-1) + 1e-12).all())


def test_weights_refuse_silence() -> None:
    activity = torch.tensor([[1.0, 2.0], [0.0, 0.0]])
    with pytest.raises(ValueError, match="all layers"):
        layer_weights(activity)
    with pytest.raises(ValueError, match="at least 1"):
        layer_weights(torch.zeros(3, 0))
