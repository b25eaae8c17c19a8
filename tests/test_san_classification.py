"""Classification from reconstructions: frozen, seeded, compared with raw."""

import pytest
import torch
from torch import Tensor, nn

from sparse_book.san.classification import (
    Labelled,
    classify_reconstructions,
    reconstruct,
    san_classifier,
    train_classifier,
)
from sparse_book.san.kernel_sizes import SanCondition
from sparse_book.san.network import SparselyActivatedNetwork


def part(count: int, seed: int, *size: int) -> tuple[Tensor, Tensor]:
    """Two classes: noise with a bump in the first or the second half."""
    generator = torch.Generator().manual_seed(seed)
    x = 0.3 * torch.randn(count, 1, *size, generator=generator)
    t = torch.arange(count) % 2
    x[t == 0, ..., 2:5] += 2
    x[t == 1, ..., -5:-2] += 2
    return x, t


def labelled(*size: int) -> Labelled:
    return Labelled(*(part(n, n, *size) for n in (80, 20, 30)))


IMAGES, SIGNALS = labelled(9, 10), labelled(40)


def test_reconstruct_is_the_network() -> None:
    network = SparselyActivatedNetwork(4, 3, border_tolerance=1)
    x = SIGNALS.train[0]
    found = reconstruct(x, network.weight, border_tolerance=1, chunk=7)
    torch.testing.assert_close(found, network(x).detach())


def test_classifiers_have_the_published_layers() -> None:
    layers = [m for m in san_classifier((1, 178), 3) if [*m.parameters()]]
    shapes = [tuple(m.weight.shape) for m in layers]
    assert shapes == [
        (3, 1, 5),
        (16, 3, 5),
        (120, 656),
        (84, 120),
        (3, 84),
    ]
    (linear,) = (
        m for m in san_classifier((1, 28, 28), 10) if isinstance(m, nn.Linear)
    )
    assert (linear.in_features, linear.out_features) == (784, 10)
    for length in range(16, 30):
        assert san_classifier((1, length), 2)(torch.zeros(3, 1, length)).shape


@pytest.mark.parametrize("data", [IMAGES, SIGNALS])
def test_classifier_learns_and_repeats(data: Labelled) -> None:
    before = torch.random.get_rng_state()
    done = train_classifier(data, 2, seed=1, epochs=8, batch=16)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert done == train_classifier(data, 2, seed=1, epochs=8, batch=16)
    assert done.accuracy > 0.9
    assert len(done.validation) == 8
    assert done.validation[done.epoch - 1] == max(done.validation)
    assert max(done.validation[: done.epoch - 1], default=0) < max(
        done.validation
    )


def test_rows_hold_both_classifiers() -> None:
    data = {"bumps": IMAGES}
    conditions = [
        SanCondition("bumps", 3, name, kernels=2, epochs=6, batch=16)
        for name in ("identity", "extrema")
    ]
    rows = classify_reconstructions(conditions, data, 2)
    raw = train_classifier(IMAGES, 2, seed=0, epochs=6, batch=16)
    for condition, row in zip(conditions, rows, strict=True):
        assert row["activation"] == condition.activation
        assert row["raw_accuracy"] == raw.accuracy
        kernels = torch.tensor(row["kernels_values"]).view(2, 3, 3)
        parts = [
            (
                reconstruct(
                    x,
                    kernels,
                    activation=condition.activation,
                    border_tolerance=3,
                ),
                t,
            )
            for x, t in IMAGES
        ]
        seen = train_classifier(Labelled(*parts), 2, epochs=6, batch=16)
        assert row["accuracy"] == seen.accuracy
        assert row["last_accuracy"] == seen.last_accuracy
    last = classify_reconstructions(conditions, data, 2, kernels="last")
    assert [r["last_kernels_values"] for r in last] == [
        r["last_kernels_values"] for r in rows
    ]


def test_refusals() -> None:
    with pytest.raises(ValueError, match="classes must be at least 2"):
        train_classifier(SIGNALS, 1)
    wrong = SIGNALS._replace(test=(SIGNALS.test[0], SIGNALS.test[1][:-1]))
    with pytest.raises(ValueError, match="classes of test must be int64"):
        train_classifier(wrong, 2)
    other = SIGNALS._replace(test=IMAGES.test)
    with pytest.raises(ValueError, match="test must have shape"):
        train_classifier(other, 2)
    with pytest.raises(ValueError, match="epochs must be at least 1"):
        train_classifier(SIGNALS, 2, epochs=0)
    with pytest.raises(ValueError, match="length must be at least 16"):
        san_classifier((1, 15), 2)
    with pytest.raises(ValueError, match="shape must be"):
        san_classifier((28,), 2)
    with pytest.raises(ValueError, match="kernels must be one of"):
        classify_reconstructions([], {}, 2, kernels="best")
    with pytest.raises(ValueError, match="kernel_size must be in 1…40"):
        reconstruct(SIGNALS.test[0], torch.zeros(1, 41))
    with pytest.raises(ValueError, match="signals must be finite"):
        reconstruct(SIGNALS.test[0] / 0, torch.zeros(1, 4))
