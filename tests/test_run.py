"""Running studies: the same rows whatever interrupts, splits or repeats."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from studies_for_tests import (
    build,
    build_killed,
    build_slowly,
    small_data,
    tiny_study,
)

from sparse_book.data.load import load
from sparse_book.training import run as running
from sparse_book.training.ensemble import Ensemble, train_ensemble
from sparse_book.training.measure import measure_ensemble
from sparse_book.training.run import (
    choose_device,
    plan_ensembles,
    run_study,
)
from sparse_book.training.store import Store, StoreError
from sparse_book.training.study import (
    Scale,
    StudyData,
    load_study_data,
    tasks,
)

DATA = small_data()
HERE = Path(__file__).resolve().parent


def run(
    folder: Path, name: str = "s", scale: str = "small", **options: Any
) -> tuple[Any, dict[str, dict[str, float]]]:
    """Run the small study; return the report and every network's numbers."""
    options.setdefault("data", DATA)
    options.setdefault("workers", 1)
    study = options.pop("study", tiny_study())
    with Store(folder / name) as store:
        report = run_study(study, scale, store, progress=False, **options)
        rows = {r.key: dict(r.measures) for r in store.records()}
    return report, rows


def assert_same(
    ours: dict[str, dict[str, float]], theirs: dict[str, dict[str, float]]
) -> None:
    """The same networks with the same numbers, to rounding."""
    assert ours.keys() == theirs.keys()
    for key, row in ours.items():
        assert row == pytest.approx(theirs[key], rel=1e-4, abs=1e-5), key


@pytest.fixture(scope="module")
def whole(
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, dict[str, float]]:
    """The rows of an undisturbed run."""
    report, rows = run(tmp_path_factory.mktemp("whole"))
    assert (report.trained, report.found, report.diverged) == (12, 0, 0)
    return rows


def test_a_row_is_what_training_alone_gives(
    whole: dict[str, dict[str, float]],
) -> None:
    study = tiny_study()
    for task in tasks(study, "small", DATA)[::5]:
        alone = Ensemble(lambda t=task: build(t.condition, DATA), [task.seed])
        history = train_ensemble(
            alone,
            *DATA.train,
            coefficient=task.condition["coefficient"],
            epochs=2,
            batch_size=25,
        )
        tested = measure_ensemble(alone, *DATA.test)
        row = whole[task.key]
        assert row["test_accuracy"] == pytest.approx(tested.accuracy.item())
        assert row["train_loss"] == pytest.approx(
            history[-1].loss.item(), rel=1e-4
        )
        assert row["active_units_1"] == pytest.approx(
            tested.active_units.item(), rel=1e-4
        )


def test_running_again_trains_nothing(
    tmp_path: Path, whole: dict[str, dict[str, float]]
) -> None:
    run(tmp_path)
    report, rows = run(tmp_path)
    assert (report.trained, report.found) == (0, 12)
    assert_same(rows, whole)


def test_a_larger_scale_keeps_what_a_smaller_one_trained(
    tmp_path: Path, whole: dict[str, dict[str, float]]
) -> None:
    first, _ = run(tmp_path, scale="quick")
    report, rows = run(tmp_path)
    assert first.trained == 4
    assert (report.trained, report.found) == (8, 4)
    assert_same(rows, whole)


@pytest.mark.parametrize("budget", [1, 700, 2000])
def test_rows_do_not_depend_on_the_plan(
    budget: int, tmp_path: Path, whole: dict[str, dict[str, float]]
) -> None:
    assert_same(run(tmp_path, budget=budget)[1], whole)


def test_rows_do_not_depend_on_workers(
    tmp_path: Path, whole: dict[str, dict[str, float]]
) -> None:
    report, rows = run(tmp_path, workers=2, budget=1000)
    assert report.trained == 12
    assert_same(rows, whole)


def test_plans_hold_every_task_once_and_fit() -> None:
    study = tiny_study()
    todo = tasks(study, "small", DATA)
    for budget in (1, 300, 1000, 5000, 10**9):
        groups = plan_ensembles(study, todo, DATA, budget=budget)
        keys = [task.key for group in groups for task in group]
        assert sorted(keys) == sorted(task.key for task in todo)
        for group in groups:
            assert len({t.condition["hidden"] for t in group}) == 1
            network = build(group[0].condition, DATA)
            each = 16 * sum(p.numel() for p in network.parameters())
            assert len(group) == 1 or len(group) * each <= budget
            seeds = [task.seed for task in group]
            assert seeds == sorted(seeds)  # beside each other: one order
    with pytest.raises(ValueError, match="budget"):
        plan_ensembles(study, todo, DATA, budget=0)


def test_keys_say_all_that_a_result_depends_on() -> None:
    base = tiny_study()
    changed = [
        tiny_study(name="other"),
        tiny_study(version=2),
        tiny_study(batch_size=24),
        tiny_study(optimizer="sgd"),
        tiny_study(settings={"learning_rate": 0.1}),
        tiny_study(per_node=True),
        tiny_study(scales={"small": Scale("tiny", seeds=2, epochs=3)}),
    ]
    keys = [tasks(base, "small", DATA)[0].key]
    keys += [tasks(study, "small", DATA)[0].key for study in changed]
    keys += [tasks(base, "small", small_data(count=126))[0].key]
    assert len(set(keys)) == len(keys)


def test_running_out_of_memory_halves_the_ensemble(
    tmp_path: Path,
    whole: dict[str, dict[str, float]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes: list[int] = []
    real = running.train_ensemble

    def scarce(ensemble: Ensemble, *args: Any, **kwargs: Any) -> Any:
        sizes.append(len(ensemble))
        if len(ensemble) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(ensemble, *args, **kwargs)

    monkeypatch.setattr(running, "train_ensemble", scarce)
    report, rows = run(tmp_path)
    assert report.trained == 12
    assert max(sizes) == 6 and sizes.count(6) == 2  # each tried once
    assert_same(rows, whole)


def test_a_network_that_never_fits_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scarce(*_: Any, **__: Any) -> Any:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(running, "train_ensemble", scarce)
    with pytest.raises(MemoryError, match="one network of tiny"):
        run(tmp_path)


def test_a_killed_worker_costs_nothing_that_was_finished(
    tmp_path: Path,
    whole: dict[str, dict[str, float]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SPARSE_BOOK_TEST_PARENT", str(os.getpid()))
    monkeypatch.setenv("SPARSE_BOOK_TEST_MARKER", str(tmp_path / "killed"))
    study = tiny_study(build=build_killed)
    report, rows = run(tmp_path, study=study, workers=2, budget=1000)
    assert (tmp_path / "killed").exists()
    assert report.trained == 12
    assert_same(rows, whole)


def test_a_network_that_is_killed_every_time_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPARSE_BOOK_TEST_PARENT", str(os.getpid()))
    monkeypatch.setenv("SPARSE_BOOK_TEST_MARKER", "")
    study = tiny_study(build=build_killed, shape={"hidden": (2,)})
    with pytest.raises(MemoryError, match="killed every time"):
        run(tmp_path, study=study, scale="quick", workers=2, budget=1)


def test_other_errors_are_not_taken_for_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("something else")

    monkeypatch.setattr(running, "train_ensemble", broken)
    with pytest.raises(RuntimeError, match="something else"):
        run(tmp_path)


def test_ctrl_c_leaves_a_store_that_resumes(
    tmp_path: Path,
    whole: dict[str, dict[str, float]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real, calls = running.train_ensemble, []

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(running, "train_ensemble", interrupted)
    report, rows = run(tmp_path, budget=1000)
    assert report.interrupted and 0 < len(rows) < 12
    report, rows = run(tmp_path, budget=1000)
    assert not report.interrupted
    assert_same(rows, whole)


PROGRAM = """
import sys
sys.path.insert(0, {here!r})
from pathlib import Path
from studies_for_tests import build_slowly, small_data, tiny_study
from sparse_book.training.run import run_study
from sparse_book.training.store import Store

with Store(Path({path!r})) as store:
    print("ready", flush=True)
    study = tiny_study(build=build_slowly)
    run_study(study, "small", store, data=small_data(), workers=1,
              budget=1, progress=False)
"""


def test_kill_minus_9_at_any_moment(
    tmp_path: Path, whole: dict[str, dict[str, float]]
) -> None:
    path, generator = tmp_path / "s", torch.Generator().manual_seed(0)
    program = PROGRAM.format(here=str(HERE), path=str(path))
    kept = 0
    for _ in range(4):
        process = subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        time.sleep(0.1 + float(torch.rand((), generator=generator)))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        with Store(path) as store:
            found = {r.key: dict(r.measures) for r in store.records()}
        assert len(found) >= kept
        kept = len(found)
        assert_same(found, {key: whole[key] for key in found})
    _, rows = run(tmp_path, study=tiny_study(build=build_slowly))
    assert_same(rows, whole)


def test_a_network_that_diverges_is_recorded_and_harms_nobody(
    tmp_path: Path, whole: dict[str, dict[str, float]]
) -> None:
    study = tiny_study(
        vary={"coefficient": (0.0, 0.01), "learning_rate": (1e-3, 1e36)}
    )
    with Store(tmp_path / "s") as store:
        report = run_study(
            study, "small", store, data=DATA, workers=1, progress=False
        )
        records = store.records()
    assert report.trained == len(records) == 16
    lost = [r for r in records if r.status == "diverged"]
    assert {r.condition["learning_rate"] for r in lost} == {1e36}
    # A network of dead units may stay finite even at that rate.
    assert len(lost) == report.diverged >= 4
    sound = [r for r in records if r.condition["learning_rate"] == 1e-3]
    assert len(sound) == 8
    assert {r.status for r in sound} == {"finished"}
    same = {
        (r.condition["hidden"], r.condition["coefficient"], r.seed): (
            r.measures["test_accuracy"]
        )
        for r in sound
    }
    plain = {
        (t.condition["hidden"], t.condition["coefficient"], t.seed): (
            whole[t.key]["test_accuracy"]
        )
        for t in tasks(tiny_study(), "small", DATA)
    }
    assert same == pytest.approx({key: plain[key] for key in same})


def test_a_full_disk_stops_with_a_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store(tmp_path / "s") as store:
        pages = store._db.execute("PRAGMA page_count").fetchone()[0]
        store._db.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(StoreError, match="disk is full"):
            run_study(
                tiny_study(),
                "small",
                store,
                data=DATA,
                workers=1,
                progress=False,
            )
        assert store.records() == []


def test_mnist_is_split_as_in_the_thesis() -> None:
    if not os.environ.get("SPARSE_BOOK_DATA"):
        pytest.skip("no real data (variable SPARSE_BOOK_DATA)")
    data = load_study_data("mnist")
    sizes = [len(part[1]) for part in (data.train, data.validation)]
    assert sizes == [50000, 10000] and len(data.test[1]) == 10000


def test_the_split_loses_no_image_and_repeats() -> None:
    data: StudyData = load_study_data("digits")
    again = load_study_data("digits")
    assert data.checksum == again.checksum
    torch.testing.assert_close(data.train[0], again.train[0])
    train = load("digits", split="train")
    both = torch.cat([data.train[0], data.validation[0]]).flatten(1)
    assert len(both) == len(train)
    rows = {tuple(row) for row in both.tolist()}
    assert rows == {tuple(row) for row in train.images.flatten(1).tolist()}


def test_names_that_are_unknown_list_those_that_are_not(
    tmp_path: Path,
) -> None:
    with Store(tmp_path / "s") as store:
        for options, match in [
            ({"scale": "huge"}, "'quick', 'small'"),
            ({"device": "tpu"}, "auto, cpu"),
            ({"data": "mnits"}, "'mnist'"),
        ]:
            scale = options.pop("scale", "small")
            with pytest.raises(ValueError, match=match):
                run_study(tiny_study(), scale, store, **options)
    with pytest.raises(ValueError, match="'sgd', 'adam'"):
        tiny_study(optimizer="newton")
    with pytest.raises(ValueError, match="'learning_rate'"):
        tiny_study(settings={"lr": 0.1})
    with pytest.raises(ValueError, match="'coefficient'"):
        tiny_study(vary={"lambda": (0.0,)})
    with pytest.raises(ValueError, match="axis 'hidden'"):
        tiny_study(shape={"hidden": ()})
    with pytest.raises(ValueError, match="seeds"):
        Scale("tiny", seeds=0, epochs=1)
    assert choose_device("cpu") == torch.device("cpu")


def test_profiles_are_kept_for_the_chosen_network(tmp_path: Path) -> None:
    with Store(tmp_path / "s") as store:
        run_study(
            tiny_study(),
            "small",
            store,
            data=DATA,
            workers=1,
            progress=False,
        )
        found = [r for r in store.records() if "responses" in r.vectors]
    assert {(r.condition["hidden"], r.seed) for r in found} == {(5, 0)}
    vectors = found[0].vectors
    shown = vectors["shown"][0]
    assert len(vectors["responses"]) == 3 * 5
    assert max(vectors["responses"]) <= shown == 20
    assert sum(vectors["activation_counts"]) == 3 * shown * 5
    assert sum(vectors["weight_counts"]) == 9 * 5 + 5 * 3
