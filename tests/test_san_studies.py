"""Studies of sparsely activated networks: rows, choices, claims."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparse_book.san.network import measure_networks, train_networks
from sparse_book.studies import reconstructions, signals_swept, sparse_signals
from sparse_book.training.results import (
    MissingResultsError,
    StudyResults,
    export_results,
    import_results,
    read_results,
    results_folder,
)
from sparse_book.training.run import run_study
from sparse_book.training.store import Store
from sparse_book.training.study import Scale, Study


def little(**changes: Any) -> Study:
    """A sweep of a few networks on simulated signals."""
    settings: dict[str, Any] = {
        "shape": {"activation": ("extrema", "relu"), "kernel_size": (3, 9)},
        "scales": {"quick": Scale("simulated", seeds=1, epochs=2)},
        "thin": None,
    }
    return replace(sparse_signals.SWEEP_V2, **settings | changes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Results of that sweep, exported."""
    place = tmp_path_factory.mktemp("sweep")
    with Store(place / "store.sqlite") as store:
        run_study(little(), "quick", store, workers=1, progress=False)
        export_results(little(), store, place)
    yield place


def test_rows_equal_networks_trained_alone(folder: Path) -> None:
    found = read_results("san-signals-v2", folder)
    assert len(found.rows) == 4 * 9
    data = sparse_signals.load_signal_slices("simulated")
    for name, side, base in product(("extrema", "relu"), (3, 9), ("mitdb",)):
        slices = data.slices[base]
        alone = train_networks(
            slices.train[None],
            slices.validation[None],
            [0],
            kernel_size=side,
            activation=name,
            border_tolerance=3,
            epochs=2,
            batch=2,
        )
        seen = measure_networks(
            alone.kernels,
            slices.test[None],
            activation=name,
            border_tolerance=3,
        )
        (row,) = found.select(activation=name, kernel_size=side, database=base)
        assert row["phi"] == pytest.approx(float(seen.mean_phi()), rel=1e-3)
        assert row["epoch"] == float(alone.epoch)


def test_only_chosen_courses_are_exported(folder: Path) -> None:
    found = read_results("san-signals-v2", folder)
    chosen = signals_swept.chosen_sizes(found.rows)
    assert len(chosen) == 2 * 9
    kept = {
        (row["activation"], row["database"], row["kernel_size"])
        for row in found.vectors
    }
    assert kept == {
        (row["activation"], row["database"], row["kernel_size"])
        for row in chosen
    }
    for row in found.vectors:
        assert len(row["values"]) == row["kernel_size"]


def test_results_go_back_into_a_store(folder: Path, tmp_path: Path) -> None:
    with Store(tmp_path / "store.sqlite") as store:
        assert import_results(little(), store, folder) == 36
        report = run_study(little(), "quick", store, workers=1, progress=False)
    assert (report.trained, report.found) == (0, 36)


def test_workers_give_the_same_rows(folder: Path, tmp_path: Path) -> None:
    with Store(tmp_path / "store.sqlite") as store:
        run_study(little(), "quick", store, workers=2, progress=False)
        export_results(little(), store, tmp_path)
    same = read_results("san-signals-v2", tmp_path)
    drop = {"ensemble"}
    first, second = (
        [{k: v for k, v in row.items() if k not in drop} for row in rows.rows]
        for rows in (read_results("san-signals-v2", folder), same)
    )
    assert first == second


def test_unknown_data_name_the_valid_ones() -> None:
    with pytest.raises(ValueError, match="'simulated', 'physionet'"):
        sparse_signals.load_signal_slices("mnist")
    with pytest.raises(ValueError, match="split"):
        reconstructions.load_images("photographs")


@given(st.integers(0, 10**6), st.integers(5, 60), st.booleans())
def test_a_hidden_piece_is_found(seed: int, size: int, turned: bool) -> None:
    rng = np.random.default_rng(seed)
    pattern = rng.normal(size=100)
    start = int(rng.integers(0, 100 - size + 1))
    piece = pattern[start : start + size][:: -1 if turned else 1]
    match = signals_swept.match_pattern(
        rng.uniform(0.1, 9) * piece + rng.normal(), pattern
    )
    assert match.r == pytest.approx(1, abs=1e-9)
    assert match.shift == start
    np.testing.assert_allclose(
        match.fitted, pattern[start : start + size], atol=1e-8
    )


def test_match_equals_brute_force() -> None:
    rng = np.random.default_rng(3)
    kernel, pattern = rng.normal(size=7), rng.normal(size=30)
    best = max(
        abs(np.corrcoef(stamp, pattern[k : k + 7])[0, 1])
        for stamp in (kernel, kernel[::-1])
        for k in range(24)
    )
    found = signals_swept.match_pattern(kernel, pattern)
    assert found.r == pytest.approx(best, abs=1e-12)
    for bad in (np.ones(1), np.ones(31)):
        with pytest.raises(ValueError, match="2 to 30"):
            signals_swept.match_pattern(bad, pattern)


def sweep_rows(phi_of: Any, **more: float) -> list[dict[str, Any]]:
    """Rows of a made-up sweep over three recordings."""
    return [
        {
            "activation": name,
            "kernel_size": size,
            "database": base,
            "seed": 0,
            "phi": phi_of(name, size),
            "validation_phi": phi_of(name, size),
            "cost": {"identity": 2.0, "relu": 0.8}.get(name, 0.1),
            "loss": {"identity": 0.1}.get(name, 0.5),
        }
        | more
        for name in sparse_signals.ACTIVATIONS_V2
        for size in (1, 5, 9)
        for base in ("a", "b", "c")
    ]


def results_of(rows: list[dict[str, Any]], name: str) -> StudyResults:
    return StudyResults(name, rows, [], [], {"data": "made up"}, "paper")


def test_claims_of_the_sweep_can_fail() -> None:
    valley = sweep_rows(lambda name, size: abs(size - 5) / 5 + 0.2)
    rising = sweep_rows(lambda name, size: size / 5)
    name = "san-signals-v2"
    assert (
        signals_swept.MINIMUM_V2.check(results_of(valley, name)).outcome
        == "reproduced"
    )
    assert (
        signals_swept.MINIMUM_V2.check(results_of(rising, name)).outcome
        == "not reproduced"
    )
    assert (
        signals_swept.CLUSTERS_V2.check(results_of(valley, name)).outcome
        == "reproduced"
    )
    heap = sweep_rows(lambda name, size: 1.0, cost=0.3, loss=0.3)
    assert (
        signals_swept.CLUSTERS_V2.check(results_of(heap, name)).outcome
        != "reproduced"
    )
    assert (
        signals_swept.SPARSER_COMPRESSES.check(results_of(heap, name)).outcome
        == "not reproduced"
    )


def made_up(study: Study, phi: float, points: float) -> StudyResults:
    """Rows that differ from a published table by so much."""
    rows = [
        {
            "activation": name,
            "kernel_size": size,
            "seed": 0,
            "cost": 0.37,
            "phi": said[0] + phi,
            "phi_v1": said[0] + phi,
            "raw_accuracy": 0.9,
            "accuracy": 0.9 + (said[1] + points) / 100,
        }
        for (name, size), said in reconstructions.published_cells(
            study
        ).items()
    ]
    return results_of(rows, study.name)


@pytest.mark.parametrize(
    "study", reconstructions.STUDIES, ids=lambda study: study.name
)
def test_tables_have_a_published_value_for_every_cell(study: Study) -> None:
    cells = reconstructions.published_cells(study)
    wanted = set(
        product(study.shape["activation"], study.shape["kernel_size"])
    )
    assert set(cells) == wanted


@pytest.mark.parametrize("place", range(5))
def test_claims_of_the_tables_can_fail(place: int) -> None:
    study = reconstructions.STUDIES[place]
    check = reconstructions.TABLES[place].check
    assert check(made_up(study, 0.05, 1)).outcome == "reproduced"
    assert check(made_up(study, 0.05, 9)).outcome == "in part"
    assert check(made_up(study, 0.5, 9)).outcome == "not reproduced"


def test_claims_about_accuracy_can_fail() -> None:
    uci, mnist, _, _, mnist_v1 = reconstructions.STUDIES
    exact = {s.name: made_up(s, 0, 0) for s in reconstructions.STUDIES}
    lower = {s.name: made_up(s, 0, -5) for s in reconstructions.STUDIES}
    for found, outcome in ((exact, "reproduced"), (lower, "not reproduced")):
        verdict = reconstructions.BEATS_RAW.check(
            found[mnist.name], found[mnist_v1.name]
        )
        assert verdict.outcome == outcome
    assert (
        reconstructions.SIGNALS_GAIN.check(exact[uci.name]).outcome
        == "reproduced"
    )
    assert (
        reconstructions.SIGNALS_GAIN.check(lower[uci.name]).outcome
        == "in part"
    )


def test_a_table_names_what_is_missing() -> None:
    study = reconstructions.STUDIES[1]
    found = made_up(study, 0, 0)
    fewer = replace(found, rows=found.rows[1:])
    assert "– (" in reconstructions.comparison_table(study, fewer)
    assert "– (" not in reconstructions.comparison_table(study, found)


def test_one_network_in_full(tmp_path: Path) -> None:
    study = replace(
        reconstructions.STUDIES[0],
        shape={"activation": ("extrema",), "kernel_size": (9,)},
        thin=(),
    )
    with Store(tmp_path / "store.sqlite") as store:
        run_study(study, "quick", store, workers=1, progress=False)
        (record,) = store.records()
    data = reconstructions.load_labelled_signals("simulated")
    parts = data.parts
    alone = train_networks(
        parts.train[0][None],
        parts.validation[0][None],
        [0],
        kernel_size=9,
        kernels=2,
        activation="extrema",
        epochs=2,
        batch=64,
    )
    seen = measure_networks(alone.kernels, parts.test[0][None])
    assert record.measures["loss"] == pytest.approx(
        float(seen.normalized_loss.mean()), rel=1e-4
    )
    kernels = torch.tensor(record.vectors["kernels"])
    torch.testing.assert_close(
        kernels, alone.kernels[0].flatten(), rtol=1e-3, atol=1e-6
    )


def test_verdicts_follow_from_stored_rows() -> None:
    folder = results_folder()
    for claim in (*signals_swept.CLAIMS, *reconstructions.CLAIMS):
        verdict = claim.verdict()
        try:
            found = [read_results(name) for name in claim.studies]
        except MissingResultsError:
            assert verdict.outcome == "not run"
            continue
        assert folder.is_dir()
        assert verdict == claim.check(*found)
        assert verdict.evidence
