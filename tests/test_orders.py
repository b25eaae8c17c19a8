"""Orders of the data: which image comes when."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sparse_book.networks.fully_connected import FullyConnected
from sparse_book.training.ensemble import (
    Ensemble,
    epoch_order,
    train_ensemble,
)
from sparse_book.training.orders import (
    make_order,
    run_order,
    sorted_order,
    two_task_order,
)


@st.composite
def some_labels(draw: st.DrawFn) -> Tensor:
    """Six classes, none of them empty, in any order."""
    counts = draw(st.lists(st.integers(3, 12), min_size=6, max_size=6))
    labels = [c for c, count in enumerate(counts) for _ in range(count)]
    return torch.tensor(draw(st.permutations(labels)))


@settings(deadline=None)
@given(some_labels(), st.integers(1, 3), st.sampled_from([1, 2, 3, 6]))
def test_runs_are_full_pure_and_without_repetition(
    labels: Tensor, length: int, classes: int
) -> None:
    seen = run_order(1, 2, labels, length, classes)
    assert len(seen) % length == 0
    assert len(seen.unique()) == len(seen)
    assert len(labels) - len(seen) <= (length - 1) * 6 // classes
    for run in labels[seen].view(-1, length):
        assert len(run.unique()) <= classes
    assert torch.equal(seen, run_order(1, 2, labels, length, classes))
    for seed in range(3, 8):  # networks of any seeds train together
        assert len(run_order(seed, 0, labels, length, classes)) == len(seen)


@settings(deadline=None)
@given(some_labels())
def test_sets_of_classes_do_not_mix(labels: Tensor) -> None:
    seen = labels[run_order(0, 0, labels, 2, 2)].view(-1, 2)
    partners: dict[int, set[int]] = {}
    for one, other in seen.tolist():
        partners.setdefault(one, set()).add(other)
        partners.setdefault(other, set()).add(one)
    for one, others in partners.items():
        assert len(others | {one}) <= 2


def test_one_class_a_run_keeps_all_that_fills_a_run() -> None:
    labels = torch.tensor([0] * 5 + [1] * 7 + [2] * 9)
    assert len(run_order(0, 0, labels, 3)) == 3 + 6 + 9
    assert len(run_order(0, 0, labels, 4, 3)) == 20


@settings(deadline=None)
@given(some_labels())
def test_sorted_is_a_stable_permutation(labels: Tensor) -> None:
    seen = sorted_order(0, 0, labels, 7)
    expected = sorted(range(len(labels)), key=lambda r: int(labels[r]))
    assert seen.tolist() == expected


def test_two_tasks_exactly() -> None:
    labels = torch.tensor([0, 3, 1, 2, 0, 3])
    for epoch, pool in [(0, [0, 2, 4]), (1, [0, 2, 4]), (2, [1, 3, 5])]:
        seen = two_task_order(5, epoch, labels, 2)
        order = epoch_order(5, epoch, 3)
        assert seen.tolist() == [pool[k] for k in order.tolist()]


def test_seeds_and_epochs_make_other_orders() -> None:
    labels = torch.arange(10).repeat(30)
    drawn = {
        tuple(run_order(seed, epoch, labels, 5).tolist())
        for seed in range(3)
        for epoch in range(3)
    }
    assert len(drawn) == 9


@pytest.mark.parametrize(
    "name", ["shuffled", "sorted", "runs-2", "classes-1", "classes-5"]
)
def test_a_network_sees_what_the_order_says(name: str) -> None:
    """Train with an order, and by hand on the same steps."""
    labels = torch.arange(10).repeat(6)
    x = torch.rand(60, 5, generator=torch.Generator().manual_seed(0)).double()
    many = Ensemble(
        lambda: FullyConnected((5, 4, 10), "sigmoid").double(), [3, 4]
    )
    alone = many.network(1)
    train_ensemble(
        many,
        x,
        labels,
        epochs=2,
        batch_size=5,
        optimizer="sgd",
        settings={"learning_rate": 0.1},
        order=make_order(name),
    )
    descent = torch.optim.SGD(alone.parameters(), 0.1)
    for epoch in range(2):
        for step in make_order(name)(4, epoch, labels, 5).split(5):
            descent.zero_grad()
            loss = torch.nn.functional.cross_entropy(
                alone(x[step]), labels[step]
            )
            loss.backward()
            descent.step()
    for key, value in alone.named_parameters():
        torch.testing.assert_close(many.parameters[key][1], value.detach())


def test_default_order_is_unchanged() -> None:
    """An order of its own name gives the default's numbers, bit for bit."""
    x, t = torch.rand(47, 5), torch.arange(47) % 10
    pair = [Ensemble(lambda: FullyConnected((5, 4, 10)), [0, 1]) for _ in "ab"]
    rows = [
        train_ensemble(many, x, t, epochs=2, batch_size=10, order=order)
        for many, order in zip(
            pair, (None, make_order("shuffled")), strict=True
        )
    ]
    for name, value in pair[0].parameters.items():
        assert torch.equal(value, pair[1].parameters[name])
    assert torch.equal(rows[0][1].loss, rows[1][1].loss)


def test_means_of_an_epoch_count_the_images_shown() -> None:
    """With an order that leaves images out, means are over the others."""
    labels = torch.arange(10).repeat(7)
    x = torch.rand(70, 5).double()
    many = Ensemble(lambda: FullyConnected((5, 4, 10)).double(), [0])
    (row,) = train_ensemble(
        many,
        x,
        labels,
        epochs=1,
        batch_size=5,
        optimizer="sgd",
        settings={"learning_rate": 0.0},
        order=make_order("classes-1"),
    )
    seen = make_order("classes-1")(0, 0, labels, 5)
    assert len(seen) == 50
    logits = many.network(0)(x[seen])
    expected = torch.nn.functional.cross_entropy(logits, labels[seen])
    torch.testing.assert_close(row.loss[0], expected.detach())


LABELS = torch.arange(10).repeat(3)


@pytest.mark.parametrize(
    ("work", "error", "words"),
    [
        (lambda: make_order("best"), ValueError, "order must be one of"),
        (lambda: make_order("runs-0"), ValueError, "order must be one of"),
        (lambda: make_order(3), TypeError, "order must be a string"),
        (lambda: run_order(0, 0, LABELS, 4), ValueError, "at most 3"),
        (lambda: run_order(0, 0, LABELS, 1, 4), ValueError, "must divide"),
        (lambda: run_order(0, 0, LABELS, 1, 12), ValueError, "1…10"),
        (lambda: run_order(0, 0, LABELS, 0), ValueError, "length"),
        (lambda: run_order(0, -1, LABELS, 1), ValueError, "epoch"),
        (lambda: run_order(0, 0, LABELS * 2, 1), ValueError, "none of [1"),
        (lambda: sorted_order(0, 0, -LABELS, 1), ValueError, "from 0"),
        (lambda: sorted_order(0, 0, [1], 1), TypeError, "torch.Tensor"),
        (
            lambda: two_task_order(0, 0, LABELS * 0, 1),
            ValueError,
            "classes must be at least 2",
        ),
    ],
)
def test_refusals(work, error, words) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(error) as caught:
        work()
    assert words in str(caught.value)
