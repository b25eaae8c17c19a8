"""Many networks at once against loops: python benchmarks/ensembles.py

Networks with one hidden layer of rectified units, as in figure 3.1 of
Askey-Doran (2021): batches of 100, Adam, a penalty on activity. A few dozen
steps of each way are timed, after a warm-up, and scaled to an epoch; the
fastest round counts. Five ways, and two yardsticks:

- "loader": the thesis's own, as its appendix C lists it, one network after
  the other: a DataLoader that turns image after image into a tensor, a hook,
  the norm of what it caught, torch.optim.Adam, the loss fetched and right
  answers counted in every step; and after every epoch the same pass, without
  gradients, through the validation images, which counts as a part of it
  (`validation_steps` in the file). The listing does not say how many workers
  load images; here it is the DataLoader's default, none;
- "tensors": a training loop on tensors that lie in memory, with hook and
  penalty, and nothing else;
- "fused": that with Adam's fused kernel;
- "ensemble": ours, as `sparse_book.training.run` runs it: ensembles planned
  to the size of the cache, one process of one thread for each core;
- "dense": the same, with all products of the first layer, also those of
  black pixels;
- "product": no way to train: the time in which the processor, at the rate of
  its own product of two large matrices, does all multiplications of an epoch
  and nothing else (the file says which share of the pixels is not zero);
- "adam": no way to train: the optimizer's steps of an epoch and nothing else,
  in the same ensembles.

Ensembles, like the loops on tensors, train and do not look at validation
images after every epoch: the book's studies do that once, at the end.

The loops are timed in one process with one thread and with two, and in two
processes at once. Ratios compare with the loop's better number of threads,
and, as "per core", one thread of theirs with one of ours alone. On a busy
machine, --clock cpu counts the seconds that a process had a core to itself;
two threads in one process are then left out.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import datetime
import multiprocessing
import platform
import time
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import _common  # sets the number of threads before anything else
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from sparse_book.data.store import MissingDataError
from sparse_book.guard import import_torchvision
from sparse_book.networks.fully_connected import FullyConnected
from sparse_book.studies.fully_connected import RELU_ONE
from sparse_book.training.ensemble import Ensemble, Tally, train_ensemble
from sparse_book.training.optimizers import make_stepper
from sparse_book.training.run import CACHE_BYTES, _ensemble_of, plan_ensembles
from sparse_book.training.study import StudyData, load_study_data, tasks

CORES, BATCH, COEFFICIENT = 2, 100, 0.008
WAYS = ("loader", "tensors", "fused")
METHODS = {"dense": "stacked", "ensemble": "auto"}
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
CHOSEN = ["wall"]
STEPS = {"loader": 12, "tensors": 200, "fused": 200}
TITLES = {
    "loader": "the thesis's listing",
    "tensors": "loop, tensors",
    "fused": "loop, tensors, fused Adam",
    "product": "matrix products alone",
    "adam": "Adam alone",
    "dense": "ensemble, all products",
    "ensemble": "ensemble",
}


class ImageByImage(Dataset[tuple[Tensor, int]]):
    """Images as torchvision's data sets give them: one, through PIL."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        from PIL import Image

        self._open = Image.fromarray
        self._transform = import_torchvision().transforms.ToTensor()
        self.images = (images * 255).round().to(torch.uint8).squeeze(1)
        self.labels = labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = self._open(self.images[index].numpy(), mode="L")
        return self._transform(image), int(self.labels[index])


@cache
def one_by_one(x: Tensor, t: Tensor) -> ImageByImage:
    """The data set, made once for all processes."""
    return ImageByImage(x, t)


def batches(x: Tensor, t: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of tensors in random order, without end."""
    while True:
        order = torch.randperm(len(x))
        for start in range(0, len(x) - BATCH + 1, BATCH):
            index = order[start : start + BATCH]
            yield x[index], t[index]


def timed(
    source: Iterable[Any], steps: int, step: Callable[[Tensor, Tensor], None]
) -> float:
    """Seconds per step, after a quarter as many that do not count."""
    start, warm = 0.0, steps // 4
    for number, batch in enumerate(islice(source, steps + warm)):
        if number == warm:
            start = CLOCKS[CHOSEN[0]]()
        step(*batch)
    return (CLOCKS[CHOSEN[0]]() - start) / steps


class Listing:
    """The thesis's training function: what it does with every batch."""

    def __init__(self, model: FullyConnected) -> None:
        self.model, self.seen = model, list[Tensor]()
        model.hidden[0].register_forward_hook(
            lambda *all: self.seen.append(all[2].squeeze())
        )
        self.descent = torch.optim.Adam(model.parameters())
        self.activity: list[Tensor] = []
        self.loss, self.correct = 0.0, torch.zeros(())

    def step(self, images: Tensor, labels: Tensor) -> None:
        """One batch of the phase that the model is in."""
        training = self.model.training
        self.descent.zero_grad()
        with torch.set_grad_enabled(training):
            outputs = self.model(images)
            loss = F.cross_entropy(outputs, labels)
            activity = torch.zeros(())
            for part in self.seen:
                activity = activity + torch.linalg.norm(part.flatten(), 1)
            loss = loss + COEFFICIENT / BATCH * activity
        if training:
            self.activity.append(activity.detach() / BATCH)
            loss.backward()
            self.descent.step()
        self.seen.clear()
        self.loss += loss.item()
        self.correct = self.correct + (outputs.max(1)[1] == labels).sum()

    def seconds(self, data: StudyData, steps: int) -> float:
        """Seconds per training step, with its share of the validation."""
        found: list[float] = []
        for part in (data.train, data.validation):
            self.model.train(part is data.train)
            source = DataLoader(one_by_one(*part), BATCH, shuffle=True)
            seconds = timed(
                source, min(steps, len(source) * 4 // 5), self.step
            )
            found.append(seconds * len(source))
        total: float = sum(found)
        return total / -(-len(data.train[0]) // BATCH)


def loop(way: str, hidden: int, data: StudyData, steps: int) -> float:
    """Seconds per step of one network in an ordinary training loop."""
    x, t = data.train
    model = FullyConnected((x[0].numel(), hidden, data.classes))
    if way == "loader":
        return Listing(model).seconds(data, steps)
    seen: list[Tensor] = []
    model.hidden[0].register_forward_hook(lambda *all: seen.append(all[2]))
    descent = torch.optim.Adam(
        model.parameters(), fused=True if way == "fused" else None
    )

    def step(images: Tensor, labels: Tensor) -> None:
        seen.clear()
        descent.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss = loss + COEFFICIENT / len(images) * seen[0].abs().sum()
        loss.backward()
        descent.step()

    return timed(batches(x, t), steps, step)


def product(hidden: int, data: StudyData, work: float) -> float:
    """Seconds per step if all were matrix products, at their best rate.

    Forwards and for the gradient of the weights every weight meets every
    image once, and in the second layer once more for the error behind it.
    """
    side = 1024
    a, b = torch.rand(2, side, side)
    seconds, begun = [], time.perf_counter()
    while time.perf_counter() - begun < work:
        start = CLOCKS[CHOSEN[0]]()
        torch.mm(a, b)
        seconds.append(CLOCKS[CHOSEN[0]]() - start)
    first = data.train[0][0].numel() * hidden
    return sorted(seconds)[len(seconds) // 2] * (
        BATCH * (2 * first + 3 * hidden * data.classes) / side**3
    )


def adam(hidden: int, data: StudyData, work: float) -> float:
    """Seconds per step and network of the optimizer alone."""
    networks, _ = planned(hidden, data)
    gradients = {k: torch.rand_like(p) for k, p in networks.parameters.items()}
    step = make_stepper("adam", networks.parameters, networks=len(networks))
    seconds, begun = [], time.perf_counter()
    while time.perf_counter() - begun < work:
        start = CLOCKS[CHOSEN[0]]()
        step(gradients)
        seconds.append(CLOCKS[CHOSEN[0]]() - start)
    return sorted(seconds)[len(seconds) // 2] / len(networks)


def planned(hidden: int, data: StudyData) -> tuple[Ensemble, dict[str, Any]]:
    """The first planned ensemble, and how it is trained."""
    wanted = [
        task
        for task in tasks(RELU_ONE, "paper", data)
        if task.condition["hidden"] == hidden
    ]
    group = plan_ensembles(RELU_ONE, wanted, data, budget=CACHE_BYTES)[0]
    return _ensemble_of(RELU_ONE, group, data, torch.device("cpu"))


class _Enough(Exception):
    """Raised by the watch when enough steps are timed."""


def ensemble(
    hidden: int, data: StudyData, work: float, method: str = "auto"
) -> tuple[int, float, int]:
    """Networks of a planned ensemble, seconds per step of each, steps."""
    networks, options = planned(hidden, data)
    start, count, warm = 0.0, 0, 5

    def watch(step: int, tally: Tally) -> None:
        nonlocal start, count
        if step == warm:
            start = CLOCKS[CHOSEN[0]]()
        elif step > warm + 9 and CLOCKS[CHOSEN[0]]() - start > work:
            count = step - warm
            raise _Enough

    with contextlib.suppress(_Enough):
        train_ensemble(
            networks, *data.train, watch=watch, **options | {"method": method}
        )
    seconds = (CLOCKS[CHOSEN[0]]() - start) / count
    return len(networks), seconds / len(networks), count


BOUNDS = {"product": product, "adam": adam}


def _side(
    job: Callable[..., Any], arguments: tuple[Any, ...], gate: Any, out: Any
) -> None:
    """Run a job in a process of one thread when all are ready."""
    torch.set_num_threads(1)
    gate.wait()
    out.put(job(*arguments))


def side_by_side(job: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Results of one job in as many processes as there are cores."""
    context = multiprocessing.get_context("fork")
    gate, out = context.Barrier(CORES), context.Queue()
    processes = [
        context.Process(target=_side, args=(job, arguments, gate, out))
        for _ in range(CORES)
    ]
    for process in processes:
        process.start()
    found = [out.get() for _ in processes]
    for process in processes:
        process.join()
    return found


def _slowest(way: str, hidden: int, data: StudyData, work: float) -> float:
    """Seconds per step of networks when all cores work, times cores."""
    if way in METHODS:
        given = hidden, data, work, METHODS[way]
        return max(s for _, s, _ in side_by_side(ensemble, *given))
    if way in BOUNDS:
        return float(max(side_by_side(BOUNDS[way], hidden, data, work)))
    return max(side_by_side(loop, way, hidden, data, STEPS[way]))


def measure_round(
    hidden: int, data: StudyData, work: float
) -> dict[tuple[str, int, int], float]:
    """Seconds per network and step, by way, processes and threads."""
    found = {}
    for way in WAYS:
        for threads in (1, CORES) if CHOSEN == ["wall"] else (1,):
            # Forked processes must not meet a pool of threads: two threads
            # live in a process of their own.
            found[way, 1, threads] = alone(way, hidden, data, threads)
        found[way, CORES, 1] = _slowest(way, hidden, data, work) / CORES
    for way, job in BOUNDS.items():
        found[way, 1, 1] = job(hidden, data, work)
    for way, method in METHODS.items():
        found[way, 1, 1] = ensemble(hidden, data, work, method)[1]
    for way in (*BOUNDS, *METHODS):
        found[way, CORES, 1] = _slowest(way, hidden, data, work) / CORES
    return found


def _threaded(out: Any, threads: int, *arguments: Any) -> None:
    torch.set_num_threads(threads)
    out.put(loop(*arguments))


def alone(way: str, hidden: int, data: StudyData, threads: int) -> float:
    """Seconds per step of a loop in one process with some threads."""
    context = multiprocessing.get_context("fork")
    out = context.Queue()
    process = context.Process(
        target=_threaded, args=(out, threads, way, hidden, data, STEPS[way])
    )
    process.start()
    seconds: float = out.get()
    process.join()
    return seconds


def chosen_data(name: str | None) -> StudyData:
    """MNIST where it is at hand, else the embedded digits."""
    if name is not None:
        return load_study_data(name)
    try:
        return load_study_data("mnist")
    except (MissingDataError, OSError):
        return load_study_data("digits")


def rows_of(
    hidden: int,
    data: StudyData,
    best: dict[tuple[str, int, int], float],
    about: dict[str, Any],
) -> list[dict[str, Any]]:
    """Rows for the file: seconds per network and epoch of every way."""
    steps, held = (
        -(-len(part[0]) // BATCH) for part in (data.train, data.validation)
    )
    return [
        {
            "way": way,
            "hidden": hidden,
            "processes": processes,
            "threads": threads,
            "seconds": f"{seconds * steps:.6g}",
            "steps_an_epoch": steps,
            "validation_steps": held if way == "loader" else 0,
            "timed_steps": STEPS.get(way, ""),
            **about,
        }
        for (way, processes, threads), seconds in best.items()
    ]


def table(
    hidden: int, best: dict[tuple[str, int, int], float], steps: int
) -> list[list[str]]:
    """Rows for the eye: each way at its best, and ratios with ours."""
    ours = best["ensemble", CORES, 1]
    core = best["ensemble", 1, 1]
    rows = []
    for way, title in TITLES.items():
        single, double = (
            best.get((way, 1, k), best[way, 1, 1]) for k in (1, CORES)
        )
        threads = 1 if single <= double else CORES
        plain = min(single, double) if way in WAYS else best[way, CORES, 1]
        where = f"1 × {threads}" if way in WAYS else "2 × 1"
        rows.append(
            [
                str(hidden),
                title,
                where,
                f"{plain * steps:.4f}",
                f"{plain / ours:.1f}",
                f"{single / core:.1f}",
                f"{best[way, CORES, 1] / ours:.1f}",
            ]
        )
    return rows


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    """Measure, print the table, write the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="name of a data set")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--work", type=float, default=1.5, help="seconds")
    parser.add_argument(
        "--hidden", type=int, nargs="+", default=[8, 32, 64, 128, 256]
    )
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall")
    parser.add_argument("--csv", type=Path, help="where to write rows")
    options = parser.parse_args()
    CHOSEN[0] = options.clock
    data = chosen_data(options.data)
    steps = -(-len(data.train[0]) // BATCH)
    now = datetime.datetime.now(datetime.UTC)
    about = {
        "networks": 1,
        "clock": options.clock,
        "data": data.name,
        "checksum": data.checksum,
        "lit": f"{float((data.train[0] != 0).double().mean()):.4f}",
        "device": "cpu",
        "machine": platform.machine(),
        "date": now.isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "sparse_book": version("sparse-book"),
        "command": f"python benchmarks/ensembles.py --clock {options.clock} "
        f"--rounds {options.rounds} --work {options.work:g}",
    }
    for hidden in (8, 64):
        ensemble(hidden, data, 0.05)  # compile
    one_by_one(*data.train)
    one_by_one(*data.validation)
    written, shown, hours = [], [], dict.fromkeys(TITLES, 0.0)
    for hidden in options.hidden:
        size, _, count = ensemble(hidden, data, options.work)
        rounds = [
            measure_round(hidden, data, options.work)
            for _ in range(options.rounds)
        ]
        best = {key: min(r[key] for r in rounds) for key in rounds[0]}
        for row in rows_of(hidden, data, best, about):
            if row["way"] in METHODS:
                row |= {"networks": size, "timed_steps": count}
            written.append(row)
        if options.csv:  # after every size: a run may be cut short
            write_rows(options.csv, written)
        shown += table(hidden, best, steps)
        for row in shown[-len(TITLES) :]:
            way = next(w for w, title in TITLES.items() if title == row[1])
            hours[way] += float(row[3]) * 320 * 15 / 3600
    header = [
        "units",
        "way",
        "processes × threads",
        "s per network and epoch",
        "ratio",
        "per core",
        "both in 2 processes",
    ]
    _common.print_table(
        f"One hidden layer, {data.name}, batches of {BATCH}", header, shown
    )
    if len(options.hidden) == len(RELU_ONE.shape["hidden"]):
        print("\n1,600 networks, 15 epochs, hours:")
        for way, value in hours.items():
            print(f"  {TITLES[way]}: {value:.1f}")


if __name__ == "__main__":
    main()
