"""Data: found, fetched from a server that misbehaves, read, refused."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import struct
import subprocess
import sys
import tarfile
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparse_book.data import images, store
from sparse_book.data import load as loading
from sparse_book.data.images import read_cifar10, read_idx, read_photographs
from sparse_book.data.load import load
from sparse_book.data.patches import extract_patches
from sparse_book.data.store import (
    BrokenDataError,
    DataFile,
    MissingDataError,
    cache_folder,
    download,
)
from sparse_book.guard import import_torchvision

from conftest import ROOT

REAL = os.environ.get("SPARSE_BOOK_DATA", "")
with_real_data = pytest.mark.skipif(
    not (Path(REAL) / "MNIST").is_dir() or not REAL,
    reason="needs real data (variable SPARSE_BOOK_DATA)",
)


def md5(contents: bytes) -> str:
    return hashlib.md5(contents, usedforsecurity=False).hexdigest()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of its own for every test, and no other data."""
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("SPARSE_BOOK_DATA", raising=False)
    return cache_folder()


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def size_of(path: Path) -> int:
    """Bytes of a file; none if somebody has removed it since it was seen."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


# A server that serves, or does not.


class Server:
    """Serves `contents` by path, in one of several ways."""

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}
        self.manner = "well"
        self.requests: list[str] = []
        self.gate = threading.Barrier(2)
        self.release = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, *arguments: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever).start()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.requests.append(handler.path)
        contents = self.contents.get(handler.path)
        if contents is None:
            handler.send_error(404)
            return
        if self.manner == "wrong":
            contents = contents[:-1] + bytes([contents[-1] ^ 1])
        if self.manner == "hotel":
            contents = b"<html>Please log in.</html>"
        if self.manner == "both at once":
            self.gate.wait(60)
        handler.send_response(200)
        if self.manner != "no length":
            handler.send_header("Content-Length", str(len(contents)))
        handler.end_headers()
        if self.manner in ("cut", "stalled"):
            handler.wfile.write(contents[: len(contents) // 2])
            if self.manner == "stalled":
                self.release.wait(60)
            return
        handler.wfile.write(contents)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.release.set()
    server.server.shutdown()
    server.server.server_close()


CONTENTS = bytes(range(256)) * 1000
KNOWN = DataFile("some/where.bin", f"md5:{md5(CONTENTS)}", len(CONTENTS))


def test_download_then_the_cache(
    server: Server, cache: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    server.contents["/where.bin"] = CONTENTS
    path = download(KNOWN, [server.url + "where.bin"])
    assert path == cache / "some" / "where.bin"
    assert path.read_bytes() == CONTENTS
    assert "where.bin" in capfd.readouterr().err  # the progress bar
    assert store.find_file(KNOWN) == path
    assert files_below(cache) == [path]


def test_without_a_length(server: Server) -> None:
    server.contents["/where.bin"] = CONTENTS
    server.manner = "no length"
    path = download(KNOWN, [server.url + "where.bin"], progress=False)
    assert path.read_bytes() == CONTENTS


@pytest.mark.parametrize(
    ("manner", "reason"),
    [
        ("cut", f"{len(CONTENTS) // 2} of {len(CONTENTS)} bytes"),
        ("stalled", "timed out"),
        ("wrong", "its checksum is md5:"),
        ("hotel", "truncated: 27 bytes"),
        ("404", "404"),
        ("nobody", "refused"),
    ],
)
def test_a_failed_download_leaves_nothing(
    server: Server,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    manner: str,
    reason: str,
) -> None:
    monkeypatch.setattr(store, "_PATIENCE", 0.3)
    server.manner = manner
    if manner != "404":
        server.contents["/where.bin"] = CONTENTS
    url = "http://127.0.0.1:9/" if manner == "nobody" else server.url
    with pytest.raises(MissingDataError) as caught:
        download(KNOWN, [url + "where.bin"], progress=False)
    message = str(caught.value)
    assert reason in message and url in message
    assert str(cache / KNOWN.path) in message and KNOWN.checksum in message
    assert "SPARSE_BOOK_DATA" in message
    assert not files_below(cache)


def test_the_second_mirror_helps(server: Server, cache: Path) -> None:
    server.contents["/good/where.bin"] = CONTENTS
    server.contents["/bad/where.bin"] = b"something else"
    urls = [f"{server.url}{name}/where.bin" for name in ("bad", "good")]
    path = download(KNOWN, urls, progress=False)
    assert path.read_bytes() == CONTENTS
    assert server.requests == ["/bad/where.bin", "/good/where.bin"]
    assert files_below(cache) == [path]


def test_an_interrupted_download_leaves_nothing(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.contents["/where.bin"] = CONTENTS

    def interrupt(self: object, count: int) -> None:
        assert len(files_below(cache)) == 1  # aside, under another name
        assert not (cache / KNOWN.path).exists()
        raise KeyboardInterrupt

    monkeypatch.setattr(store.tqdm, "update", interrupt)
    with pytest.raises(KeyboardInterrupt):
        download(KNOWN, [server.url + "where.bin"], progress=False)
    assert not files_below(cache)


def test_a_killed_download_is_not_taken_for_a_file(
    server: Server, cache: Path
) -> None:
    server.contents["/where.bin"] = CONTENTS
    server.manner = "stalled"
    program = (
        "from sparse_book.data.store import DataFile, download\n"
        f"download({KNOWN!r}, [{server.url + 'where.bin'!r}])\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program], stderr=subprocess.DEVNULL
    )
    try:
        while not sum(map(size_of, files_below(cache))):
            assert child.poll() is None
            time.sleep(0.01)
    finally:
        child.kill()
        child.wait()
    assert len(files_below(cache)) == 1  # nobody could clean up
    assert store.find_file(KNOWN) is None
    server.manner = "well"
    path = download(KNOWN, [server.url + "where.bin"], progress=False)
    assert store.find_file(KNOWN) == path


def test_two_processes_at_once(server: Server, cache: Path) -> None:
    server.contents["/where.bin"] = CONTENTS
    server.manner = "both at once"  # neither is served before both ask
    program = (
        "from sparse_book.data.store import DataFile, download\n"
        f"print(download({KNOWN!r}, [{server.url + 'where.bin'!r}]))\n"
    )
    children = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for _ in range(2)
    ]
    outputs = [child.communicate(timeout=120)[0] for child in children]
    assert [child.returncode for child in children] == [0, 0]
    assert outputs == [f"{cache / KNOWN.path}\n"] * 2
    assert files_below(cache) == [cache / KNOWN.path]
    assert (cache / KNOWN.path).read_bytes() == CONTENTS


def test_a_cache_that_cannot_be_written(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.contents["/where.bin"] = CONTENTS
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "file"))
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    with pytest.raises(MissingDataError, match="cannot be written to"):
        download(KNOWN, [server.url + "where.bin"])
    assert not server.requests


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0,
    reason="to the superuser nothing is read-only",
)
def test_a_read_only_cache(server: Server, cache: Path) -> None:
    server.contents["/where.bin"] = CONTENTS
    (cache / "some").mkdir(parents=True)
    (cache / "some").chmod(0o500)
    try:
        with pytest.raises(MissingDataError, match="cannot be written to"):
            download(KNOWN, [server.url + "where.bin"])
    finally:
        (cache / "some").chmod(0o700)


@pytest.mark.parametrize(
    ("platform", "variable", "below"),
    [
        ("linux", "XDG_CACHE_HOME", "given/sparse-book"),
        ("linux", "", "home/.cache/sparse-book"),
        ("darwin", "", "home/Library/Caches/sparse-book"),
        ("win32", "LOCALAPPDATA", "given/sparse-book"),
        ("win32", "", "home/AppData/Local/sparse-book"),
    ],
)
def test_cache_folder(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    platform: str,
    variable: str,
    below: str,
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, "not/absolute")
    if variable:
        monkeypatch.setenv(variable, str(tmp_path / "given"))
    assert cache_folder() == tmp_path / below


def test_search_order(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = {"root": tmp_path / "r", "env": tmp_path / "e", "cache": cache}
    for folder in places.values():
        (folder / "some").mkdir(parents=True)
        (folder / KNOWN.path).write_bytes(CONTENTS)
    assert store.find_file(KNOWN) == cache / KNOWN.path
    monkeypatch.setenv("SPARSE_BOOK_DATA", str(places["env"]))
    assert store.find_file(KNOWN) == places["env"] / KNOWN.path
    found = store.find_file(KNOWN, places["root"])
    assert found == places["root"] / KNOWN.path
    (places["root"] / KNOWN.path).unlink()
    assert store.find_file(KNOWN, places["root"]) == cache / KNOWN.path
    monkeypatch.setenv("SPARSE_BOOK_DATA", str(tmp_path / "misspelt"))
    with pytest.raises(MissingDataError, match=r"SPARSE_BOOK_DATA.*misspelt"):
        store.find_file(KNOWN)


# The idx reader, given anything.

shapes = st.lists(st.integers(1, 4), min_size=1, max_size=3)


@given(shape=shapes, packed=st.booleans(), data=st.data())
def test_idx_survives_every_change(
    tmp_path_factory: pytest.TempPathFactory,
    shape: list[int],
    packed: bool,
    data: st.DataObject,
) -> None:
    count = int(np.prod(shape))
    pixels = data.draw(st.binary(min_size=count, max_size=count))
    whole = struct.pack(f">4B{len(shape)}I", 0, 0, 8, len(shape), *shape)
    whole += pixels
    path = tmp_path_factory.mktemp("idx") / "file"
    path.write_bytes(gzip.compress(whole, mtime=0) if packed else whole)
    expected = torch.tensor(list(pixels), dtype=torch.uint8).reshape(shape)
    assert torch.equal(read_idx(path), expected)

    changed = bytearray(path.read_bytes())
    action = data.draw(st.sampled_from(["flip", "cut", "add", "header"]))
    if action == "flip":
        place = data.draw(st.integers(0, len(changed) - 1))
        changed[place] ^= 1 << data.draw(st.integers(0, 7))
    elif action == "cut":
        del changed[data.draw(st.integers(0, len(changed) - 1)) :]
    elif action == "add":
        changed += data.draw(st.binary(min_size=1, max_size=40))
    else:
        header = data.draw(st.binary(min_size=1, max_size=16))
        changed[: len(header)] = header
    path.write_bytes(changed)
    try:
        tensor = read_idx(path)
    except BrokenDataError as error:
        assert str(path) in str(error) and "Delete it" in str(error)
    else:  # a header or pixels that are consistent after all
        assert tensor.dtype == torch.uint8 and tensor.numel() >= 1
        if not packed:
            assert tensor.numel() == len(changed) - 4 - 4 * tensor.ndim


@given(contents=st.binary(max_size=200), packed=st.booleans())
def test_idx_survives_any_bytes(
    tmp_path_factory: pytest.TempPathFactory, contents: bytes, packed: bool
) -> None:
    path = tmp_path_factory.mktemp("idx") / "file"
    path.write_bytes(gzip.compress(contents) if packed else contents)
    with pytest.raises(BrokenDataError):
        read_idx(path)


@pytest.mark.parametrize("promised", [1, 2**20, 2**31, 2**32 - 1])
@pytest.mark.parametrize("packed", [False, True])
def test_idx_takes_no_memory_on_trust(
    tmp_path: Path, promised: int, packed: bool
) -> None:
    """Neither for a promise that is too large nor for a bomb."""
    bomb = struct.pack(">4B2I", 0, 0, 8, 2, promised, 7) + bytes(1 << 26)
    contents = gzip.compress(bomb, 1) if packed else bomb[:1000]
    (tmp_path / "bomb").write_bytes(contents)
    del bomb, contents
    limit = max(4 << 20, 7 * promised * 3 if promised <= 2**20 else 0)
    tracemalloc.start()
    try:
        with pytest.raises(BrokenDataError):
            read_idx(tmp_path / "bomb")
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


# A small MNIST, through all of `load`.


@pytest.fixture
def small_mnist(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Packed files of a set of 12 + 8 images, which `load` takes for MNIST."""
    numbers = np.random.default_rng(0)
    shapes, sums, packed = {}, [], {}
    for part, count in {"train": 12, "t10k": 8}.items():
        shapes[f"{part}-images-idx3-ubyte"] = (count, 28, 28)
        shapes[f"{part}-labels-idx1-ubyte"] = (count,)
    for name, shape in shapes.items():
        top = 256 if len(shape) == 3 else 10
        entries = numbers.integers(0, top, shape, dtype=np.uint8)
        plain = struct.pack(f">4B{len(shape)}I", 0, 0, 8, len(shape), *shape)
        plain += entries.tobytes()
        packed[name] = gzip.compress(plain, mtime=0)
        sizes = (md5(packed[name]), md5(plain), str(len(packed[name])))
        sums.append(" ".join(sizes))
    table = "\n" + "\n".join(sums) + "\n"
    monkeypatch.setattr(loading, "_IDX_SHAPES", shapes)
    monkeypatch.setitem(loading._IDX_SUMS, "MNIST", table)
    return packed


def test_load_downloads_once(
    server: Server,
    cache: Path,
    small_mnist: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, contents in small_mnist.items():
        server.contents[f"/mnist/{name}.gz"] = contents
    mirrors = ["http://127.0.0.1:9/mnist/", f"{server.url}mnist/"]
    datasets = import_torchvision().datasets
    monkeypatch.setattr(datasets.MNIST, "mirrors", mirrors)
    with pytest.raises(MissingDataError, match="switched off"):
        load("mnist", download=False)
    assert not server.requests
    train = load("mnist")
    assert train.images.shape == (12, 1, 28, 28)
    assert len(server.requests) == 2
    again = load("mnist", download=False)
    assert torch.equal(train.images, again.images)
    assert train.checksum == again.checksum
    assert len(server.requests) == 2
    assert len(load("mnist", split="test")) == 8
    assert sorted(files_below(cache)) == sorted(
        cache / "MNIST" / "raw" / f"{name}.gz" for name in small_mnist
    )


def test_packed_and_unpacked_are_the_same(
    tmp_path: Path, small_mnist: dict[str, bytes]
) -> None:
    sets = []
    for suffix, unpack in ((".gz", bytes), ("", gzip.decompress)):
        raw = tmp_path / f"with{suffix}" / "MNIST" / "raw"
        raw.mkdir(parents=True)
        for name, contents in small_mnist.items():
            (raw / f"{name}{suffix}").write_bytes(unpack(contents))
        sets.append(load("mnist", root=raw.parents[1], download=False))
    packed, plain = sets
    assert torch.equal(packed.images, plain.images)
    assert torch.equal(packed.labels, plain.labels)
    assert packed.checksum == plain.checksum
    assert packed.source != plain.source


def test_load_refuses_by_name(
    tmp_path: Path, small_mnist: dict[str, bytes]
) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, contents in small_mnist.items():
        (raw / f"{name}.gz").write_bytes(contents)
    labels = raw / "train-labels-idx1-ubyte.gz"
    labels.write_bytes(labels.read_bytes()[:-1] + b"!")
    with pytest.raises(BrokenDataError) as caught:
        load("mnist", root=tmp_path, download=False)
    assert str(labels) in str(caught.value)
    labels.unlink()
    with pytest.raises(MissingDataError) as missing:
        load("mnist", root=tmp_path, download=False)
    message = str(missing.value)
    assert "MNIST/raw/train-labels-idx1-ubyte.gz" in message
    assert f"{tmp_path} (root)" in message
    assert isinstance(missing.value, FileNotFoundError)
    assert isinstance(caught.value, ValueError)


def test_without_torchvision_the_error_still_helps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def absent() -> None:
        raise ModuleNotFoundError("torchvision is not installed")

    monkeypatch.setattr(loading, "import_torchvision", absent)
    for name, file in [
        ("mnist", "train-images-idx3-ubyte.gz"),
        ("cifar10", "cifar-10-python.tar.gz"),
    ]:
        with pytest.raises(MissingDataError) as caught:
            load(name)
        assert "torchvision is not installed" in str(caught.value)
        assert file in str(caught.value)


# CIFAR-10, written as Python 2 wrote it.


def short(text: bytes) -> bytes:
    return b"U" + bytes([len(text)]) + text


def old_pickle(pixels: np.ndarray, labels: list[int]) -> bytes:
    """The instructions of the real batches, in their order."""
    raw, count = pixels.tobytes(), len(labels)
    number = struct.pack("<H", count)
    return b"".join(
        [
            b"\x80\x02}q\x01(",
            short(b"batch_label") + b"q\x02" + short(b"a batch") + b"q\x03",
            short(b"labels") + b"q\x04]q\x05(",
            b"".join(b"K" + bytes([n]) for n in labels) + b"e",
            short(b"data") + b"q\x06cnumpy.core.multiarray\n_reconstruct\n",
            b"q\x07cnumpy\nndarray\nq\x08K\x00\x85q\x09",
            short(b"b") + b"\x87Rq\x0a(K\x01M" + number,
            b"M\x00\x0c\x86cnumpy\ndtype\nq\x0b" + short(b"u1"),
            b"K\x00K\x01\x87Rq\x0c(K\x03" + short(b"|") + b"NNN",
            b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89",
            b"T" + struct.pack("<I", len(raw)) + raw + b"tb",
            short(b"filenames") + b"]q\x0d",
            b"u.",
        ]
    )


@pytest.fixture
def small_cifar10(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, Path, np.ndarray, list[int]]:
    """A folder of batches, its archive, all pixels and all labels."""
    numbers = np.random.default_rng(1)
    pixels = numbers.integers(0, 256, (6, 4, 3072), dtype=np.uint8)
    labels = numbers.integers(0, 10, (6, 4)).tolist()
    folder = tmp_path / "batches" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    sums = {}
    for name, rows, numbers_ in zip(
        loading._CIFAR10_BATCHES, pixels, labels, strict=True
    ):
        contents = old_pickle(rows, numbers_)
        (folder / name).write_bytes(contents)
        sums[name] = f"md5:{md5(contents)}"
    archive = tmp_path / "archive" / "cifar-10-python.tar.gz"
    archive.parent.mkdir()
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, folder.name)
    monkeypatch.setattr(loading, "_BATCH_SIZE", 4)
    monkeypatch.setattr(loading, "_CIFAR10_BATCHES", sums)
    monkeypatch.setattr(
        loading,
        "_CIFAR10_ARCHIVE",
        DataFile(archive.name, f"md5:{md5(archive.read_bytes())}"),
    )
    return folder, archive, pixels, np.array(labels).flatten().tolist()


def test_cifar10_from_folder_and_archive(
    small_cifar10: tuple[Path, Path, np.ndarray, list[int]],
) -> None:
    folder, archive, pixels, labels = small_cifar10
    first = load("cifar10", root=folder.parent, download=False)
    assert first.images.shape == (20, 3, 32, 32)
    expected = pixels[:5].reshape(20, 3, 32, 32)
    assert torch.equal(first.images, torch.from_numpy(expected) / 255)
    assert first.labels.tolist() == labels[:20]
    second = load("cifar10", root=archive.parent, download=False)
    assert torch.equal(first.images, second.images)
    assert first.checksum == second.checksum
    test = load("cifar10", root=archive.parent, split="test")
    assert test.labels.tolist() == labels[20:]
    assert test.classes[9] == "truck"


def test_cifar10_is_downloaded(
    small_cifar10: tuple[Path, Path, np.ndarray, list[int]],
    server: Server,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, archive, _, labels = small_cifar10
    server.contents["/kriz/cifar-10-python.tar.gz"] = archive.read_bytes()
    monkeypatch.setattr(
        import_torchvision().datasets.CIFAR10,
        "url",
        f"{server.url}kriz/cifar-10-python.tar.gz",
    )
    assert load("cifar10").labels.tolist() == labels[:20]
    assert files_below(cache) == [cache / "cifar-10-python.tar.gz"]


def test_cifar10_as_torchvision_reads_it(
    small_cifar10: tuple[Path, Path, np.ndarray, list[int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, *_ = small_cifar10
    theirs = import_torchvision().datasets.CIFAR10
    monkeypatch.setattr(theirs, "_check_integrity", lambda self: True)
    monkeypatch.setattr(theirs, "_load_meta", lambda self: None)
    rows = theirs(folder.parent, train=True).data  # (count, 32, 32, 3)
    ours, _ = read_cifar10(folder, [f"data_batch_{n}" for n in range(1, 6)])
    assert np.array_equal(ours.movedim(1, -1).numpy(), rows)


@pytest.mark.parametrize(
    ("instructions", "reason"),
    [
        (b"cos\nsystem\n(S'touch %b'\ntR.", "os.system"),
        (b'c__builtin__\neval\n(S\'open("%b", "w")\'\ntR.', "eval"),
        (b"(S'touch %b'\nios\nsystem\n.", "os.system"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93(S'%b'\ntR.", "no use for"),
        (b"\x80\x02}r\xff\xff\xff\x7f.", "LONG_BINPUT has number"),
        (b"}p2147483647\n.", "PUT has number"),
        (b"cnumpy\nload\n(S'%b'\ntR.", "numpy.load"),
        (b"cnumpy.core.multiarray\nfromfile\n.", "fromfile"),
        (b"\x80\x02P%b\n.", "persistent"),
        (b"N.", "dictionary"),
        (b"", "unpickled"),
    ],
)
def test_cifar10_runs_no_program(
    tmp_path: Path, instructions: bytes, reason: str
) -> None:
    mark = tmp_path / "mark"
    contents = instructions.replace(b"%b", os.fsencode(mark))
    (tmp_path / "test_batch").write_bytes(contents)
    with pytest.raises(BrokenDataError, match=reason):
        read_cifar10(tmp_path, ["test_batch"])
    assert not mark.exists()


@given(place=st.integers(0, 400), value=st.integers(0, 255))
def test_cifar10_survives_a_changed_byte(place: int, value: int) -> None:
    rows = np.zeros((2, 3072), dtype=np.uint8)
    contents = bytearray(old_pickle(rows, [3, 7]))
    contents[place] = value
    try:
        pixels, labels = images._read_batch(bytes(contents))
    except ValueError:
        return
    assert len(pixels) == len(labels) and int(labels.max()) < 10


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda contents: contents[:-40], "cannot be unpacked"),
        (lambda contents: b"no archive", "cannot be unpacked"),
        (lambda contents: empty_archive(), "does not hold data_batch_1"),
    ],
)
def test_cifar10_archive_refused(
    small_cifar10: tuple[Path, Path, np.ndarray, list[int]],
    damage: Callable[[bytes], bytes],
    reason: str,
) -> None:
    _, archive, *_ = small_cifar10
    archive.write_bytes(damage(archive.read_bytes()))
    with pytest.raises(BrokenDataError, match=reason):
        read_cifar10(archive, ["data_batch_1", "data_batch_9"])
    with pytest.raises(BrokenDataError, match="checksum"):
        load("cifar10", root=archive.parent, download=False)


def empty_archive() -> bytes:
    buffer = io.BytesIO()
    tarfile.open(fileobj=buffer, mode="w:gz").close()
    return buffer.getvalue()


def test_a_missing_file_is_no_broken_one(tmp_path: Path) -> None:
    for read in (
        read_idx,
        read_photographs,
        lambda path: read_cifar10(path, ["test_batch"]),
    ):
        with pytest.raises(FileNotFoundError):
            read(tmp_path / "nowhere")


# The guard.


def in_a_process(program: str, **variables: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_torchvision_is_not_imported_before_it_is_needed(
    tmp_path: Path, small_mnist: dict[str, bytes]
) -> None:
    out = in_a_process(
        "import sys\n"
        "from sparse_book.data.load import load\n"
        "assert 'sklearn' not in sys.modules\n"
        "load('digits')\n"
        "load('photographs')\n"
        "print('torchvision' in sys.modules)\n"
    )
    assert out == "False\n"


def test_guard_makes_the_data_sets_reachable() -> None:
    out = in_a_process(
        "from sparse_book.guard import import_torchvision\n"
        "print(len(import_torchvision().datasets.MNIST.resources))\n"
        "import torchvision\n"
        "assert torchvision is import_torchvision()\n"
    )
    assert out == "4\n"


def test_guard_declares_nothing_on_a_healthy_installation(
    tmp_path: Path,
) -> None:
    """Where the operators exist, as if the compiled library had loaded."""
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text("healthy = True\n")
    out = in_a_process(
        "import sys, torch\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        "library = torch.library.Library('torchvision', 'DEF')\n"
        "for name in ('nms', 'qnms'):\n"
        "    library.define(name + '(Tensor a) -> Tensor')\n"
        "from sparse_book import guard\n"
        "assert guard.import_torchvision().healthy\n"
        "print(guard._DECLARED)\n"
    )
    assert out == "[]\n"


def test_guard_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from sparse_book import guard

    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    monkeypatch.setattr(guard, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="pip install") as caught:
        import_torchvision()
    assert caught.value.name == "torchvision"


def test_our_checksums_are_torchvisions() -> None:
    datasets = import_torchvision().datasets
    for folder in ("MNIST", "FashionMNIST"):
        resources = dict(getattr(datasets, folder).resources)
        ours = {
            f"{name}.gz": packed.checksum.removeprefix("md5:")
            for name, (packed, _) in loading._idx_files(folder).items()
        }
        assert ours == resources
    cifar10 = datasets.CIFAR10
    theirs = {f"md5:{sum_}" for _, sum_ in cifar10.train_list}
    theirs |= {f"md5:{sum_}" for _, sum_ in cifar10.test_list}
    assert set(loading._CIFAR10_BATCHES.values()) == theirs
    assert loading._CIFAR10_ARCHIVE.path == cifar10.filename
    assert loading._CIFAR10_ARCHIVE.checksum == f"md5:{cifar10.tgz_md5}"
    names = tuple(datasets.FashionMNIST.classes)
    assert loading._CLASSES["fashion-mnist"] == names
    assert all(url.endswith("/") for url in loading._idx_mirrors("MNIST"))
    assert loading._cifar10_mirrors()[0] + cifar10.filename == cifar10.url


# Photographs and patches.


def test_natural_images_default_to_the_embedded_ones() -> None:
    embedded = load("natural-images")
    assert embedded.source == "scikit-learn"
    assert embedded.checksum == load("photographs").checksum


@given(
    sizes=st.lists(
        st.tuples(st.integers(3, 9), st.integers(3, 9)), min_size=1, max_size=4
    ),
    side=st.integers(1, 3),
    count=st.integers(1, 40),
    seed=st.integers(0, 2**31),
)
def test_patches_are_cut_from_one_photograph(
    sizes: list[tuple[int, int]], side: int, count: int, seed: int
) -> None:
    """Each pixel knows its photograph, row and column; so does each patch."""
    pictures = [
        1000.0 * n
        + 20 * torch.arange(height)[:, None]
        + torch.arange(float(width))
        for n, (height, width) in enumerate(sizes)
    ]
    generator = torch.Generator().manual_seed(seed)
    patches = extract_patches(pictures, side, count, generator)
    assert patches.shape == (count, side, side)
    for patch in patches:
        corner = int(patch[0, 0])
        n, row, column = corner // 1000, corner % 1000 // 20, corner % 20
        there = pictures[n][row : row + side, column : column + side]
        assert torch.equal(patch, there)


# The real data, where they are.


@with_real_data
@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_real_sets_as_torchvision_reads_them(
    tmp_path: Path, name: str, split: str
) -> None:
    datasets = import_torchvision().datasets
    kind = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST"}[name]
    ours = load(name, split=split, root=REAL, download=False)
    raw = tmp_path / kind / "raw"
    raw.mkdir(parents=True)
    for path in (Path(REAL) / kind / "raw").glob("*.gz"):
        with gzip.open(path) as packed, open(raw / path.stem, "wb") as plain:
            shutil.copyfileobj(packed, plain)
    theirs = getattr(datasets, kind)(tmp_path, train=split == "train")
    assert torch.equal(ours.images[:, 0], theirs.data / 255)
    assert torch.equal(ours.labels, theirs.targets)
    plain = load(name, split=split, root=tmp_path, download=False)
    assert plain.checksum == ours.checksum
    assert Path(plain.source).parent == raw


@with_real_data
def test_real_photographs(tmp_path: Path) -> None:
    pictures = load("natural-images", root=REAL, download=False)
    assert len(pictures) == 13
    assert {tuple(image.shape) for image in pictures.images} == {
        (256, 512),
        (512, 256),
    }
    generator = torch.Generator().manual_seed(0)
    patches = extract_patches(pictures.images, 16, 100, generator)
    assert 0 <= patches.min() < patches.max() <= 1


@with_real_data
@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("mnist", "MNIST/raw/t10k-images-idx3-ubyte.gz"),
        ("fashion-mnist", "FashionMNIST/raw/t10k-labels-idx1-ubyte.gz"),
        ("natural-images", "natural-images/hoyer_natural_images.npz"),
    ],
)
@pytest.mark.parametrize("damage", ["flip", "cut"])
def test_real_files_damaged(
    tmp_path: Path, name: str, file: str, damage: str
) -> None:
    shutil.copytree((Path(REAL) / file).parent, (tmp_path / file).parent)
    contents = bytearray((Path(REAL) / file).read_bytes())
    if damage == "flip":
        contents[len(contents) // 2] ^= 16
    else:
        del contents[-100:]
    (tmp_path / file).unlink()
    (tmp_path / file).write_bytes(contents)
    split = None if name == "natural-images" else "test"
    with pytest.raises(BrokenDataError) as caught:
        load(name, split=split, root=tmp_path, download=False)
    assert str(tmp_path / file) in str(caught.value)
    read = read_photographs if split is None else read_idx
    with pytest.raises(BrokenDataError, match="is broken"):
        read(tmp_path / file)  # also without its checksum
