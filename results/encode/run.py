"""Learn the dictionary that comes with the package.

    python results/encode/run.py

Writes `sparse_book/linear/encode.npz`: the atoms in half precision, and
where they came from. Needs no data but a photograph of scikit-learn.
"""

from __future__ import annotations

import json
import platform
import time
from pathlib import Path

import numpy as np
import torch

from sparse_book import __version__
from sparse_book.data.load import load
from sparse_book.data.store import write_aside
from sparse_book.linear import encode

TARGET = Path(encode.__file__).with_name("encode.npz")


def main() -> None:
    """Learn, and write."""
    torch.set_num_threads(1)
    found = load("photographs")
    start = time.perf_counter()
    atoms = encode.learn_image_dictionary(found.images[:1])
    about = {
        "data": "china.jpg of scikit-learn, in grey",
        "checksum": found.checksum,
        "seconds": round(time.perf_counter() - start, 1),
        "seed": 0,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "sparse_book": __version__,
        "command": "python results/encode/run.py",
    }
    with write_aside(TARGET) as file:
        np.savez_compressed(
            file,
            dictionary=atoms.half().numpy(),
            about=np.frombuffer(json.dumps(about).encode(), dtype=np.uint8),
        )
    print(f"{TARGET.name}: {TARGET.stat().st_size} bytes, {about}")


if __name__ == "__main__":
    main()
