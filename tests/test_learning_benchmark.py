"""The stored table of learners: complete, and its ratios follow from it."""

from __future__ import annotations

import csv

import pytest

from conftest import ROOT


def test_ratios_follow_from_the_seconds() -> None:
    path = ROOT / "results" / "benchmarks" / "learning.csv"
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    equal = [row for row in rows if row["task"] == "learning"]
    assert {row["by"] for row in equal} == {
        "Sparse Book",
        "SPAMS",
        "scikit-learn",
    }
    seconds = {
        (row["by"], row["dtype"]): float(row["seconds"]) for row in equal
    }
    target = min(
        float(row["objective"])
        for row in equal
        if (row["by"], row["dtype"]) == ("SPAMS", "float32")
    )
    for row in rows:
        assert float(row["worst_gap"]) <= 1.1e-6
        assert row["threads"] == "1" and row["spams-bin"] and row["machine"]
        if row["by"] == "Sparse Book":
            assert float(row["objective"]) <= target
    for row in equal:
        own = float(row["seconds"])
        peer = seconds["SPAMS", row["dtype"]]
        assert float(row["spams"]) == pytest.approx(peer / own, rel=0.01)
        peer = seconds["scikit-learn", "float32"]
        assert float(row["sklearn"]) == pytest.approx(peer / own, rel=0.01)
