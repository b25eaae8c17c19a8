"""First layers that skip zeros: the same numbers as layers that do not."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numba
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks_for_tests import normal
from torch import Tensor

from sparse_book.data.store import MissingDataError
from sparse_book.networks.convolutional import Convolutional
from sparse_book.networks.fully_connected import FullyConnected
from sparse_book.training import sparse_inputs
from sparse_book.training.ensemble import (
    Ensemble,
    _functional_gradients,
    _Problem,
    _stacked_gradients,
    train_ensemble,
)
from sparse_book.training.study import load_study_data

WIDTHS = [1, 3, 4, 16, 17, 63, 64, 65, 85, 128, 130]


def sparse(*shape: int, share: float, seed: int = 2) -> Tensor:
    draws = torch.Generator().manual_seed(seed)
    return normal(*shape) * (torch.rand(shape, generator=draws) < share)


@settings(max_examples=80, deadline=None)
@given(
    groups=st.integers(1, 3),
    each=st.integers(1, 3),
    rows=st.integers(1, 9),
    places=st.integers(1, 140),
    columns=st.sampled_from(WIDTHS),
    share=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    double=st.booleans(),
    turned=st.booleans(),
    threads=st.integers(1, 3),
)
def test_a_product_equals_torch(
    groups, each, rows, places, columns, share, double, turned, threads
) -> None:
    dtype = torch.float64 if double else torch.float32
    left = sparse(groups, rows, places, share=share).to(dtype)
    if turned:
        left = left.mT.contiguous().mT
    tables = normal(groups * each, places, columns, seed=3).to(dtype)
    found = torch.full((groups * each, rows, columns), torch.nan, dtype=dtype)
    usual = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        sparse_inputs._sparse_product(left, tables, found)
    finally:
        torch.set_num_threads(usual)
    expected = left.repeat_interleave(each, 0) @ tables
    near = {} if double else {"rtol": 1e-4, "atol": 1e-4}
    torch.testing.assert_close(found, expected, **near)


@cache
def in_registers(width: int) -> Callable[..., None]:
    """Return a compiled loop that calls `_stripe` with one width."""
    sparse_inputs._in_registers()
    stripe = sparse_inputs._stripe

    @numba.njit
    def call(ends, index, value, table, source, out, goal):
        stripe(ends, index, value, table, source, out, goal, width)

    return call


@settings(max_examples=30, deadline=None)
@given(
    width=st.sampled_from([1, 4, 16, 64]),
    source=st.integers(0, 3),
    goal=st.integers(0, 3),
    share=st.sampled_from([0.0, 0.3, 1.0]),
)
def test_machine_code_equals_the_definition(
    width: int, source: int, goal: int, share: float
) -> None:
    """`_stripe` in Python, and what stands for it in compiled loops."""
    left = sparse(5, 7, share=share).numpy()
    ends, index = np.zeros(6, np.int64), np.empty(36, np.uint32)
    value = np.empty(36)
    sparse_inputs._list(left, ends, index, value)
    table = normal(7, width + 3).numpy()
    plain, quick = np.full((2, 5, width + 3), 7.0)
    given = ends, index, value, table, source
    sparse_inputs._stripe(*given, plain, goal, width)
    in_registers(width)(*given, quick, goal)
    np.testing.assert_allclose(quick, plain, rtol=1e-12, atol=1e-13)
    untouched = np.ones(width + 3, bool)
    untouched[goal : goal + width] = False
    assert (quick[:, untouched] == 7).all()


def test_lost_numbers_stay_lost() -> None:
    left, tables = torch.zeros(1, 3, 4), torch.ones(1, 4, 5)
    left[0, 1, 2], left[0, 2, 0] = torch.nan, torch.inf
    out = torch.zeros(1, 3, 5)
    sparse_inputs._sparse_product(left, tables, out)
    assert (out[0, 0] == 0).all() and out[0, 1].isnan().all()
    assert (out[0, 2] == torch.inf).all()
    left[:] = 0
    left[0, 0, 1] = 1
    tables[0, 2:] = torch.nan  # nobody asks for these
    sparse_inputs._sparse_product(left, tables, out)
    assert (out[0] == torch.tensor([1.0, 0, 0])[:, None]).all()


SHAPES = [(12, 5), (12, 20, 5), (12, 17, 6, 5), (12, 70, 4, 3, 5)]


@pytest.mark.parametrize("sizes", SHAPES)
@pytest.mark.parametrize("kind", ["relu", "sigmoid", "tanh", "identity"])
@pytest.mark.parametrize("loss", ["cross-entropy", "squared-error"])
def test_gradients_equal_autograd(
    sizes: tuple[int, ...], kind: str, loss: str
) -> None:
    crowd = Ensemble(
        lambda: FullyConnected(sizes, kind, negative_biases=True).double(),
        [0, 1, 2, 3],
    )
    x = sparse(2, 9, 12, share=0.4)
    labels = torch.arange(18).view(2, 9) % 5
    t = labels if loss == "cross-entropy" else normal(2, 9, 5)
    problem = _Problem(crowd.template, crowd.layers, loss, False)
    prices = torch.tensor([0.0, 0.01, 0.1, 2.0]).double()
    theirs, same = _functional_gradients(problem)(
        crowd.parameters, prices, x, t
    )
    with sparse_inputs._turned(crowd, True):
        way = _stacked_gradients(problem, sparse_inputs._SKIPPING)
        for _ in range(2):  # what was written before must not matter
            ours, tally = way(crowd.parameters, prices, x, t)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-13)
    torch.testing.assert_close(
        tally, same, rtol=1e-10, atol=1e-13, equal_nan=True
    )


def dense_and_sparse(**options: object) -> tuple[list[Ensemble], list[object]]:
    """Networks trained with and without zeros, and what they told."""
    groups, told = [], []
    for method in ("stacked", "sparse"):
        group = Ensemble(
            lambda: FullyConnected((12, 20, 5)).double(), [0, 1, 1]
        )
        x, t = sparse(40, 12, share=0.3), torch.arange(40) % 5
        rows = train_ensemble(
            group,
            x,
            t,
            coefficient=[0.0, 0.01, 0.02],
            epochs=3,
            batch_size=7,
            method=method,
            **options,
        )
        groups.append(group)
        told.append(rows)
    return groups, told


def test_training_and_what_is_told() -> None:
    seen: list[list[Tensor]] = []

    def see(layers: list[Tensor], targets: Tensor) -> None:
        seen.append([layer.clone() for layer in layers])

    (dense, skipping), (rows, others) = dense_and_sparse(see=see)
    torch.testing.assert_close(
        skipping.parameters, dense.parameters, rtol=1e-9, atol=1e-12
    )
    for row, other in zip(rows, others, strict=True):
        torch.testing.assert_close(row[1:], other[1:], rtol=1e-9, atol=1e-12)
    half = len(seen) // 2
    assert half == 18
    for first, second in zip(seen[:half], seen[half:], strict=True):
        assert second[0].shape == first[0].shape
        torch.testing.assert_close(first, second, rtol=1e-9, atol=1e-12)


def test_networks_can_be_used_while_they_are_trained() -> None:
    group = Ensemble(lambda: FullyConnected((12, 20, 5)).double(), [0, 1])
    weight = group.parameters["hidden.0.0.weight"]
    view = weight[0]
    x, t = sparse(20, 12, share=0.3), torch.arange(20) % 5
    answers = []

    def look(row: object) -> None:
        assert not weight.is_contiguous()
        outputs, _ = group.forward(x)
        alone = group.network(1)(x)
        torch.testing.assert_close(outputs[1], alone.detach())
        answers.append(outputs)

    train_ensemble(group, x, t, epochs=2, method="sparse", after_epoch=look)
    assert weight.is_contiguous()
    assert weight is group.parameters["hidden.0.0.weight"]
    assert torch.equal(view, weight[0])  # as it was before, as it is now
    torch.testing.assert_close(group.forward(x)[0], answers[1])


def test_an_error_leaves_networks_in_order() -> None:
    group = Ensemble(lambda: FullyConnected((12, 20, 5)).double(), [0, 1])
    weight = group.parameters["hidden.0.0.weight"]
    begin = weight.clone()

    def stop(step: int, tally: object) -> None:
        if step == 1:
            raise KeyboardInterrupt

    x, t = sparse(20, 12, share=0.3), torch.arange(20) % 5
    with pytest.raises(KeyboardInterrupt):
        train_ensemble(group, x, t, batch_size=5, method="sparse", watch=stop)
    assert weight.is_contiguous() and not torch.equal(weight, begin)


@pytest.mark.parametrize(
    ("sizes", "share", "kind", "pays"),
    [
        ((50, 32, 10), 0.2, torch.float32, True),
        ((50, 32, 10), 0.2, torch.float64, True),
        ((50, 32, 10), 0.2, torch.bfloat16, False),
        ((50, 32, 10), 0.4, torch.float32, False),
        ((50, 8, 10), 0.2, torch.float32, False),
        ((50, 32, 64, 10), 0.2, torch.float32, False),
        ((784, 784, 10), 0.2, torch.float32, True),
    ],
)
def test_where_it_pays(
    sizes: tuple[int, ...], share: float, kind: torch.dtype, pays: bool
) -> None:
    network = FullyConnected(sizes).to(kind)
    problem = _Problem(network, network.hidden_names, "cross-entropy", False)
    x = torch.zeros(10, sizes[0]).to(kind)
    x[:, : int(share * sizes[0])] = 1
    assert sparse_inputs._pays(problem, x) == pays


@pytest.mark.parametrize(
    ("name", "pays"), [("mnist", True), ("fashion-mnist", False)]
)
def test_digits_are_dark_enough_and_clothes_are_not(
    name: str, pays: bool
) -> None:
    try:
        x = load_study_data(name).train[0].flatten(1)
    except MissingDataError:
        pytest.skip(f"{name} is not at hand")
    network = FullyConnected((784, 64, 10))
    problem = _Problem(network, network.hidden_names, "cross-entropy", False)
    assert sparse_inputs._pays(problem, x) == pays


@pytest.mark.parametrize(("share", "calls"), [(0.1, 8), (0.9, 0)])
def test_auto_looks_at_the_inputs(
    monkeypatch: pytest.MonkeyPatch, share: float, calls: int
) -> None:
    seen: list[int] = []
    product: Callable[..., None] = sparse_inputs._sparse_product

    def counted(*given: Tensor) -> None:
        seen.append(1)
        product(*given)

    monkeypatch.setattr(sparse_inputs, "_sparse_product", counted)
    group = Ensemble(lambda: FullyConnected((50, 32, 5)).double(), [0])
    x, t = sparse(20, 50, share=share), torch.arange(20) % 5
    train_ensemble(group, x, t, epochs=2, batch_size=10)
    assert len(seen) == calls


def test_bad_input() -> None:
    x, t = torch.rand(20, 12), torch.arange(20) % 5
    half = Ensemble(lambda: FullyConnected((12, 20, 5)).bfloat16(), [0])
    with pytest.raises(
        ValueError, match=r"float64, got torch.bfloat16 on cpu"
    ):
        train_ensemble(half, x.bfloat16(), t, method="sparse")
    network = FullyConnected((12, 20, 5)).to("meta")
    problem = _Problem(network, network.hidden_names, "cross-entropy", False)
    with pytest.raises(ValueError, match=r"on the processor.*on meta"):
        sparse_inputs._check_place(problem)
    kernels = Ensemble(lambda: Convolutional((1, 8, 8), (2,), 3), [0])
    with pytest.raises(ValueError, match="method 'sparse' needs Fully"):
        train_ensemble(kernels, torch.rand(20, 1, 8, 8), t, method="sparse")
