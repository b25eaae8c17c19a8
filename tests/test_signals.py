"""Signals: simulated by other means, read, damaged, refused by name."""

from __future__ import annotations

import gzip
import math
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparse_book.data import signals, simulated_signals
from sparse_book.data.load import data_names, load
from sparse_book.data.signals import (
    EPILEPSY_SPLITS,
    PHYSIONET,
    Recording,
    SignalSet,
    cut_slices,
    read_epilepsy,
    read_wfdb,
    scale_range,
)
from sparse_book.data.simulated_signals import (
    ECG_WAVES,
    ecg_velocity,
    heart_periods,
    runge_kutta,
    simulate_ecg,
    simulate_emg,
    simulate_respiration,
)
from sparse_book.data.store import (
    BrokenDataError,
    MissingDataError,
    cache_folder,
)

SEEDS = st.integers(0, 2**31)
REAL = os.environ.get("SPARSE_BOOK_DATA", "")
with_real_data = pytest.mark.skipif(
    not REAL or not (Path(REAL) / "physionet").is_dir(),
    reason="needs real data (variable SPARSE_BOOK_DATA)",
)
COLLECTED = sorted(signals._COLLECTED)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of its own for every test, and no other data."""
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.delenv("SPARSE_BOOK_DATA", raising=False)
    return cache_folder()


# The electrocardiogram.


@pytest.mark.parametrize("rate", [50, 75])
def test_ecg_as_scipy_integrates_it(rate: int) -> None:
    """The three equations, written again, by an adaptive integrator."""
    from scipy.integrate import solve_ivp

    omega = 2 * math.pi * rate / 60

    def velocity(t: float, state: np.ndarray) -> list[float]:
        x, y, z = state
        theta = math.atan2(y, x)
        rate_z = -(z - 0.15 / 25 * math.sin(2 * math.pi * 0.25 * t))
        for angle, a, b in ECG_WAVES.values():
            d = math.remainder(theta - angle, 2 * math.pi)
            rate_z -= a * d * math.exp(-d * d / (2 * b * b))
        pull = 1 - math.hypot(x, y)
        return [pull * x - omega * y, pull * y + omega * x, rate_z]

    times = np.arange(800) / 200
    path = solve_ivp(
        velocity,
        (0, times[-1]),
        [-1.0, 0.0, 0.0],
        "DOP853",
        times,
        rtol=1e-9,
        atol=1e-11,
        max_step=0.01,
    )
    ours = simulate_ecg(
        800, 200, beats_per_minute=rate, period_deviation=0.0
    ).signals[0]
    assert np.abs(ours.numpy() - 25 * path.y[2]).max() < 1e-5


def test_ecg_is_of_fourth_order() -> None:
    ends = {
        rate: simulate_ecg(2 * rate + 1, rate, period_deviation=0.0).signals
        for rate in (512, 1024, 2048, 8192)
    }
    best = ends[8192][0, :: 8192 // 64]
    errors = [
        float((ends[rate][0, :: rate // 64] - best).abs().max())
        for rate in (512, 1024, 2048)
    ]
    assert 12 < errors[0] / errors[1] < 20
    assert 12 < errors[1] / errors[2] < 20


@settings(max_examples=10)
@given(seed=SEEDS, bpm=st.integers(50, 120), deviation=st.floats(0, 0.05))
def test_a_beat_ends_when_the_rate_adds_up_to_one(
    seed: int, bpm: int, deviation: float
) -> None:
    rate, length = 128, 300
    record = simulate_ecg(
        length,
        rate,
        beats_per_minute=bpm,
        period_deviation=deviation,
        generator=seeded(seed),
    )
    h = 1 / 512
    periods = heart_periods(
        1,
        math.ceil(240 / h),
        h / 2,
        mean=60 / bpm,
        deviation=deviation,
        generator=seeded(seed),
    )[0]
    beats = torch.cumulative_trapezoid(1 / periods, dx=h / 2)
    expected = beats[7::8][: length - 1] - 0.5
    torch.testing.assert_close(
        record.phase[0, 1:], expected, atol=1e-6, rtol=0
    )
    assert record.phase[0, 0] == -0.5


@settings(max_examples=30)
@given(
    seed=SEEDS,
    count=st.integers(1, 3),
    mean=st.floats(0.4, 2),
    share=st.floats(0, 0.19),
    ratio=st.floats(0, 5),
)
def test_periods_have_their_moments(
    seed: int, count: int, mean: float, share: float, ratio: float
) -> None:
    periods = heart_periods(
        count,
        1000,
        0.2,
        mean=mean,
        deviation=share * mean,
        ratio=ratio,
        generator=seeded(seed),
    )
    assert periods.shape == (count, 1000)
    like = torch.full((count,), mean, dtype=torch.float64)
    torch.testing.assert_close(periods.mean(-1), like)
    torch.testing.assert_close(
        periods.std(-1, correction=0), share * like, atol=1e-12, rtol=1e-9
    )


@settings(max_examples=30)
@given(seed=SEEDS, steps=st.integers(1, 700), h=st.floats(1e-3, 0.5))
def test_all_steps_at_once_equal_one_after_the_other(
    seed: int, steps: int, h: float
) -> None:
    looks = torch.randn(4, 2, steps, generator=seeded(seed)).double()
    start = torch.randn(2, generator=seeded(seed + 1)).double()
    z, path = start, [start]
    for g1, g2, g3, g4 in looks.permute(2, 0, 1):
        k1 = g1 - z
        k2 = g2 - (z + h / 2 * k1)
        k3 = g3 - (z + h / 2 * k2)
        k4 = g4 - (z + h * k3)
        z = z + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        path.append(z)
    ours = simulated_signals._leak(tuple(looks), h, start)
    torch.testing.assert_close(ours, torch.stack(path, -1))


def test_everything_ends_on_the_circle() -> None:
    start = torch.randn(50, 3, generator=seeded(0)).double()
    near = torch.hypot(start[:, 0], start[:, 1]) < 0.05
    start[near, 0] = 1.0
    path = runge_kutta(
        lambda t, state: ecg_velocity(state, 2 * math.pi, 0.0),
        start,
        1 / 32,
        32 * 14,
    )
    radius = torch.hypot(path[..., 0], path[..., 1])
    torch.testing.assert_close(
        radius[-1], torch.ones(50).double(), atol=1e-4, rtol=0
    )
    outward = (radius.diff(dim=0) * (1 - radius[:-1])).min()
    assert outward > -1e-6  # always towards the circle


def test_hearts_differ_and_repeat() -> None:
    one = simulate_ecg(3000, 200, 2, generator=seeded(1))
    two = simulate_ecg(3000, 200, 2, generator=seeded(1))
    assert torch.equal(one.signals, two.signals)
    assert one.signals.shape == one.phase.shape == (2, 3000)
    assert not torch.allclose(one.phase[0], one.phase[1], atol=1e-3)


# Breath and muscle.


def test_a_steady_breath_holds_what_the_muscles_pull() -> None:
    """Over a period the needle neither gains nor loses: mean V = mean p."""
    record = simulate_respiration(
        4001, 100, irregularity=0.0, time_constant=0.7, volume=0.6
    )
    mean = float(record.signals[0, 3600:4000].mean())
    assert mean == pytest.approx(0.6 * 0.4 * 2 / math.pi, rel=1e-4)
    torch.testing.assert_close(
        record.phase[0], torch.arange(4001).double() / 400
    )


@settings(max_examples=30)
@given(seed=SEEDS, spread=st.floats(0, 0.5), bpm=st.floats(5, 60))
def test_breath_never_stops(seed: int, spread: float, bpm: float) -> None:
    record = simulate_respiration(
        300,
        20,
        2,
        breaths_per_minute=bpm,
        irregularity=spread,
        generator=seeded(seed),
    )
    assert record.signals.isfinite().all() and (record.signals >= 0).all()
    assert (record.phase.diff() > 0).all()


@settings(max_examples=30)
@given(seed=SEEDS, units=st.integers(1, 5), length=st.integers(2, 400))
def test_muscle_is_spikes_and_shapes(
    seed: int, units: int, length: int
) -> None:
    muscle = simulate_emg(
        length, 1000, 2, units=units, noise=0, generator=seeded(seed)
    )
    assert muscle.spikes.shape == (2, units, length)
    assert set(muscle.spikes.unique().tolist()) <= {0.0, 1.0}
    for record in range(2):
        total = sum(
            np.convolve(train.numpy(), shape.numpy())
            for train, shape in zip(
                muscle.spikes[record], muscle.shapes, strict=True
            )
        )
        half = muscle.shapes.shape[1] // 2
        np.testing.assert_allclose(
            muscle.signals[record].numpy(),
            total[half : half + length],
            atol=1e-12,
        )


def test_a_muscle_at_rest_hisses() -> None:
    rest = simulate_emg(
        20000, 1000, drive=torch.zeros(20000), generator=seeded(0)
    )
    assert rest.spikes.sum() == 0
    assert float(rest.signals.std()) == pytest.approx(0.01, rel=0.03)


# Types, slices, scales.


@settings(max_examples=30)
@given(
    seed=SEEDS,
    length=st.integers(2, 30),
    counts=st.tuples(*[st.integers(0, 4)] * 3),
)
def test_slices_as_numpy_cuts_them(
    seed: int, length: int, counts: tuple[int, int, int]
) -> None:
    samples = torch.randn(12 * 30, generator=seeded(seed)) * 7 + 3
    recording = Recording("r", samples, 1.0, "V")
    if not sum(counts):
        with pytest.raises(ValueError, match="all be 0"):
            cut_slices(recording, length, counts)
        return
    parts = cut_slices(recording, length, counts)
    assert [len(part) for part in parts] == list(counts)
    flat = samples.numpy().astype(np.float64)
    for k, ours in enumerate(torch.cat(parts)[:, 0]):
        raw = flat[k * length : (k + 1) * length]
        theirs = (raw - raw.mean()) / raw.std(ddof=1)
        np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-5)


@settings(max_examples=30)
@given(
    low=st.floats(-100, 99),
    width=st.floats(0.1, 100),
    bottom=st.floats(-5, 5),
    height=st.floats(0.1, 5),
    share=st.floats(-1, 2),
)
def test_scales_there_and_back(
    low: float, width: float, bottom: float, height: float, share: float
) -> None:
    value = torch.tensor([low + share * width], dtype=torch.float64)
    there = scale_range(value, low, low + width, (bottom, bottom + height))
    assert float(there) == pytest.approx(bottom + share * height, abs=1e-6)
    back = scale_range(there, bottom, bottom + height, (low, low + width))
    torch.testing.assert_close(back, value, atol=1e-6, rtol=1e-6)


def test_types_refuse() -> None:
    good = torch.zeros(3, 1, 5)
    labels = torch.tensor([0, 1, 0])
    with pytest.raises(TypeError, match="labels"):
        SignalSet("s", "train", good, labels.int(), ("a", "b"))
    with pytest.raises(ValueError, match=r"\(count, 1, length\)"):
        SignalSet("s", "train", good[:, 0], labels, ("a", "b"))
    with pytest.raises(ValueError, match=r"labels must have shape \(3,\)"):
        SignalSet("s", "train", good, labels[:2], ("a", "b"))
    with pytest.raises(ValueError, match="NaN"):
        Recording("r", torch.tensor([1.0, math.nan]), 1.0, "V")
    with pytest.raises(ValueError, match="at least one"):
        Recording("r", torch.zeros(0), 1.0, "V")
    with pytest.raises(ValueError, match="three numbers"):
        cut_slices(Recording("r", torch.rand(9), 1.0, "V"), 2, (1, 1))


def test_names() -> None:
    assert len(PHYSIONET) == 15 and set(COLLECTED) < set(PHYSIONET)
    assert {*PHYSIONET, "ecg", "respiration", "emg"} < set(data_names())
    assert load("respiration").unit == "L"
    with pytest.raises(ValueError, match="mitdb has no split"):
        load("mitdb", split="train")


# WFDB records.

TINY = bytes.fromhex("e333f3e433f4e533f4f133f5")
HEADER = (
    "tiny 2 360 4\n"
    "tiny.dat 212 200 11 1024 995 3997 0 MLII\n"
    "tiny.dat 212 200 11 1024 1011 4048 0 V5\n"
)


def write_tiny(
    folder: Path, data: bytes = TINY, header: bytes = HEADER.encode()
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tiny.dat").write_bytes(data)
    (folder / "tiny.hea").write_bytes(header)
    return folder / "tiny.hea"


def test_record_of_format_212(tmp_path: Path) -> None:
    pytest.importorskip("wfdb", exc_type=ImportError)
    header = write_tiny(tmp_path)
    for path in (header, header.with_suffix("")):
        record = read_wfdb(path)
        expected = (torch.tensor([995.0, 996, 997, 1009]) - 1024) / 200
        torch.testing.assert_close(record.samples, expected)
        assert (record.rate, record.unit) == (360.0, "mV")
        assert record.name == record.record == "tiny"
    assert len(read_wfdb(header, 2, "short")) == 2


@given(bit=st.integers(0, 8 * len(TINY) - 1))
def test_every_flipped_bit_of_a_record_is_noticed(
    tmp_path_factory: pytest.TempPathFactory, bit: int
) -> None:
    pytest.importorskip("wfdb", exc_type=ImportError)
    data = bytearray(TINY)
    data[bit // 8] ^= 1 << bit % 8
    header = write_tiny(tmp_path_factory.mktemp("flip"), bytes(data))
    with pytest.raises(BrokenDataError, match="add up to") as caught:
        read_wfdb(header)
    assert str(header) in str(caught.value)


@given(length=st.integers(0, len(TINY) - 1))
def test_a_truncated_record_is_refused(
    tmp_path_factory: pytest.TempPathFactory, length: int
) -> None:
    pytest.importorskip("wfdb", exc_type=ImportError)
    header = write_tiny(tmp_path_factory.mktemp("cut"), TINY[:length])
    with pytest.raises(BrokenDataError) as caught:
        read_wfdb(header)
    assert str(header) in str(caught.value)


@given(data=st.data())
def test_a_damaged_header_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    pytest.importorskip("wfdb", exc_type=ImportError)
    header = bytearray(HEADER.encode())
    if data.draw(st.booleans()):
        place = data.draw(st.integers(0, len(header) - 1))
        header[place] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del header[data.draw(st.integers(0, len(header) - 1)) :]
    folder = tmp_path_factory.mktemp("header")
    path = write_tiny(folder, header=bytes(header))
    try:
        record = read_wfdb(path)
    except BrokenDataError as error:
        assert str(path) in str(error)
    except OSError as error:  # it names another data file
        assert error.filename is not None
    else:
        assert record.samples.isfinite().all()


def test_fast_signals_are_averaged(tmp_path: Path) -> None:
    """Two samples of the first signal for each of the second."""
    pytest.importorskip("wfdb", exc_type=ImportError)
    frames = np.array([[10, 20, 7], [30, 50, 8], [-4, 0, 9]], dtype="<i2")
    (tmp_path / "fast.dat").write_bytes(frames.tobytes())
    (tmp_path / "fast.hea").write_text(
        "fast 2 100 3\n"
        "fast.dat 16x2 10/mV 16 0 10 106 0 ECG\n"
        "fast.dat 16 10/mV 16 0 7 24 0 RESP\n"
    )
    record = read_wfdb(tmp_path / "fast")
    torch.testing.assert_close(record.samples, torch.tensor([1.5, 4, -0.2]))


def test_missing_samples_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("wfdb", exc_type=ImportError)
    samples = np.array([5, -32768, 6], dtype="<i2")
    (tmp_path / "gap.dat").write_bytes(samples.tobytes())
    total = int(samples.sum()) & 65535
    (tmp_path / "gap.hea").write_text(
        f"gap 1 100 3\ngap.dat 16 10/mV 16 0 5 {total} 0 ECG\n"
    )
    with pytest.raises(BrokenDataError, match="1 NaN"):
        read_wfdb(tmp_path / "gap")


def test_a_record_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_wfdb(tmp_path / "nothing")


# The fifteen databases.


def absent() -> None:
    raise ModuleNotFoundError("wfdb is not installed; pip install wfdb")


class Server:
    """A stand-in for wfdb that serves one record, or fails."""

    def __init__(self, length: int = 12000) -> None:
        self.asked: list[tuple[str, str]] = []
        self.samples = np.sin(np.arange(length) / 9)[:, None]
        self.error: Exception | None = None

    def get_record_list(self, name: str) -> list[str]:
        if self.error:
            raise self.error
        return ["deep/inside/r7", "r8"]

    def rdrecord(
        self, record: str, pn_dir: str, channels: list[int], sampto: int
    ) -> SimpleNamespace:
        assert channels == [0]
        self.asked.append((pn_dir, record))
        part = self.samples[:sampto]
        return SimpleNamespace(fs=250, units=["mV"], p_signal=part)


def test_fetched_once_and_kept(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server(20000)
    monkeypatch.setattr(signals, "_import_wfdb", lambda: server)
    first = load("cebsdb")
    assert server.asked == [("cebsdb/deep/inside", "r7")]
    assert (first.record, first.rate) == ("r7", 250.0)
    assert "PhysioNet, cebsdb/deep/inside/r7" in first.source
    np.testing.assert_allclose(
        first.samples.numpy(), server.samples[:12000, 0], atol=1e-7
    )
    monkeypatch.setattr(signals, "_import_wfdb", absent)
    again = load("cebsdb", download=False)
    assert again.checksum == first.checksum and again.record == "r7"
    assert Path(again.source).is_relative_to(cache)


@pytest.mark.parametrize(
    ("error", "length"),
    [(ConnectionError("no network"), 12000), (None, 900)],
)
def test_not_fetched(
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception | None,
    length: int,
) -> None:
    server = Server(length)
    server.error = error
    monkeypatch.setattr(signals, "_import_wfdb", lambda: server)
    with pytest.raises(MissingDataError) as caught:
        load("prcp")
    message = str(caught.value)
    reason = "no network" if error else "(12000,)"
    assert reason in message and str(cache / "physionet" / "prcp") in message
    assert "SPARSE_BOOK_DATA" in message and ".hea" in message
    assert not cache.exists()


def test_without_wfdb_the_error_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signals, "_import_wfdb", absent)
    with pytest.raises(MissingDataError, match="pip install wfdb"):
        load("shhpsgdb")
    header = write_tiny(tmp_path / "physionet" / "mitdb")
    header.rename(header.with_name("100.hea"))
    with pytest.raises(MissingDataError) as caught:
        load("mitdb", root=tmp_path)
    assert "100.hea was found, but wfdb is not installed" in str(caught.value)


def test_the_list_of_records_decides(tmp_path: Path) -> None:
    pytest.importorskip("wfdb", exc_type=ImportError)
    folder = tmp_path / "physionet" / "noneeg"
    header = write_tiny(folder)
    with pytest.raises(MissingDataError):
        load("noneeg", root=tmp_path, download=False)
    (folder / "RECORDS").write_text("tiny\nother\n")
    with pytest.raises(BrokenDataError, match="4 samples, not 12000") as found:
        load("noneeg", root=tmp_path, download=False)
    assert str(header) in str(found.value)


SINE = signals._recording(
    "sine", torch.arange(12000).sin(), 1.0, "V", "r7", "here"
)


@settings(max_examples=50)
@given(data=st.data())
def test_kept_samples_damaged(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("kept") / "first12000.npz"
    recording = SINE
    signals._save(recording, path)
    contents = bytearray(path.read_bytes())
    size = len(contents)
    ends = st.one_of(
        st.integers(0, 400),
        st.integers(size - 1200, size - 1),
        st.integers(0, size - 1),
    )
    place = data.draw(ends)
    if data.draw(st.booleans()):
        contents[place] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del contents[place:]
    path.write_bytes(contents)
    try:
        back = signals._saved("sine", path)
    except BrokenDataError as error:
        assert str(path) in str(error)
    else:  # a date, or another thing without meaning
        assert back.checksum == recording.checksum


# The real data, where they are.


@with_real_data
@pytest.mark.parametrize("name", COLLECTED)
def test_nine_databases_without_wfdb(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signals, "_import_wfdb", absent)
    (tmp_path / "physionet").mkdir()
    collection = Path(REAL) / "physionet" / "signals_first12000.npz"
    shutil.copy(collection, tmp_path / "physionet")
    recording = load(name, root=tmp_path, download=False)
    with np.load(collection) as arrays:
        assert np.array_equal(recording.samples.numpy(), arrays[name])
    assert recording.source.endswith("signals_first12000.npz")
    if name == "slpdb":
        assert recording.record == "slp41"  # the papers' is slp01a
    parts = cut_slices(recording)
    assert [tuple(part.shape) for part in parts] == [
        (6, 1, 1000),
        (2, 1, 1000),
        (4, 1, 1000),
    ]


@with_real_data
@pytest.mark.parametrize(
    ("name", "record"),
    [
        ("ctu-uhb-ctgdb", "1001"),
        ("drivedb", "drive01m"),
        ("emgdb", "emg_healthy"),
        ("mitdb", "100"),
        ("voiced", "voice001"),
    ],
)
def test_records_equal_the_collection(
    name: str, record: str, tmp_path: Path
) -> None:
    """Formats 16, 16 with a preamble, 32 and 212."""
    pytest.importorskip("wfdb", exc_type=ImportError)
    recording = load(name, root=REAL, download=False)
    assert Path(recording.source).name == f"{record}.hea"
    collected = signals._COLLECTED[name]
    assert (recording.rate, recording.unit) == (
        collected.rate,
        collected.unit,
    )
    with np.load(Path(REAL) / "physionet/signals_first12000.npz") as arrays:
        assert np.array_equal(recording.samples.numpy(), arrays[name])

    folder = tmp_path / "physionet" / name
    shutil.copytree(Path(REAL) / "physionet" / name, folder)
    (data,) = (
        path for path in folder.glob(f"{record}.*") if path.suffix != ".hea"
    )
    contents = bytearray(data.read_bytes())
    for damaged in (
        contents[:-200],
        contents[:-9] + bytes([contents[-9] ^ 4]) + contents[-8:],
    ):
        data.chmod(0o600)
        data.write_bytes(damaged)
        with pytest.raises(BrokenDataError, match=rf"{record}\.(hea|dat)"):
            load(name, root=tmp_path, download=False)


@with_real_data
def test_respiration_equals_the_database_s_table() -> None:
    path = Path(REAL) / "physionet" / "bidmc" / "bidmc_01_Signals.csv.gz"
    with gzip.open(path, "rt") as file:
        column = next(file).replace(" ", "").strip().split(",").index("RESP")
        table = np.loadtxt(file, delimiter=",", usecols=column, max_rows=12000)
    recording = load("bidmc", root=REAL, download=False)
    assert np.array_equal(recording.samples.numpy(), table.astype(np.float32))


# The epilepsy set.


def epilepsy_table(rows: int, seed: int) -> bytes:
    numbers = np.random.default_rng(seed).integers(-1885, 2048, (rows, 178))
    labels = np.random.default_rng(seed + 1).integers(1, 6, rows)
    first = ",".join(
        f'"{n}"' for n in ["", *(f"X{k + 1}" for k in range(178))]
    )
    lines = [f'{first},"y"']
    for k in range(rows):
        entries = ",".join(map(str, numbers[k]))
        lines.append(f'"X{k}.V1.{k}",{entries},{labels[k]}')
    return ("\n".join(lines) + "\n").encode()


@settings(max_examples=50)
@given(seed=SEEDS, packed=st.booleans(), data=st.data())
def test_epilepsy_survives_every_change(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    packed: bool,
    data: st.DataObject,
) -> None:
    table = epilepsy_table(2, seed)
    path = tmp_path_factory.mktemp("uci") / "data.csv"
    whole = bytearray(gzip.compress(table, mtime=0) if packed else table)
    path.write_bytes(whole)
    before, labels = read_epilepsy(path)
    assert before.shape == (2, 178) and labels.shape == (2,)
    place = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        whole[place] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del whole[place:]
    path.write_bytes(whole)
    try:
        after, classes = read_epilepsy(path)
    except BrokenDataError as error:
        assert str(path) in str(error)
    else:  # a digit became another digit
        assert after.shape == before.shape and classes.min() >= 1
        assert classes.max() <= 5
        assert int((after != before).sum() + (classes != labels).sum()) <= 2


@with_real_data
def test_epilepsy_as_the_sources_split_it(tmp_path: Path) -> None:
    file = "UCI-epileptic-seizure/data.csv.gz"
    with gzip.open(Path(REAL) / file, "rt") as lines:
        next(lines)
        table = np.array([line.split(",")[1:] for line in lines], dtype=int)
    parts = [
        load("uci-epilepsy", split=name, root=REAL, download=False)
        for name in EPILEPSY_SPLITS
    ]
    assert [len(part) for part in parts] == [8740, 1380, 1380]
    joined = torch.cat([part.signals[:, 0] for part in parts]).double()
    assert float(joined.min()) == -1 and float(joined.max()) == 1
    raw = scale_range(joined, -1.0, 1.0, (-1885.0, 2047.0))
    np.testing.assert_allclose(raw.numpy(), table[:, :-1], atol=1e-3)
    merged = {1: 0, 2: 1, 3: 1, 4: 2, 5: 2}
    labels = torch.cat([part.labels for part in parts]).tolist()
    assert labels == [merged[int(y)] for y in table[:, -1]]
    (tmp_path / file).parent.mkdir()
    plain = tmp_path / "UCI-epileptic-seizure" / "data.csv"
    plain.write_bytes(gzip.decompress((Path(REAL) / file).read_bytes()))
    same = load("uci-epilepsy", root=tmp_path, download=False)
    assert same.checksum == parts[0].checksum
    plain.write_bytes(plain.read_bytes()[:-1])
    with pytest.raises(BrokenDataError, match="truncated") as caught:
        load("uci-epilepsy", root=tmp_path, download=False)
    assert str(plain) in str(caught.value)
