"""Average the beats of three electrocardiograms of PhysioNet.

    SPARSE_BOOK_DATA=<folder> python results/beats/run.py

Writes `beats.csv`: one column per recording, one line per sample, the R peak
in the middle; and `beats.json`, where the recordings come from.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

from sparse_book import __version__
from sparse_book.data.load import load
from sparse_book.data.signals import Recording, cut_slices
from sparse_book.studies.signals_swept import HEART_RATES, mean_beat

FOLDER = Path(__file__).resolve().parent


def main() -> None:
    """Compute and write the beats."""
    beats, sources = {}, {}
    for name, rate in HEART_RATES.items():
        recording = load(name)
        assert isinstance(recording, Recording)
        slices = cut_slices(recording).train[:, 0].numpy()
        beats[name] = mean_beat(slices, rate)
        sources[name] = recording.checksum
    with (FOLDER / "beats.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(beats)
        for row in zip(*beats.values(), strict=True):
            writer.writerow([f"{value:.5g}" for value in row])
    about = {
        "recordings": sources,
        "rates": HEART_RATES,
        "sparse_book": __version__,
        "command": "python results/beats/run.py",
    }
    text = json.dumps(about, indent=1) + "\n"
    (FOLDER / "beats.json").write_text(text)


if __name__ == "__main__":
    main()
