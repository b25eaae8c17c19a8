"""What the benchmarks share: data, dictionaries, measurements, a table.

Times are CPU seconds of one thread (medians), so that a busy machine disturbs
them little; competitors take turns within a round, so that what disturbs one
disturbs all. Objectives and gaps are computed here, in float64, from codes.

With --cores on the command line every library may use all cores, and times
are seconds by the clock: for a quiet machine.
"""

from __future__ import annotations

import csv
import ctypes
import datetime
import gc
import os
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

CORES = (os.cpu_count() or 1) if "--cores" in sys.argv else 1
CLOCK = time.perf_counter if "--cores" in sys.argv else time.process_time
for _name in ("OMP", "MKL", "OPENBLAS", "NUMBA"):
    if CORES > 1:
        os.environ[f"{_name}_NUM_THREADS"] = str(CORES)
    else:
        os.environ.setdefault(f"{_name}_NUM_THREADS", "1")

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch import Tensor  # noqa: E402

torch.set_num_threads(CORES)
MEBIBYTE = 2**20
ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("torch", "numpy", "numba", "scikit-learn", "spams-bin")


def photographs() -> list[Tensor]:
    """Grey photographs: from $SPARSE_BOOK_DATA, else the embedded two."""
    folder = Path(os.environ.get("SPARSE_BOOK_DATA", ""))
    stored = folder / "natural-images" / "hoyer_natural_images.npz"
    if os.environ.get("SPARSE_BOOK_DATA") and stored.is_file():
        with np.load(stored) as archive:
            return [torch.tensor(archive[k]).double() for k in archive.files]
    from sklearn.datasets import load_sample_images

    images = load_sample_images().images
    return [torch.tensor(image).double().mean(-1) for image in images]


def photograph_patches(count: int, side: int, seed: int = 0) -> Tensor:
    """Patches at random places, mean removed, unit norm: (count, side²)."""
    draws = np.random.default_rng(seed)
    images, patches = photographs(), []
    while len(patches) < count:
        image = images[draws.integers(len(images))]
        top, left = (int(draws.integers(n - side)) for n in image.shape)
        patch = image[top : top + side, left : left + side].reshape(-1)
        patch = patch - patch.mean()
        if float(patch.norm()) > 1e-3:
            patches.append(patch / patch.norm())
    return torch.stack(patches)


def learned_dictionary(atoms: int, side: int) -> Tensor:
    """A dictionary learned from other patches of the same photographs."""
    from sklearn.decomposition import MiniBatchDictionaryLearning

    patches = photograph_patches(10_000, side, seed=1)
    learner = MiniBatchDictionaryLearning(
        atoms,
        alpha=0.15,
        batch_size=256,
        max_iter=10,
        fit_algorithm="cd",
        random_state=0,
        max_no_improvement=None,
    )
    with warnings.catch_warnings():  # its inner solver may stop early
        warnings.simplefilter("ignore")
        learner.fit(patches.numpy())
    found = torch.tensor(learner.components_)
    return found / found.norm(dim=-1, keepdim=True)


def matmul_rate(dtype: torch.dtype, size: int = 1024) -> float:
    """The machine's rate of matrix products, in floating-point ops/s."""
    a = torch.randn(size, size, dtype=dtype)
    times = []
    for _ in range(7):
        start = CLOCK()
        a @ a
        times.append(CLOCK() - start)
    return 2 * size**3 / min(times)


def _memory(field: str) -> int:
    """A line of this process's status in bytes; Linux only."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no {field} in /proc/self/status")


def peak_memory(work: Callable[[], object]) -> float:
    """Peak memory of a call above what was held before, in MiB, or NaN."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        before = _memory("VmRSS")
        work()
        return (_memory("VmHWM") - before) / MEBIBYTE
    except (OSError, AttributeError, RuntimeError):
        return float("nan")


def measure(
    competitors: dict[str, Callable[[], object]], rounds: int
) -> dict[str, tuple[float, float, object]]:
    """Median seconds, peak MiB and result of each; they take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in competitors}
    peaks: dict[str, float] = {}
    results: dict[str, object] = {}

    def timed(name: str) -> object:
        if CORES > 1:
            time.sleep(0.3)  # threads of the one before may still spin
        start = CLOCK()
        result = competitors[name]()
        seconds[name].append(CLOCK() - start)
        return result

    for turn in range(rounds):
        for name in competitors:
            if turn:
                timed(name)
                continue
            peaks[name] = peak_memory(
                lambda name=name: results.__setitem__(name, timed(name))
            )
    return {
        name: (statistics.median(times), peaks[name], results[name])
        for name, times in seconds.items()
    }


def _processor() -> str:
    """The processor's name, as far as the system tells."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def provenance() -> dict[str, str]:
    """Where and with what numbers were measured."""
    found = {
        "machine": f"{_processor()}, {os.cpu_count()} cores",
        "system": platform.system(),
        "threads": str(torch.get_num_threads()),
        "date": datetime.date.today().isoformat(),
        "command": " ".join(["python", *_relative(sys.argv)]),
        "data": f"{len(photographs())} photographs",
        "python": platform.python_version(),
    }
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = ""
    return found


def _relative(arguments: list[str]) -> list[str]:
    """Command-line arguments, the script's path from the root."""
    script = Path(arguments[0]).resolve()
    inside = script.is_relative_to(ROOT)
    first = str(script.relative_to(ROOT)) if inside else script.name
    return [first, *arguments[1:]]


def write_rows(path: Path, rows: list[dict[str, str]]) -> None:
    """Write rows as CSV, each with where it came from."""
    origin = provenance()
    full = [row | origin | row for row in rows]  # a row may say it better
    columns = list(dict.fromkeys(name for row in full for name in row))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(full)


def print_table(title: str, header: list[str], rows: list[list[str]]) -> None:
    """Print one table in Markdown."""
    threads = f"{CORES} threads, by the clock" if CORES > 1 else "one thread"
    print(f"\n{title}\n({_processor()}, {threads})\n")
    widths = [
        max(len(row[k]) for row in [header, *rows]) for k in range(len(header))
    ]
    rule = ["-" * width for width in widths]
    for row in [header, rule, *rows]:
        cells = (x.ljust(w) for x, w in zip(row, widths, strict=True))
        print(f"| {' | '.join(cells)} |", flush=True)
