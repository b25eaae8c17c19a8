"""Small studies that tests run, importable from worker processes."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from sparse_book.data.images import image_set
from sparse_book.networks.fully_connected import FullyConnected
from sparse_book.training.store import NetworkRecord
from sparse_book.training.study import (
    Method,
    Scale,
    Study,
    StudyData,
    load_study_data,
    split_data,
)


def small_data(count: int = 120, classes: int = 3) -> StudyData:
    """Noisy images that a small network can learn."""
    generator = torch.Generator().manual_seed(7)
    parts = []
    for split, size in (("train", count), ("test", count // 2)):
        labels = torch.arange(size) % classes
        pixels = torch.randint(128, (size, 1, 3, 3), generator=generator)
        pixels[torch.arange(size), 0, labels, 0] += 127
        parts.append(
            image_set(
                "tiny",
                split,
                pixels.to(torch.uint8),
                labels.to(torch.uint8),
                classes=tuple(map(str, range(classes))),
                source="a test",
            )
        )
    return split_data(*parts, validation=count // 6)


def build(condition: Mapping[str, Any], data: StudyData) -> FullyConnected:
    """A network with one hidden layer."""
    inputs = math.prod(data.train[0].shape[1:])
    return FullyConnected((inputs, condition["hidden"], data.classes))


def build_slowly(
    condition: Mapping[str, Any], data: StudyData
) -> FullyConnected:
    """The same, after a while: time enough to be interrupted."""
    time.sleep(0.05)
    return build(condition, data)


def build_killed(
    condition: Mapping[str, Any], data: StudyData, marker: str | None = None
) -> FullyConnected:
    """Kill a worker, as the system does when memory runs out.

    Once, if the marker names a file, else every time.
    """
    if marker is None:
        marker = os.environ["SPARSE_BOOK_TEST_MARKER"]
    if os.getpid() != int(os.environ["SPARSE_BOOK_TEST_PARENT"]):
        try:
            if marker:
                Path(marker).touch(exist_ok=False)
            os.kill(os.getpid(), signal.SIGKILL)
        except FileExistsError:
            pass
    return build(condition, data)


def build_logged(
    condition: Mapping[str, Any], data: StudyData
) -> FullyConnected:
    """Note which process builds which network, where that is asked for."""
    if log := os.environ.get("SPARSE_BOOK_TEST_LOG"):
        text = f"{os.getpid()} {condition} {torch.initial_seed()}"
        with open(log, "a", encoding="utf-8") as file:
            file.write(text + "\n")
        time.sleep(float(os.environ["SPARSE_BOOK_TEST_SLOW"]))
    return build(condition, data)


def scarce_method() -> Method:
    """A way to train that finds room for two networks only."""

    def train(
        study: Study, epochs: int, group: Any, *_: Any
    ) -> list[NetworkRecord]:
        if len(group) > 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return [
            NetworkRecord(
                task.key,
                study.name,
                task.condition,
                task.seed,
                epochs,
                "finished",
                {"seed": float(task.seed)},
            )
            for task in group
        ]

    return Method("scarce", load_study_data, lambda *_: 1, train)


def tiny_study(**changes: Any) -> Study:
    """A study of twelve networks that trains in a moment."""
    settings: dict[str, Any] = {
        "name": "tiny",
        "title": "A small study",
        "source": "nobody",
        "build": build,
        "shape": {"hidden": (2, 5)},
        "vary": {"coefficient": (0.0, 0.01, 0.1)},
        "scales": {
            "quick": Scale("tiny", seeds=1, epochs=2, every=2),
            "small": Scale("tiny", seeds=2, epochs=2),
        },
        "batch_size": 25,
        "profile": {"hidden": 5},
    }
    return Study(**settings | changes)


# For the command line: six ensembles of three, on the embedded digits.
LOGGED = tiny_study(
    build=build_logged,
    shape={"hidden": (2, 3, 4, 5, 6, 7)},
    scales={"quick": Scale("digits", seeds=1, epochs=1)},
)
