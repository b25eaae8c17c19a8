"""Killed, full, damaged, read-only, shared: recovered or said, never wrong."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from studies_for_tests import small_data, tiny_study

from sparse_book.studies.registry import all_studies
from sparse_book.training.results import (
    MissingResultsError,
    export_results,
    read_results,
)
from sparse_book.training.run import run_study
from sparse_book.training.store import (
    NetworkRecord,
    SetAsideWarning,
    Store,
    StoreError,
)

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
KILLS = 50
PATHS = os.pathsep.join([str(ROOT), str(HERE)])
ENVIRONMENT = os.environ | {"PYTHONPATH": PATHS, "OMP_NUM_THREADS": "1"}
posix = pytest.mark.skipif(
    not hasattr(os, "pidfd_open"), reason="processes of Linux"
)


def rows(path: Path) -> dict[str, tuple[Any, ...]]:
    """All that a store holds, but for how it was made."""
    with Store(path) as store:
        records = store.records()
    found = {
        r.key: (
            dict(r.condition),
            r.seed,
            r.epochs,
            r.status,
            repr(r.measures),
            repr(r.history),
            repr(r.vectors),
        )
        for r in records
    }
    assert len(found) == len(records), "a network twice"
    return found


class Nursery:
    """A process that forks runs, and kills them when it is told to."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "killed_for_tests.py")],
            env=ENVIRONMENT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._answer() == "ready"

    def _answer(self) -> str:
        out = self.process.stdout
        assert out is not None
        said, _, _ = select.select([out], [], [], 300)
        assert said, "a forked run hangs"
        return out.readline().strip()

    def run(
        self, path: Path, seconds: float | None = None, count: int = 1
    ) -> list[int]:
        """Run the study; return the exit statuses."""
        limit = "-" if seconds is None else f"{seconds:.4f}"
        assert self.process.stdin is not None
        self.process.stdin.write(f"{path} {limit} {count}\n")
        self.process.stdin.flush()
        return [int(word) for word in self._answer().split()]

    def close(self) -> None:
        """End it."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(60)
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    """The process that forks runs."""
    if not hasattr(os, "pidfd_open"):
        pytest.skip("processes of Linux")
    made = Nursery()
    yield made
    made.close()


@pytest.fixture(scope="module")
def whole(
    nursery: Nursery, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, tuple[Any, ...]], float]:
    """The rows of an undisturbed run, and how long it takes."""
    path = tmp_path_factory.mktemp("whole") / "s"
    start = time.monotonic()
    assert nursery.run(path) == [0]
    seconds = time.monotonic() - start
    found = rows(path)
    assert len(found) == 72
    return found, seconds


# Killed.


def test_fifty_kills_cost_nothing_and_change_nothing(
    nursery: Nursery,
    whole: tuple[dict[str, tuple[Any, ...]], float],
    tmp_path: Path,
) -> None:
    expected, seconds = whole
    chance = random.Random(8)
    kills = 0
    for campaign in itertools.count():
        if kills >= KILLS:
            break
        path, status, kept = tmp_path / f"store-{campaign}", -9, 0
        while status == -9:
            # Every second one early, while store and plan are made.
            share = 0.3 if (kills + campaign) % 2 else 0.05
            (status,) = nursery.run(path, chance.random() * share * seconds)
            kills += status == -9
            assert kills < 400, "it gets nowhere"
            if path.exists():
                with warnings.catch_warnings():
                    warnings.simplefilter("error")  # nothing is set aside
                    found = rows(path)
                assert len(found) >= kept, "a finished network was lost"
                assert found.items() <= expected.items()
                kept = len(found)
        assert status == 0
        assert rows(path) == expected
        said = path.with_name(f"{path.name}.log").read_text()
        assert "Traceback" not in said
        assert not list(tmp_path.glob("*.set-aside-*"))
    assert kills >= KILLS


def below(parent: int) -> list[int]:
    """The living processes that descend from one."""
    found, parents = [], {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] != "Z":
            parents[int(path.parent.name)] = int(fields[1])
    for pid in parents:
        above = pid
        while above in parents and above != parent:
            above = parents[above]
        if above == parent and pid != parent:
            found.append(pid)
    return found


def alive(pid: int) -> bool:
    """Whether a process runs; one that waits to be buried does not."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] != "Z"


@posix
def test_the_real_command_killed_with_its_workers_left_alone(
    tmp_path: Path,
) -> None:
    path = tmp_path / "s"
    command = [sys.executable, "-m", "sparse_book.cli", "run"]
    command += ["thesis-thresholds", "--store"]
    process = subprocess.Popen(
        [*command, str(path), "--workers", "2"],
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    children: list[int] = []
    deadline = time.monotonic() + 120
    while len(children) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)  # two workers, and a process that counts locks
        children = below(process.pid)
        if process.poll() is not None:
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 60
    while any(map(alive, children)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not [pid for pid in children if alive(pid)], "orphans"
    done = subprocess.run(
        [*command, str(path), "--workers", "1"],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    options: dict[str, Any] = {"workers": 1, "progress": False}
    with Store(tmp_path / "undisturbed") as store:
        run_study(
            all_studies()["thesis-thresholds"], "quick", store, **options
        )
    assert rows(path) == rows(tmp_path / "undisturbed")


# A second process.


def test_two_runs_on_one_store(
    nursery: Nursery,
    whole: tuple[dict[str, tuple[Any, ...]], float],
    tmp_path: Path,
) -> None:
    assert nursery.run(tmp_path / "s", count=2) == [0, 0]
    assert rows(tmp_path / "s") == whole[0]
    assert not list(tmp_path.glob("*.set-aside-*"))


def _open(path: Path, start: Any, answers: Any) -> None:
    start.wait()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            with Store(path):
                answers.put("")
        except (SetAsideWarning, StoreError) as error:
            answers.put(str(error))


@posix
def test_many_begin_one_store_and_nobody_takes_it_for_damaged(
    tmp_path: Path,
) -> None:
    context = multiprocessing.get_context("fork")
    for attempt in range(8):
        start, answers = context.Barrier(6), context.Queue()
        path = tmp_path / f"s{attempt}"
        group = [
            context.Process(target=_open, args=(path, start, answers))
            for _ in range(6)
        ]
        for process in group:
            process.start()
        assert [answers.get(timeout=60) for _ in group] == [""] * 6
        for process in group:
            process.join(60)
    assert not list(tmp_path.glob("*.set-aside-*"))


# Damaged.


def record(number: int) -> NetworkRecord:
    """One of many records."""
    return NetworkRecord(
        f"key-{number:04d}",
        "tiny" if number % 3 else "other",
        {"hidden": number},
        number,
        2,
        "finished",
        {"accuracy": number / 7},
        [{"loss": 1 / (number + 1)}] * 3,
    )


def test_no_flipped_bit_hides_a_network_or_keeps_it_twice(
    tmp_path: Path,
) -> None:
    """Neither in a row nor in one of the two indices."""
    path, chance = tmp_path / "s", random.Random(1)
    records = [record(number) for number in range(60)]
    with Store(path) as store:
        store.add(records, {"n": 1})
        keys = {r.key for r in records}
        before = store.records("tiny"), store.records("other")
    sound = path.read_bytes()
    outcomes = []
    for _ in range(250):
        flipped = bytearray(sound)
        flipped[chance.randrange(len(sound))] ^= 1 << chance.randrange(8)
        path.write_bytes(flipped)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                with Store(path) as store:
                    there = store.finished(keys)
                    found = store.records("tiny"), store.records("other")
            except StoreError as error:
                assert str(path) in str(error)
                outcomes.append("said")
                continue
        if caught:
            assert str(path) in str(caught[0].message)
            assert (there, found) == (set(), ([], []))
            outcomes.append("set aside")
        else:
            assert there == keys and found == before
            outcomes.append("unharmed")
        for left in tmp_path.glob("s.set-aside-*"):
            left.unlink()
    assert outcomes.count("set aside") > 20


def test_a_failing_disk_is_not_taken_for_damage(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with Store(path) as store:
        store.add([record(1)], {})
    (tmp_path / "s-journal").mkdir()  # SQLite can neither read nor write it
    with pytest.raises(StoreError, match="s "), Store(path) as store:
        store.add([record(2)], {})
    (tmp_path / "s-journal").rmdir()
    assert set(rows(path)) == {record(1).key}
    assert not list(tmp_path.glob("*.set-aside-*"))


def test_rows_that_are_damaged_while_the_store_is_open(tmp_path: Path) -> None:
    with Store(tmp_path / "s") as store:
        store.add([record(1)], {"n": 1})
        with store._db:
            store._db.execute("UPDATE ensembles SET provenance = '{}'")
        with pytest.raises(StoreError, match="damaged"):
            store.provenance()
        with store._db:
            store._db.execute("UPDATE networks SET measures = x'00'")
        with pytest.raises(StoreError, match="cannot be used"):
            store.records()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The exported results of the small study."""
    folder = tmp_path_factory.mktemp("exported")
    with Store(folder / "s.sqlite") as store:
        run_study(
            tiny_study(),
            "small",
            store,
            data=small_data(),
            workers=1,
            progress=False,
        )
        export_results(tiny_study(), store, folder / "results")
    return folder / "results"


def test_no_flipped_bit_changes_how_results_were_made(
    exported: Path, tmp_path: Path
) -> None:
    chance = random.Random(2)
    sound = (exported / "tiny.json").read_bytes()
    expected, refused = read_results("tiny", exported), 0
    for attempt in range(150):
        folder = tmp_path / str(attempt)
        shutil.copytree(exported, folder)
        flipped = bytearray(sound)
        flipped[chance.randrange(len(sound))] ^= 1 << chance.randrange(8)
        (folder / "tiny.json").write_bytes(flipped)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SetAsideWarning)
            try:
                found = read_results("tiny", folder)
            except MissingResultsError as error:
                assert str(folder) in str(error)
                refused += 1
                continue
        assert found.rows == expected.rows and found.scale == expected.scale
        assert (
            found.provenance["ensembles"] == (expected.provenance["ensembles"])
        )
    assert refused > 100


def test_an_index_cannot_name_files_of_others(
    exported: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "results"
    shutil.copytree(exported, folder)
    other = tmp_path / "precious.txt"
    other.write_text("mine")
    index = folder / "tiny.json"
    about = json.loads(index.read_text())
    about["sha256"]["../precious.txt"] = "0"
    index.write_text(json.dumps(about))
    with (
        pytest.warns(SetAsideWarning, match=r"tiny\.json"),
        pytest.raises(MissingResultsError),
    ):
        read_results("tiny", folder)
    assert other.read_text() == "mine"


# Full.

FILL = """
import sys
from sparse_book.training.store import NetworkRecord, Store, StoreError
{before}
with Store(sys.argv[1]) as store:
    for n in range(100):
        one = NetworkRecord(f"k{{n}}", "tiny", {{}}, n, 1, "finished",
                            {{"accuracy": n / 7}}, (), {{"v": [0.5] * 4000}})
        try:
            store.add([one], {{}})
        except StoreError as error:
            print(n, error)
            break
"""
LIMIT = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (300000, 300000))
"""


def fill(path: Path, before: str = "") -> tuple[int, str]:
    """Write until there is no room; return what was kept and said."""
    done = subprocess.run(
        [sys.executable, "-c", FILL.format(before=before), str(path)],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    number, _, said = done.stdout.strip().partition(" ")
    return int(number), said


@posix
def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    path = tmp_path / "s"
    kept, said = fill(path, LIMIT)
    assert kept > 0 and str(path) in said
    assert "kept" in said
    assert set(rows(path)) == {f"k{n}" for n in range(kept)}
    with Store(path) as store:  # there is room again
        assert store.add([record(1)], {}) == 1


@posix
def test_a_disk_that_is_full(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(disk)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("this user may not mount a small disk")
    try:
        kept, said = fill(disk / "s")
        assert kept > 0 and "the disk is full" in said
        with Store(disk / "s") as store:
            found = store.records()
        assert {r.key for r in found} == {f"k{n}" for n in range(kept)}
        (disk / "ballast").write_bytes(b"")
        with Store(tmp_path / "other") as store:
            run_study(
                tiny_study(),
                "quick",
                store,
                data=small_data(),
                workers=1,
                progress=False,
            )
            with open(disk / "ballast", "wb", buffering=0) as file:
                try:
                    while file.write(bytes(512)):
                        pass
                except OSError:
                    pass
            with pytest.raises(StoreError, match="cannot be written"):
                export_results(tiny_study(), store, disk / "results")
        assert not list((disk / "results").glob("*"))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


# Read-only.

READ = """
import sys
from sparse_book.training.store import NetworkRecord, Store, StoreError
try:
    with Store(sys.argv[1]) as store:
        print(len(store.records()))
        one = NetworkRecord("new", "tiny", {}, 0, 1, "finished", {})
        store.add([one], {})
except StoreError as error:
    print(error)
"""


def by_nobody(path: Path) -> list[str]:
    """Read and write a store as a user without rights; return what it says."""
    options: dict[str, Any] = {}
    if os.geteuid() == 0:
        options = {"user": 65534, "group": 65534, "extra_groups": []}
    command = [sys.executable, "-c"]
    done = subprocess.run(
        [*command, READ, str(path)],
        env=ENVIRONMENT,
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        **options,
    )
    if "ModuleNotFoundError" in done.stderr or "denied" in done.stderr:
        pytest.skip("a user without rights cannot run this Python")
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@posix
def test_a_store_that_may_only_be_read() -> None:
    folder = Path(tempfile.mkdtemp(prefix="read-only-"))
    try:
        path = folder / "s"
        with Store(path) as store:
            store.add([record(1)], {})
        path.chmod(0o444)
        folder.chmod(0o555)
        count, said = by_nobody(path)
        assert count == "1"  # what is there is shown
        assert str(path) in said and "cannot be opened for writing" in said
        (said,) = by_nobody(folder / "new")
        assert str(folder / "new") in said
        assert "cannot be opened for writing" in said
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder)


# A clock that jumps.


def test_a_clock_that_jumps(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    jumps = itertools.cycle([0.0, -1e6, 1e9, -3e8, 5.0])

    def jumping() -> float:
        return 1.7e9 + next(jumps)

    options: dict[str, Any] = {"data": small_data(), "workers": 1}
    with Store(tmp_path / "a") as store:
        run_study(tiny_study(), "small", store, progress=False, **options)
    capsys.readouterr()
    monkeypatch.setattr(time, "time", jumping)
    monkeypatch.setattr("tqdm.std.time", jumping)
    with Store(tmp_path / "b") as store:
        report = run_study(
            tiny_study(), "small", store, progress=True, **options
        )
    assert 0 <= report.seconds < 600
    last = capsys.readouterr().err.strip().split("\r")[-1]
    assert "100%" in last and "12 networks new" in last
    assert "-" not in last and last.split("| ")[1].startswith("0")
    assert rows(tmp_path / "a") == rows(tmp_path / "b")
