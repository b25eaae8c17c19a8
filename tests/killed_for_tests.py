"""A nursery: it imports once, then forks runs that a test kills.

Each line on standard input is a store's path, the seconds that the first run
may live, "-" for ever, and how many runs use the store side by side. It
answers with their exit statuses, -9 for one that was killed.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import tempfile
import threading
from typing import Any

from studies_for_tests import small_data, tiny_study
from tqdm import tqdm

from sparse_book import cli
from sparse_book.studies import registry
from sparse_book.training import study as studies
from sparse_book.training.run import run_study
from sparse_book.training.store import Store


def killed_study() -> Any:
    """Return a study of 72 networks in 12 ensembles."""
    return tiny_study(shape={"hidden": tuple(range(2, 14))}, profile=None)


def run(path: str) -> int:
    """Run the study by the command line."""
    names = {"tiny": killed_study()}
    registry.all_studies = lambda: names  # type: ignore[assignment]
    data = small_data()
    studies.load_study_data = lambda name: data  # type: ignore[assignment]
    return cli.main(
        ["run", "tiny", "--scale", "small", "--store", path, "--workers", "1"]
    )


def fork(path: str) -> int:
    """Start a run that writes what it says beside the store."""
    child = os.fork()
    if child == 0:
        status = 99
        try:
            said = os.open(f"{path}.log", os.O_WRONLY | os.O_CREAT, 0o644)
            os.lseek(said, 0, os.SEEK_END)
            os.dup2(said, 1)
            os.dup2(said, 2)
            # Forked processes share the lock of tqdm's bars: one that is
            # killed while it holds the lock would stop all after it.
            tqdm.set_lock(threading.RLock())
            status = run(path)
            sys.stdout.flush()
        finally:
            os._exit(status)
    return child


def main() -> None:
    """Fork, wait, kill, answer."""
    with tempfile.TemporaryDirectory() as folder:
        # What torch loads at its first use is loaded once, here.
        study = tiny_study(shape={"hidden": (2,)}, profile=None)
        with Store(f"{folder}/s") as store:
            run_study(study, "quick", store, data=small_data(), workers=1)
    print("ready", flush=True)
    for line in sys.stdin:
        path, seconds, count = line.split()
        children = [fork(path) for _ in range(int(count))]
        if seconds != "-":
            watch = os.pidfd_open(children[0])
            if not select.select([watch], [], [], float(seconds))[0]:
                os.kill(children[0], signal.SIGKILL)
            os.close(watch)
        ends = [os.waitpid(child, 0)[1] for child in children]
        print(*map(os.waitstatus_to_exitcode, ends), flush=True)


if __name__ == "__main__":
    main()
