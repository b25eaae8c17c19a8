"""Studies on a real cluster: nothing lost, nothing stored twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from studies_for_tests import (
    build,
    build_killed,
    build_logged,
    scarce_method,
    small_data,
    tiny_study,
)

from sparse_book import cli
from sparse_book.training import distributed as scaling
from sparse_book.training.distributed import DaskEngine
from sparse_book.training.run import run_study
from sparse_book.training.store import NetworkRecord, Store
from sparse_book.training.study import Study

distributed = pytest.importorskip("distributed")
DATA = small_data()
HERE = Path(__file__).resolve().parent
Rows = dict[str, NetworkRecord]


def stored(path: Path) -> tuple[Rows, Counter[int]]:
    """Return every network of a store, and the sizes of its ensembles."""
    with Store(path) as store:
        rows = {record.key: record for record in store.records()}
        ensembles = set(store.provenance())
    sizes = Counter(record.ensemble for record in rows.values())
    assert set(sizes) == ensembles  # none was stored a second time
    return rows, sizes


def assert_same(ours: Rows, theirs: Rows) -> None:
    """The same networks with the same numbers, to rounding."""
    assert ours.keys() == theirs.keys()
    for key, row in ours.items():
        other = theirs[key]
        assert row.condition == other.condition and row.seed == other.seed
        assert row.status == other.status
        assert dict(row.measures) == pytest.approx(
            dict(other.measures), rel=1e-4, abs=1e-5, nan_ok=True
        )


def run(
    path: Path, study: Study, engine: DaskEngine | None, **more: Any
) -> Any:
    """Run a small study."""
    options: dict[str, Any] = {"data": DATA, "budget": 1000, "progress": False}
    if engine is None:
        options["workers"] = 1
    with Store(path) as store:
        return run_study(
            study, "small", store, engine=engine, **options | more
        )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    """The rows of an undisturbed local run."""
    path = tmp_path_factory.mktemp("whole") / "s"
    assert run(path, tiny_study(), None).trained == 12
    return stored(path)[0]


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """A scheduler with two workers that a nanny starts again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARSE_BOOK_TEST_PARENT", str(os.getpid()))
        with scaling._own_cluster(2) as started:
            yield started.scheduler_address


@pytest.fixture
def engine(cluster: str) -> Iterator[DaskEngine]:
    """An engine on that cluster."""
    with DaskEngine(cluster, device="cpu") as found:
        yield found
        client = found._client
        if client is not None and client.status == "running":
            assert client.list_datasets() == ()  # no name is left behind


def test_rows_are_those_of_the_local_engine(
    engine: DaskEngine, tmp_path: Path, whole: Rows
) -> None:
    report = run(tmp_path / "s", tiny_study(), engine)
    assert (report.trained, report.found) == (12, 0)
    rows, _ = stored(tmp_path / "s")
    assert_same(rows, whole)
    for key, row in rows.items():
        assert len(row.history) == len(whole[key].history) == 2
        assert row.vectors.keys() == whole[key].vectors.keys()
    again = run(tmp_path / "s", tiny_study(), engine)
    assert (again.trained, again.found) == (0, 12)
    with Store(tmp_path / "s") as store:
        about = next(iter(store.provenance().values()))
    assert about["threads"] == 1 and about["seconds"] > 0
    assert about["checksum"] == DATA.checksum and about["scale"] == "small"


def test_a_study_of_closures_travels(
    engine: DaskEngine, tmp_path: Path, whole: Rows
) -> None:
    small = 2
    study = tiny_study(
        build=lambda condition, data: build(condition, data) if small else None
    )
    run(tmp_path / "s", study, engine)
    assert_same(stored(tmp_path / "s")[0], whole)


def test_named_data_are_loaded_by_workers_and_compared(
    engine: DaskEngine, tmp_path: Path
) -> None:
    study = tiny_study(shape={"hidden": (2,)})
    run(tmp_path / "s", study, engine, data="digits", budget=10**6)
    run(tmp_path / "t", study, None, data="digits", budget=10**6)
    assert_same(stored(tmp_path / "s")[0], stored(tmp_path / "t")[0])

    class Elsewhere(type(study)):  # type: ignore[misc]
        """A study whose client finds other files than the workers."""

        def load(self, name: str) -> Any:
            found = super().load(name)
            here = os.getpid() == parent
            return replace(found, checksum="other") if here else found

    parent = os.getpid()
    fields = {name: getattr(study, name) for name in vars(study)}
    with pytest.raises(ValueError, match="holds other data"):
        run(tmp_path / "u", Elsewhere(**fields), engine, data="digits")
    assert stored(tmp_path / "u")[0] == {}


def test_memory_that_runs_out_halves_the_ensemble(
    engine: DaskEngine, tmp_path: Path
) -> None:
    study = tiny_study(method=scarce_method())
    report = run(tmp_path / "s", study, engine, budget=10**9)
    rows, sizes = stored(tmp_path / "s")
    assert report.trained == len(rows) == 12
    assert max(sizes.values()) == 2


def test_divergence_and_other_errors_are_as_they_are_here(
    engine: DaskEngine, tmp_path: Path
) -> None:
    axes = {"coefficient": (0.0, 0.01), "learning_rate": (1e-3, 1e36)}
    ours = run(tmp_path / "s", tiny_study(vary=axes), engine)
    theirs = run(tmp_path / "t", tiny_study(vary=axes), None)
    assert ours.diverged == theirs.diverged > 0
    assert_same(stored(tmp_path / "s")[0], stored(tmp_path / "t")[0])

    def broken(condition: Any, data: Any) -> Any:
        if os.getpid() != parent:
            raise RuntimeError("something else")
        return build(condition, data)

    parent = os.getpid()
    with pytest.raises(RuntimeError, match="something else"):
        run(tmp_path / "u", tiny_study(build=broken), engine)


def test_a_worker_killed_in_the_middle_costs_nothing(
    engine: DaskEngine, tmp_path: Path, whole: Rows
) -> None:
    marker = str(tmp_path / "killed")
    study = tiny_study(
        build=lambda condition, data: build_killed(
            condition, data, marker=marker
        )
    )
    report = run(tmp_path / "s", study, engine)
    assert Path(marker).exists()
    assert report.trained == 12
    assert_same(stored(tmp_path / "s")[0], whole)


def test_a_network_that_always_kills_is_named(
    engine: DaskEngine, tmp_path: Path
) -> None:
    study = tiny_study(
        build=lambda condition, data: build_killed(condition, data, marker=""),
        shape={"hidden": (2,)},
        vary={"coefficient": (0.0,)},
        scales={"small": replace(tiny_study().scale("quick"), every=1)},
    )
    with pytest.raises(MemoryError, match=r"one network of tiny .*killed"):
        run(tmp_path / "s", study, engine)
    assert stored(tmp_path / "s")[0] == {}


def test_another_version_is_refused(
    engine: DaskEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scaling, "_version", lambda: "9.9.9")
    with pytest.raises(RuntimeError, match=r"this process 9\.9\.9: install"):
        run(tmp_path / "s", tiny_study(), engine)


def test_a_task_asks_for_a_gpu_and_gets_a_worker_that_has_one(
    engine: DaskEngine, tmp_path: Path, whole: Rows
) -> None:
    engine._gpu = True  # as for the device cuda, on a machine without one
    shown: list[str] = []
    real = engine.note
    engine.note = lambda: shown.append(real()) or shown[-1]  # type: ignore
    timer: list[Any] = []

    def late() -> None:
        client = engine._client
        place = client.scheduler.address
        timer.append(worker(place, "--resources", "GPU=1"))

    threading.Timer(3.0, late).start()
    try:
        run(tmp_path / "s", tiny_study(), engine)
        assert_same(stored(tmp_path / "s")[0], whole)
        assert "--resources GPU=1" in shown[0] and "1 worker" in shown[-1]
    finally:
        stop(*timer)


def test_a_process_for_each_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    made: dict[str, Any] = {}
    distributed = scaling._distributed()
    monkeypatch.setattr(
        distributed, "SpecCluster", lambda **options: made.update(options)
    )
    scaling._own_cluster(5, gpus=2)
    options = [spec["options"] for spec in made["workers"].values()]
    assert [o["resources"] for o in options] == [{"GPU": 1}] * 2
    seen = [o["env"]["CUDA_VISIBLE_DEVICES"] for o in options]
    assert seen == ["0", "1"]


def start(module: str, *arguments: str, **variables: str) -> Any:
    """Start a part of Dask as a process of its own."""
    path = os.pathsep.join([str(HERE), *sys.path])
    return subprocess.Popen(
        [sys.executable, "-m", f"distributed.cli.{module}", *arguments],
        env=os.environ | {"PYTHONPATH": path} | variables,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def worker(address: str, *arguments: str, **variables: str) -> Any:
    """Start a worker without a nanny."""
    options = ("--nthreads", "1", "--no-nanny", "--no-dashboard")
    return start("dask_worker", address, *options, *arguments, **variables)


def stop(*processes: Any) -> None:
    """Kill processes and wait until they are gone."""
    for process in processes:
        process.kill()
        process.wait()


def until(true: Callable[[], bool], seconds: float = 600) -> None:
    """Wait for something, however slow the machine is."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


CLIENT = """
import sys
from pathlib import Path
from studies_for_tests import build_logged, small_data, tiny_study
from sparse_book.training.distributed import DaskEngine
from sparse_book.training.run import run_study
from sparse_book.training.store import Store

if __name__ == "__main__":
    with Store(Path({path!r})) as store, DaskEngine(
        {address!r}, device="cpu"
    ) as engine:
        run_study(tiny_study(build=build_logged), "small", store,
                  data=small_data(), budget=1000, progress=False,
                  engine=engine)
"""


def test_the_client_dies_and_another_takes_over_while_a_worker_joins(
    tmp_path: Path, whole: Rows
) -> None:
    log, note, path = tmp_path / "log", tmp_path / "note", tmp_path / "s"
    slow = {"SPARSE_BOOK_TEST_LOG": str(log), "SPARSE_BOOK_TEST_SLOW": "0.5"}
    program = tmp_path / "client.py"
    processes = [
        start(
            "dask_scheduler",
            *("--host", "127.0.0.1", "--port", "0", "--no-dashboard"),
            *("--scheduler-file", str(note)),
        )
    ]
    try:
        until(lambda: note.exists() and "address" in note.read_text())
        address = json.loads(note.read_text())["address"]
        processes.append(worker(address, **slow))
        program.write_text(CLIENT.format(path=str(path), address=address))
        paths = os.pathsep.join([str(HERE), *sys.path])
        client = subprocess.Popen(
            [sys.executable, str(program)],
            env=os.environ | {"PYTHONPATH": paths},
        )
        processes.append(client)
        until(lambda: path.exists() and 0 < len(stored_quietly(path)) < 12)
        lines = len(log.read_text().splitlines())
        until(lambda: len(log.read_text().splitlines()) > lines)
        client.send_signal(signal.SIGKILL)  # an ensemble is under way
        client.wait()
        kept = stored(path)[0]
        assert 0 < len(kept) < 12
        processes.append(worker(address, **slow))
        with distributed.Client(address, set_as_default=False) as eye:
            eye.wait_for_workers(2, timeout=120)
        study = tiny_study(build=build_logged)
        with DaskEngine(address, device="cpu") as engine:
            report = run(path, study, engine)
            assert engine._client.list_datasets() == ()
        rows, _ = stored(path)
        assert (report.found, report.trained) == (len(kept), 12 - len(kept))
        assert_same(rows, whole)
        # No ensemble was trained twice, and both workers have trained.
        built = [line.split()[0] for line in log.read_text().splitlines()]
        # An ensemble builds one network for each of its seeds.
        assert len(built) == len({(r.ensemble, r.seed) for r in rows.values()})
        assert len(set(built)) == 2
    finally:
        stop(*processes)


def stored_quietly(path: Path) -> Rows:
    """The rows of a store that somebody else is writing."""
    with Store(path) as store:
        return {record.key: record for record in store.records()}


def test_the_command_line_runs_stops_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "s"
    command = ["run", "studies_for_tests:LOGGED", "--store", str(path)]
    cluster = ["--engine", "dask", "--workers", "1", "--device", "cpu"]
    program = "import sys; from sparse_book.cli import main; sys.exit(main())"
    slow = {
        "SPARSE_BOOK_TEST_LOG": str(tmp_path / "log"),
        "SPARSE_BOOK_TEST_SLOW": "1",
        "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path]),
    }
    process = subprocess.Popen(
        [sys.executable, "-c", program, *command, *cluster],
        env=os.environ | slow,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        until(lambda: path.exists() and len(stored_quietly(path)) > 0)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        out, shown = process.communicate(timeout=600)
    finally:
        stop(process)
    assert process.returncode == 130, shown
    assert "Interrupted. Run the same command again" in out
    assert "1 worker" in shown and "Error" not in shown
    kept, _ = stored(path)
    assert 0 < len(kept) < 18
    assert cli.main([*command, "--workers", "1"]) == 0
    other = tmp_path / "t"
    whole = ["run", "studies_for_tests:LOGGED", "--store", str(other)]
    assert cli.main([*whole, "--workers", "1"]) == 0
    assert_same(stored(path)[0], stored(other)[0])


def test_what_cannot_be_is_refused_at_the_door(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for options, error, match in [
        ({"scheduler": "tcp://x:1", "workers": 2}, ValueError, "dask worker"),
        ({"workers": 0}, ValueError, "workers"),
        ({"workers": 1.5}, TypeError, "workers"),
        ({"device": "cuda:1"}, ValueError, "'auto', 'cpu', 'cuda'"),
        ({"timeout": 0}, ValueError, "timeout"),
    ]:
        with pytest.raises(error, match=match):
            DaskEngine(**options)
    here = DaskEngine(workers=1, device="cpu")
    for more in ({"device": "cpu"}, {"workers": 1}):
        with pytest.raises(ValueError, match="the engine's"):
            run(tmp_path / "s", tiny_study(), here, **more)
    gone = DaskEngine("tcp://127.0.0.1:9", timeout=1)
    with gone, pytest.raises(ConnectionError, match=r"127\.0\.0\.1:9"):
        run(tmp_path / "s", tiny_study(), gone)
    run_it = ["run", "thesis-relu-1", "--store", str(tmp_path / "s")]
    assert cli.main([*run_it, "--scheduler", "tcp://x:1"]) == 1
    assert "--engine dask" in capsys.readouterr().err


def test_without_dask_the_message_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ModuleNotFoundError, match=r"sparse-book\[scale\]"):
        DaskEngine()
    assert cli.main(["run", "thesis-relu-1", "--engine", "dask"]) == 1
    assert "sparse-book[scale]" in capsys.readouterr().err
