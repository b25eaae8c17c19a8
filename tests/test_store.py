"""The store: whole ensembles or none, whatever happens to the file."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import multiprocessing
import os
import sqlite3
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparse_book.training.store import (
    NetworkRecord,
    SetAsideWarning,
    Store,
    StoreError,
    _fault,
    default_store_path,
)


def record(key: str, **changes: object) -> NetworkRecord:
    """A network's record."""
    plain = NetworkRecord(
        key,
        "tiny",
        {"hidden": 8, "coefficient": 0.1},
        0,
        2,
        "finished",
        {"accuracy": 0.5},
        [{"loss": 1.0}, {"loss": 0.5}],
        {"trace": [1.0, 2.5]},
    )
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]


def test_what_was_written_is_read_in_another_process(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "store.sqlite"
    with Store(path) as store:
        assert store.add([record("b"), record("a", seed=3)], {"torch": "x"})
    with Store(path) as store:
        found = store.records("tiny")
        assert [r.key for r in found] == ["a", "b"]
        assert found[0] == record("a", seed=3, ensemble=1)
        assert store.provenance() == {1: {"torch": "x"}}
        assert store.finished(["a", "c"]) == {"a"}
        assert store.records("other") == []


def test_a_network_is_kept_once(tmp_path: Path) -> None:
    with Store(tmp_path / "s") as store:
        assert store.add([record("a"), record("b")], {"n": 1}) == 2
        again = record("a", measures={"accuracy": 0.9})
        assert store.add([again, record("c")], {"n": 2}) == 1
        assert store.add([record("a")], {"n": 3}) == 0
        kept = {r.key: r.ensemble for r in store.records()}
        assert kept == {"a": 1, "b": 1, "c": 2}
        assert store.records()[0].measures == {"accuracy": 0.5}
        assert set(store.provenance()) == {1, 2}  # nothing without networks


def test_values_that_are_not_finite_survive(tmp_path: Path) -> None:
    odd = {"loss": math.nan, "norm": math.inf}
    with Store(tmp_path / "s") as store:
        store.add([record("a", measures=odd, status="diverged")], {})
        found = store.records()[0]
    assert math.isnan(found.measures["loss"])
    assert found.measures["norm"] == math.inf


@settings(max_examples=20)
@given(share=st.floats(0.0005, 0.9995))
def test_a_truncated_store_is_set_aside(
    share: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("store") / "s.sqlite"
    with Store(path) as store:
        store.add([record(f"{k}") for k in range(30)], {})
    whole = path.read_bytes()
    path.write_bytes(whole[: max(1, int(share * len(whole)))])
    with pytest.warns(SetAsideWarning, match="set aside"):
        store = Store(path)
    with store:
        assert store.records() == []
        store.add([record("new")], {})
    assert path.with_name("s.sqlite.set-aside-1").is_file()


@settings(max_examples=60)
@given(place=st.floats(0, 1), bit=st.integers(0, 7))
def test_no_flipped_bit_changes_a_number(
    place: float, bit: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("store") / "s.sqlite"
    with Store(path) as store:
        store.add([record(f"{k}") for k in range(12)], {"n": 1})
        before = store.records()
    data = bytearray(path.read_bytes())
    data[min(int(place * len(data)), len(data) - 1)] ^= 1 << bit
    path.write_bytes(bytes(data))
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SetAsideWarning)
        try:
            with Store(path) as store:
                after = store.records()
        except StoreError:  # a message is as good as setting it aside
            return
    # Untouched, or set aside: never something else.
    assert after in (before, [])


def test_a_store_of_another_version_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "s"
    Store(path).close()
    with sqlite3.connect(path) as raw:
        raw.execute("PRAGMA user_version = 99")
    raw.close()
    with pytest.warns(SetAsideWarning, match="version 99"):
        Store(path).close()
    assert len(list(tmp_path.iterdir())) == 2


def test_a_second_damaged_store_gets_another_name(tmp_path: Path) -> None:
    path = tmp_path / "s"
    for _ in range(2):
        path.write_text("no store")
        with pytest.warns(SetAsideWarning):
            Store(path).close()
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == ["s", "s.set-aside-1", "s.set-aside-2"]


def test_a_full_disk_keeps_what_was_there(tmp_path: Path) -> None:
    with Store(tmp_path / "s") as store:
        store.add([record("first")], {})
        pages = store._db.execute("PRAGMA page_count").fetchone()[0]
        store._db.execute(f"PRAGMA max_page_count = {pages + 1}")
        large = [record(f"{k}", vectors={"v": [0.5] * 4000}) for k in range(5)]
        with pytest.raises(StoreError, match="disk is full"):
            store.add(large, {})
        assert [r.key for r in store.records()] == ["first"]
        assert set(store.provenance()) == {1}
        store._db.execute("PRAGMA max_page_count = 100000")
        assert store.add(large, {}) == 5  # room was made


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        with pytest.raises(StoreError, match=r"opened for writing|denied"):
            Store(tmp_path / "s")
    finally:
        tmp_path.chmod(stat.S_IRWXU)


def test_a_path_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file"):
        Store(tmp_path / "file" / "s")


def _add_many(path: Path, name: str) -> None:
    with Store(path) as store:
        for k in range(40):
            store.add([record(f"{name}-{k}"), record(f"both-{k}")], {"k": k})


def test_tables_made_between_two_looks_are_no_damage(tmp_path: Path) -> None:
    """Another process makes the store while this one looks at the file."""
    path = tmp_path / "s"

    def meddle(statement: str) -> None:
        if "sqlite_master" in statement:
            with contextlib.suppress(StoreError):
                Store(path, timeout=0).close()

    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.set_trace_callback(meddle)
        assert _fault(connection) == ""


def test_two_processes_share_a_store(tmp_path: Path) -> None:
    path = tmp_path / "s"
    Store(path).close()
    context = multiprocessing.get_context("spawn")
    pair = [
        context.Process(target=_add_many, args=(path, name)) for name in "ab"
    ]
    for process in pair:
        process.start()
    for process in pair:
        process.join(60)
        assert process.exitcode == 0
    with Store(path) as store:
        keys = [r.key for r in store.records()]
    assert len(keys) == len(set(keys)) == 120


def test_a_lock_that_is_held_is_named(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with Store(path, timeout=0.1) as store:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreError, match="another process"):
            store.add([record("a")], {})
        other.execute("ROLLBACK")
        other.close()
        assert store.add([record("a")], {}) == 1


def test_where_the_store_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARSE_BOOK_STORE", "here.sqlite")
    assert default_store_path() == Path("here.sqlite")
    monkeypatch.delenv("SPARSE_BOOK_STORE")
    monkeypatch.setenv("XDG_DATA_HOME", "data")
    assert default_store_path() == Path("data/sparse-book/store.sqlite")
