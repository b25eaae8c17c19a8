"""Every loader of foreign files, given files that are nearly right."""

from __future__ import annotations

import ast
import gzip
import io
import os
import pickle
import struct
import tarfile
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_data import old_pickle
from test_signals import TINY, epilepsy_table, write_tiny

from sparse_book.arrays import read_arrays
from sparse_book.data import signals
from sparse_book.data.images import (
    read_cifar10,
    read_cifar10_subset,
    read_idx,
    read_photographs,
)
from sparse_book.data.signals import read_epilepsy, read_wfdb
from sparse_book.data.store import BrokenDataError
from sparse_book.show.stored_networks import read_digits, read_networks

ROOT = Path(__file__).resolve().parent.parent
NUMBERS = np.random.default_rng(0)
ACTIONS = ["flip", "cut", "insert", "copy", "set"]
EDGES = [b"", b"\0", b"\xff" * 4, b"\x7f\xff\xff\xff", b"\0\0\0\x80", b"\n"]


def mutate(data: st.DataObject, whole: bytes) -> bytes:
    """Flip, cut, insert, repeat or overwrite, one to three times."""
    changed = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 3))):
        near = st.one_of(
            st.integers(0, min(64, len(changed))),
            st.integers(max(0, len(changed) - 120), len(changed)),
            st.integers(0, len(changed)),
        )
        place = data.draw(near)
        action = data.draw(st.sampled_from(ACTIONS))
        if action == "cut":
            del changed[place:]
        elif action == "insert":
            changed[place:place] = data.draw(
                st.one_of(st.sampled_from(EDGES), st.binary(max_size=24))
            )
        elif action == "copy":
            changed[place:place] = changed[place : place + 40]
        elif place < len(changed):
            if action == "flip":
                changed[place] ^= 1 << data.draw(st.integers(0, 7))
            else:
                field = data.draw(st.sampled_from(EDGES))
                changed[place : place + len(field)] = field
    return bytes(changed)


def outcome(read: Callable[[Path], Any], path: Path) -> Any:
    """Return what is read, or None if the file is refused by its name."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            return read(path)
        except ValueError as error:  # BrokenDataError is one
            assert str(path) in str(error), error
            if read not in (read_networks, read_digits, read_arrays):
                assert isinstance(error, BrokenDataError)
            return None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where damaged files are written, each over the last."""
    return tmp_path_factory.mktemp("fuzz")


@settings(max_examples=300)
@given(data=st.data(), packed=st.booleans())
def test_idx(folder: Path, data: st.DataObject, packed: bool) -> None:
    whole = struct.pack(">4B3I", 0, 0, 8, 3, 2, 3, 4) + bytes(range(24))
    path = folder / "images-idx3-ubyte"
    path.write_bytes(
        mutate(data, gzip.compress(whole, 9) if packed else whole)
    )
    found = outcome(read_idx, path)
    if found is not None:
        assert found.dtype == torch.uint8 and 1 <= found.numel() <= 10**6


PIXELS = NUMBERS.integers(0, 256, (2, 3072), dtype=np.uint8)


@settings(max_examples=300)
@given(data=st.data())
def test_cifar10_batches(folder: Path, data: st.DataObject) -> None:
    (folder / "batch").mkdir(exist_ok=True)
    path = folder / "batch" / "test_batch"
    path.write_bytes(mutate(data, old_pickle(PIXELS, [3, 7])))

    def read(path: Path) -> tuple[torch.Tensor, torch.Tensor]:
        return read_cifar10(path.parent, [path.name])

    found = outcome(read, path)
    if found is not None:
        assert found[0].shape[1:] == (3, 32, 32) and found[1].max() < 10
        assert len(found[0]) == len(found[1])


@settings(max_examples=150)
@given(data=st.data())
def test_cifar10_archives(folder: Path, data: st.DataObject) -> None:
    buffer = io.BytesIO()
    batch = old_pickle(PIXELS, [3, 7])
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        member = tarfile.TarInfo("cifar-10-batches-py/test_batch")
        member.size = len(batch)
        tar.addfile(member, io.BytesIO(batch))
    path = folder / "cifar-10-python.tar.gz"
    path.write_bytes(mutate(data, buffer.getvalue()))

    def read(path: Path) -> tuple[torch.Tensor, torch.Tensor]:
        return read_cifar10(path, ["test_batch"])

    found = outcome(read, path)
    if found is not None:
        assert len(found[0]) == len(found[1])


@settings(max_examples=200)
@given(data=st.data(), which=st.booleans())
def test_wfdb(folder: Path, data: st.DataObject, which: bool) -> None:
    pytest.importorskip("wfdb", exc_type=ImportError)
    header = (
        b"tiny 2 360 4\n"
        b"tiny.dat 212 200 11 1024 995 3997 0 MLII\n"
        b"tiny.dat 212 200 11 1024 1011 4048 0 V5\n"
    )
    if which:
        path = write_tiny(folder / "wfdb", header=mutate(data, header))
    else:
        path = write_tiny(folder / "wfdb", mutate(data, TINY))
    try:
        found = outcome(read_wfdb, path)
    except OSError as error:  # its header names another file
        assert error.filename is not None
        return
    if found is not None:
        assert found.samples.isfinite().all() and found.rate > 0


@settings(max_examples=150)
@given(data=st.data(), packed=st.booleans())
def test_epilepsy(folder: Path, data: st.DataObject, packed: bool) -> None:
    table = epilepsy_table(2, 5)
    path = folder / "data.csv"
    path.write_bytes(
        mutate(data, gzip.compress(table, 9) if packed else table)
    )
    found = outcome(read_epilepsy, path)
    if found is not None:
        assert found[0].shape == (len(found[1]), 178)
        assert found[1].min() >= 1 and found[1].max() <= 5


def archive(save: Callable[..., None], **arrays: Any) -> bytes:
    """Return an npz file's bytes."""
    buffer = io.BytesIO()
    save(buffer, **arrays)
    return buffer.getvalue()


GREY = NUMBERS.integers(0, 256, (5, 7), dtype=np.uint8)
KEPT = np.arange(12000, dtype=np.float32)
ARRAYS: list[tuple[Callable[[Path], Any], dict[str, Any]]] = [
    (read_photographs, {"a": GREY, "b": GREY.T}),
    (read_cifar10_subset, {"data": PIXELS, "labels": PIXELS[0, :2] % 10}),
    (
        read_networks,
        {
            "codes": GREY.astype(np.int8)[:, :6],
            "scales": np.ones((5, 2), np.float32),
            "coefficients": np.ones(5),
            "shape weight": np.array([2, 2]),
            "shape bias": np.array([2]),
        },
    ),
    (
        read_digits,
        {
            "images": np.resize(GREY, (2, 1, 28, 28)),
            "labels": np.array([1, 2], np.uint8),
        },
    ),
]


def same(one: Any, other: Any) -> bool:
    """Whether two results are equal, tensor by tensor."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one == other
    return len(one) == len(other) and all(map(same, one, other))


@settings(max_examples=300)
@given(data=st.data(), kind=st.integers(0, 3), packed=st.booleans())
def test_npz(
    folder: Path, data: st.DataObject, kind: int, packed: bool
) -> None:
    read, arrays = ARRAYS[kind]
    whole = archive(np.savez_compressed if packed else np.savez, **arrays)
    path = folder / "some.npz"
    path.write_bytes(whole)
    expected = read(path)
    path.write_bytes(mutate(data, whole))
    found = outcome(read, path)
    # Checksums leave only what has no meaning, or the file as it was.
    assert found is None or same(found, expected)


def test_every_third_bit_of_a_small_archive(folder: Path) -> None:
    whole = archive(np.savez_compressed, a=GREY, b=KEPT[:3])
    path = folder / "bits.npz"
    refused = 0
    for bit in range(0, 8 * len(whole), 3):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        found = outcome(read_arrays, path)
        if found is None:
            refused += 1
            continue
        assert set(found) == {"a", "b"}
        assert np.array_equal(found["a"], GREY)
        assert np.array_equal(found["b"], KEPT[:3])
    assert refused > len(whole) // 2


class Trap:
    """What calls a function when it is unpickled."""

    def __init__(self, call: Callable[..., Any], *arguments: Any) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call, self.arguments


def traps(mark: Path) -> list[Any]:
    """Objects whose unpickling makes a file, each in another way."""
    system = Trap(os.system, f"touch '{mark}'")
    made = Trap(eval, f"open({str(mark)!r}, 'w').close()")
    nested = Trap(tuple, [system])
    shared = [system]
    inner = Trap(getattr, Trap(__import__, "os"), "system")
    return [
        system,
        made,
        nested,
        inner,
        {b"data": system, b"labels": [1]},
        {b"data": shared, b"labels": shared},
        {b"labels": [1], b"data": PIXELS, b"more": made},
    ]


@pytest.mark.parametrize("number", range(7))
@pytest.mark.parametrize("protocol", range(6))
def test_no_pickle_runs_anything(
    tmp_path: Path, number: int, protocol: int
) -> None:
    mark = tmp_path / "mark"
    trap = traps(mark)[number]
    (tmp_path / "test_batch").write_bytes(pickle.dumps(trap, protocol))
    with pytest.raises(BrokenDataError, match="test_batch"):
        read_cifar10(tmp_path, ["test_batch"])
    objects = np.array([trap, None], dtype=object)
    np.savez(tmp_path / "some.npz", a=objects, data=objects, labels=objects)
    for read, _ in ARRAYS:
        assert outcome(read, tmp_path / "some.npz") is None
    np.savez(tmp_path / "first.npz", samples=objects)
    with pytest.raises(BrokenDataError, match=r"first\.npz"):
        signals._saved("mitdb", tmp_path / "first.npz")
    assert not mark.exists()


@pytest.mark.parametrize(
    "memo",
    [
        b"\x80\x02}q\x01h\x01h\x01s.",  # a dictionary that holds itself
        b"\x80\x02(h\x07tR.",  # what was never remembered
        b"\x80\x02cnumpy\ndtype\nq\x01(h\x01tR.",
        b"\x80\x02cnumpy\nndarray\n(cnumpy\nndarray\ntRcnumpy\ndtype\nb.",
        b"\x80\x02" + b"(" * 5000 + b".",
        b"\x80\x02" + b"]" * 5000 + b"a" * 4999 + b".",
        b"\x80\x02X\xff\xff\xff\x7fshort.",
        b"\x80\x02\x8b\xff\xff\xff\x7f.",
    ],
)
def test_tricks_with_the_memory_of_a_pickle(
    tmp_path: Path, memo: bytes
) -> None:
    (tmp_path / "test_batch").write_bytes(memo)
    tracemalloc.start()
    try:
        with pytest.raises(BrokenDataError, match="test_batch"):
            read_cifar10(tmp_path, ["test_batch"])
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_archives_packed_in_unusual_ways(tmp_path: Path, method: int) -> None:
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", method) as made:
        made.writestr("a.npy", bytes(1 << 24))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"bomb\.npz.*unusual"):
            read_arrays(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 22
    finally:
        tracemalloc.stop()


def test_the_library_loads_no_foreign_pickle() -> None:
    """No unpickling, torch.load with weights only, no pictures' decoders."""
    seen = 0
    for path in (ROOT / "sparse_book").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {alias.name for alias in node.names}
                names.add(getattr(node, "module", None) or "")
                roots = {name.split(".")[0] for name in names}
                assert not roots & {"marshal", "shelve", "dill"}, path
                if "PIL" in roots:  # a reader's own photograph
                    assert path.name == "encode.py"
                assert "Unpickler" not in names, path
                if "pickle" in roots:
                    # The unpickler that knows three names, and what a run
                    # says to its own workers, which is never a file.
                    assert path.name in {"images.py", "distributed.py"}
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            options = {k.arg: ast.unparse(k.value) for k in node.keywords}
            assert options.get("allow_pickle", "False") == "False", path
            if path.name == "distributed.py":
                assert called not in {"open", "pickle.load"}
                assert ".read" not in called
                if called == "pickle.loads":
                    assert ast.unparse(node) in {
                        "pickle.loads(pickled)",
                        "pickle.loads(request)",
                    }
                    continue
            assert called not in {
                "pickle.load",
                "pickle.loads",
                "pickle.Unpickler",
                "np.load",
                "numpy.load",
                "yaml.load",
                "eval",
                "exec",
            }, f"{path} calls {called}"
            if called == "torch.load":
                assert options.get("weights_only") == "True", path
            seen += 1
    assert seen > 1000
