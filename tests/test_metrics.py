"""Metrics equal their functions over any cut into batches."""

from __future__ import annotations

import inspect
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sparse_book.measures import description_length, metrics, sparsity
from sparse_book.measures.metrics import (
    ClassMeans,
    ClassSelectivity,
    LifetimeSparseness,
    MeanMeasure,
)
from sparse_book.measures.selectivity import class_means, class_selectivity

UNITS, CLASSES = 5, 3
COUNT = {"weights": 7, "size": 30, "dimensions": 1}
# Every metric that is a mean: its options, and what its function is.
MEANS: dict[str, tuple[dict, Callable[..., Tensor]]] = {
    "ActiveUnits": ({"threshold": 0.1}, sparsity.active_units),
    "ActivityRatio": ({"threshold": 0.1}, sparsity.activity_ratio),
    "L1Norm": ({}, sparsity.l1_norm),
    "LpNorm": ({"p": 0.5}, sparsity.lp_norm),
    "LogPenalty": ({}, sparsity.log_penalty),
    "ExponentialPenalty": ({}, sparsity.exponential_penalty),
    "Hoyer": ({}, sparsity.hoyer),
    "TrevesRollsActivity": ({}, sparsity.treves_rolls_activity),
    "VinjeGallant": ({}, sparsity.vinje_gallant),
    "PopulationSparseness": ({}, sparsity.population_sparseness),
    "Gini": ({}, sparsity.gini),
    "GiniShifted": ({"offset": 1e-3}, sparsity.gini_shifted),
    "Kurtosis": ({}, sparsity.kurtosis),
    "DescriptionActivations": (
        {"dimensions": 1},
        description_length.description_activations,
    ),
    "InverseCompressionRatio": (
        COUNT,
        description_length.inverse_compression_ratio,
    ),
    "CompressionRatio": (COUNT, description_length.compression_ratio),
    "NormalizedLoss": ({"dimensions": 1}, description_length.normalized_loss),
    "Phi": ({"version": 2}, description_length.phi),
}
NOT_STREAMED = {  # functions without a value per sample, unit or class
    "description_weights",
    "layer_weights",
    "layer_weighted_mean",
}


def draws(
    name: str, seed: int, samples: int, dtype: torch.dtype
) -> list[Tensor]:
    """Return what the metric of this name is told, sample by sample."""
    generator = torch.Generator().manual_seed(seed)
    one, two = torch.randn(2, samples, UNITS, generator=generator).to(dtype)
    if name == "DescriptionActivations":
        return [one[:, None].expand(-1, 2, -1).relu()]
    if name in {"InverseCompressionRatio", "CompressionRatio"}:
        return [one.relu().count_nonzero(-1).to(dtype)]
    if name == "NormalizedLoss":
        return [one, two]
    if name == "Phi":
        return [one[:, 0].abs(), two[:, 0].abs()]
    return [one.relu() if seed % 2 else one]


@st.composite
def cuts(draw: st.DrawFn, least: int = 1) -> list[int]:
    """Return the sizes of batches, single samples included."""
    sizes = draw(st.lists(st.integers(1, 6), min_size=least, max_size=8))
    return sizes


def test_every_measure_has_its_metric() -> None:
    """A public function of a measure, and a class of its name in CapWords."""
    classes = {
        name.lower()
        for name, _ in inspect.getmembers(metrics, inspect.isclass)
    }
    from sparse_book.measures import selectivity

    for module in (sparsity, description_length, selectivity):
        for name in module.__all__:
            if name not in NOT_STREAMED:
                assert name.replace("_", "") in classes, name
    assert set(MEANS) == {
        name
        for name in metrics.__all__
        if issubclass(getattr(metrics, name), MeanMeasure)
        and name != "MeanMeasure"
    }


def test_functions_do_not_need_torchmetrics() -> None:
    folder = Path(metrics.__file__).parent
    for path in folder.glob("*.py"):
        if path.name != "metrics.py":
            assert "torchmetrics" not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", MEANS)
@given(
    seed=st.integers(0, 2**31),
    sizes=cuts(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_mean_over_any_cut(
    name: str, seed: int, sizes: list[int], dtype: torch.dtype
) -> None:
    options, function = MEANS[name]
    inputs = draws(name, seed, sum(sizes), dtype)
    expected = function(*inputs, **options).double().mean()
    metric = getattr(metrics, name)(**options)
    halves = (
        getattr(metrics, name)(**options),
        getattr(metrics, name)(**options),
    )
    for k, batch in enumerate(
        zip(*(x.split(sizes) for x in inputs), strict=True)
    ):
        own = metric(*batch)  # forward: the batch's own mean
        torch.testing.assert_close(
            own, function(*batch, **options).double().mean()
        )
        halves[k % 2].update(*batch)
    assert metric.compute().dtype == torch.float64
    tight = {"rtol": 1e-6, "atol": 1e-6}  # float32 measures may sum otherwise
    torch.testing.assert_close(metric.compute(), expected, **tight)
    if len(sizes) > 1:
        halves[0].merge_state(halves[1])
        torch.testing.assert_close(halves[0].compute(), metric.compute())
    metric.reset()
    metric.update(*inputs)
    torch.testing.assert_close(metric.compute(), expected)


@given(
    seed=st.integers(0, 2**31),
    sizes=cuts(least=3),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_columns_over_any_cut(
    seed: int, sizes: list[int], dtype: torch.dtype
) -> None:
    samples = sum(sizes)
    (answers,) = draws("Hoyer", seed | 1, samples, dtype)
    answers[:, 0] = 0  # a dead unit
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(samples) % CLASSES
    labels = labels[torch.randperm(samples, generator=generator)]
    wide = answers.double()
    means = class_means(wide, labels, CLASSES)
    truths = [
        means,
        class_selectivity(means),
        sparsity.lifetime_sparseness(wide),
    ]
    makers: list[Callable[[], metrics.Metric]] = [
        lambda: ClassMeans(UNITS, CLASSES),
        lambda: ClassSelectivity(UNITS, CLASSES),
        lambda: LifetimeSparseness(UNITS),
    ]
    for make, truth in zip(makers, truths, strict=True):
        whole, *parts = make(), make(), make()
        for k, some in enumerate(torch.arange(samples).split(sizes)):
            batch = (answers[some], labels[some])
            batch = batch[: 1 if isinstance(whole, LifetimeSparseness) else 2]
            whole.update(*batch)
            parts[k % 2].update(*batch)
        torch.testing.assert_close(whole.compute(), truth)
        parts[0].merge_state(parts[1])
        torch.testing.assert_close(parts[0].compute(), truth)
        again = pickle.loads(pickle.dumps(whole))
        torch.testing.assert_close(again.compute(), truth)


@pytest.mark.parametrize("name", MEANS)
def test_pickle_clone_and_float(name: str) -> None:
    options, _ = MEANS[name]
    metric = getattr(metrics, name)(**options)
    first, second = (draws(name, seed, 4, torch.float64) for seed in (1, 2))
    metric.update(*first)
    copies = [pickle.loads(pickle.dumps(metric)), metric.clone()]
    metric.persistent(True)
    loaded = getattr(metrics, name)(**options)
    loaded.persistent(True)
    loaded.load_state_dict(metric.state_dict())
    loaded._update_count = 1
    metric.float()  # sums stay double, as torchmetrics intends
    metric.update(*second)
    for copy in [*copies, loaded]:
        copy.update(*second)
        torch.testing.assert_close(copy.compute(), metric.compute())
    assert metric.compute().dtype == torch.float64


def test_sums_do_not_drift() -> None:
    metric = MeanMeasure(sparsity.l1_norm)
    value = torch.tensor([[0.1]])
    metric.update(value)
    total = next(iter(metric.metric_state.values()))
    assert total.dtype == torch.float64
    metric.update(value.expand(1_000_000, 1))
    assert metric.compute().item() == pytest.approx(float(value), rel=1e-12)


def test_collections_keep_look_alikes_apart() -> None:
    from torchmetrics import MetricCollection

    collection = MetricCollection(
        {
            "low": metrics.ActivityRatio(0.0),
            "high": metrics.ActivityRatio(0.5),
            "units": metrics.ActiveUnits(0.0),
            "norm": metrics.L1Norm(),
        }
    )
    ones = torch.tensor([[1.0, 0.0, 1.0, 0.0]])
    collection.update(ones)  # all of one kind agree here
    collection.update(ones * 0.25)
    found = {
        name: float(value) for name, value in collection.compute().items()
    }
    assert found == {"low": 0.5, "high": 0.25, "units": 2.0, "norm": 1.25}


def test_refused_batches_change_nothing() -> None:
    metric = metrics.Hoyer()
    metric.update(torch.eye(3))
    before = {key: value.clone() for key, value in metric.metric_state.items()}
    for call in (metric, metric.update):
        with pytest.raises(ValueError, match="finite"):
            call(torch.tensor([[1.0, torch.nan]]))
    assert before == metric.metric_state


def test_no_value_without_samples_or_of_one_batch() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchmetrics warns as well
        with pytest.raises(ValueError, match="needs a sample"):
            metrics.Gini().compute()
        with pytest.raises(ValueError, match=r"none of \[0, 1, 2\]"):
            ClassSelectivity(UNITS, CLASSES).compute()
        single = LifetimeSparseness(UNITS)
        single.update(torch.ones(1, UNITS))
        with pytest.raises(ValueError, match="two stimuli, got 1"):
            single.compute()
    with pytest.raises(NotImplementedError, match="call update"):
        ClassSelectivity(UNITS, CLASSES)(torch.ones(3, UNITS), torch.arange(3))
    with pytest.raises(ValueError, match="at least 2"):
        ClassSelectivity(UNITS, 1)
    with pytest.raises(ValueError, match="at least 0"):
        metrics.ActiveUnits(-1.0)


def _process(rank: int, folder: str) -> None:
    """One of two processes: its share of the data, and the common value."""
    import torch.distributed as dist

    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2
    )
    generator = torch.Generator().manual_seed(0)
    answers = torch.rand(11, UNITS, generator=generator)
    labels = torch.arange(11) % CLASSES
    share = slice(0, 2) if rank == 0 else slice(2, None)
    selectivity, hoyer = ClassSelectivity(UNITS, CLASSES), metrics.Hoyer()
    selectivity.update(answers[share], labels[share])  # rank 0 lacks a class
    hoyer.update(answers[share])
    torch.save([selectivity.compute(), hoyer.compute()], f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(_process, (str(tmp_path),), nprocs=2)
    generator = torch.Generator().manual_seed(0)
    answers = torch.rand(11, UNITS, generator=generator).double()
    labels = torch.arange(11) % CLASSES
    truth = class_selectivity(class_means(answers, labels, CLASSES))
    for rank in range(2):
        s, h = torch.load(tmp_path / f"{rank}.pt")
        torch.testing.assert_close(s, truth)
        torch.testing.assert_close(
            h, sparsity.hoyer(answers).mean(), atol=1e-6, rtol=0
        )
