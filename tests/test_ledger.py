"""The ledger: nothing missing, nothing typed, every place exists."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import warnings
from collections import defaultdict
from dataclasses import fields
from functools import cache
from pathlib import Path

import pytest

from sparse_book import cli
from sparse_book.studies import ledger as this_module
from sparse_book.studies.claims import OUTCOMES
from sparse_book.studies.equations import CHECKS
from sparse_book.studies.ledger import (
    SOURCES,
    STORED_CLAIMS,
    Entry,
    inventory,
    ledger,
)
from sparse_book.studies.registry import all_artefacts, all_claims
from sparse_book.training.results import read_results

from conftest import ROOT


@cache
def rows() -> tuple[Entry, ...]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return tuple(ledger())


def numbered(*groups: tuple[str, int]) -> set[str]:
    """Return "1.1" to "1.42" and so on, or "1" to "16" without a chapter."""
    return {
        f"{chapter}.{n}" if chapter else str(n)
        for chapter, last in groups
        for n in range(1, last + 1)
    }


# Counted in the texts: chapter and last number of each kind.
EXPECTED = {
    ("thesis", "equation"): numbered(("1", 42), ("2", 7), ("3", 9), ("B", 14)),
    ("thesis", "figure"): numbered(
        ("1", 7), ("2", 2), ("3", 14), ("4", 17), ("A", 4)
    ),
    ("thesis", "table"): {"1.1", "3.1", "4.1"},
    ("dissertation", "equation"): numbered(("4", 25), ("5", 3), ("6", 2)),
    ("dissertation", "figure"): numbered(
        ("4", 2), ("5", 19), ("6", 2), ("7", 10)
    ),
    ("dissertation", "table"): numbered(("5", 11)),
    ("dissertation", "algorithm"): numbered(("4", 2)),
    ("blog", "equation"): {"1"},
    ("blog", "table"): {"1", "2", "3"},
    ("san-v1", "equation"): numbered(("", 16)),
    ("san-v1", "figure"): numbered(("", 5)),
    ("san-v1", "table"): {"I", "II", "III"},
    ("san-v1", "algorithm"): numbered(("", 4)),
    ("san-v2", "equation"): numbered(("", 17)),
    ("san-v2", "figure"): numbered(("", 5)),
    ("san-v2", "table"): {"I", "II", "III"},
    ("san-v2", "algorithm"): numbered(("", 4)),
}


def test_no_item_is_missing_and_none_is_twice() -> None:
    labels = {source: label for label, source in SOURCES.items()}
    found = defaultdict(list)
    for item in inventory():
        kind = "figure" if item.kind == "illustration" else item.kind
        found[labels[item.source], kind].append(item.number)
    assert set(found) == set(EXPECTED)
    for place, numbers in found.items():
        assert len(numbers) == len(set(numbers)), place
        assert set(numbers) == EXPECTED[place], place


def test_every_check_and_claim_of_the_inventory_exists_and_is_used() -> None:
    items = inventory()
    used = {item.check for item in items} - {"results", "drawing"}
    assert used == set(CHECKS)
    claims = {name for item in items for name in item.claims.split()}
    assert claims <= set(all_claims())
    for item in items:
        assert bool(item.note) == (item.check == "drawing"), item.key
        assert item.kind != "illustration" or item.check == "drawing"


def test_every_artefact_belongs_to_exactly_one_item() -> None:
    keys = [item.key for item in inventory()]
    for name in all_artefacts():
        homes = [key for key in keys if this_module._belongs(name, key)]
        assert len(homes) == 1, (name, homes)


def test_every_claim_has_a_row() -> None:
    keys = [row.key for row in rows()]
    assert len(keys) == len(set(keys))
    names = [*all_claims(), *(claim.name for claim in STORED_CLAIMS)]
    assert {f"claim-{name}" for name in names} <= set(keys)
    assert len(keys) == len(inventory()) + len(names)


def test_rows_have_commands_and_verdicts() -> None:
    for row in rows():
        assert row.verdict in OUTCOMES
        assert row.evidence and row.title and row.command, row.key
        for command in row.command.split(" && "):
            words = command.split()
            assert words[0] in ("sparse-book", "nbdev_test", "python")
            if words[0] == "python":
                assert (ROOT / words[1]).is_file(), command
            if words[0] == "nbdev_test":
                assert (ROOT / words[2]).is_file(), command
        if row.verdict != "not run":
            assert row.scale and row.date and row.device, row.key


def test_every_page_and_anchor_exists() -> None:
    texts = {}
    for row in rows():
        path = ROOT / f"{row.page}.ipynb"
        if path not in texts:
            cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
            names = {
                cell["metadata"]
                .get("mystnb", {})
                .get("figure", {})
                .get("name", "")
                for cell in cells
            }
            text = "\n".join("".join(cell["source"]) for cell in cells)
            labels = re.findall(r"\$\$ *\(([a-z0-9-]+)\)", text)
            labels += re.findall(r":(?:label|name): *(\S+)", text)
            labels += re.findall(r"^\(([a-z0-9-]+)\)=", text, re.MULTILINE)
            texts[path] = names | set(labels)
        assert row.anchor == "" or row.anchor in texts[path], row.key


def test_pages_are_in_the_table_of_contents() -> None:
    toc = (ROOT / "_toc.yml").read_text(encoding="utf-8")
    for page in {row.page for row in rows()}:
        assert f"{page}\n" in toc, page


def test_verdicts_of_claims_are_those_of_their_checks() -> None:
    found = {row.key: row for row in rows()}
    for claim in all_claims().values():
        row = found[f"claim-{claim.name}"]
        if any(
            not (ROOT / "results" / "studies" / f"{name}.json").is_file()
            for name in claim.studies
        ):
            assert row.verdict == "not run"
            continue
        parts = [read_results(name) for name in claim.studies]
        if all(part.scale in ("small", "paper") for part in parts):
            verdict = claim.check(*parts)
            assert (row.verdict, row.evidence) == (
                verdict.outcome,
                verdict.evidence,
            )


def test_a_verdict_follows_the_rows(tmp_path: Path) -> None:
    name, key = "thesis-table-3.1", "thesis-relu-1"
    home = tmp_path / "results" / "studies"
    home.mkdir(parents=True)
    for path in (ROOT / "results" / "studies").glob(f"{key}*"):
        shutil.copy(path, home / path.name)
    (before,) = ledger(home, row=name)
    assert before.verdict == "reproduced"
    table = home / f"{key}.csv"
    with table.open(encoding="utf-8", newline="") as lines:
        read = list(csv.DictReader(lines))
    (column,) = {a.measure for a in all_artefacts().values() if a.name == name}
    assert isinstance(column, str)
    for row in read:
        row[column] = str(2 * float(row[column]))
    text = io.StringIO()
    writer = csv.DictWriter(text, list(read[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(read)
    table.write_text(text.getvalue(), encoding="utf-8")
    about = home / f"{key}.json"
    facts = json.loads(about.read_text(encoding="utf-8"))
    import hashlib

    digest = hashlib.sha256(table.read_bytes()).hexdigest()
    facts["sha256"][table.name] = digest
    about.write_text(json.dumps(facts), encoding="utf-8")
    (after,) = ledger(home, row=name)
    assert after.verdict == "not reproduced"
    for path in home.iterdir():
        path.unlink()
    (gone,) = ledger(home, row=name)
    assert gone.verdict == "not run" and key in gone.evidence


def test_other_stored_rows_count_too(tmp_path: Path) -> None:
    home = tmp_path / "results"
    (home / "studies").mkdir(parents=True)
    name = "claim-thesis-way-back"
    assert ledger(home / "studies", row=name)[0].verdict == "not run"
    shutil.copytree(ROOT / "results" / "penalty_flow", home / "penalty_flow")
    before = ledger(home / "studies", row=name)[0]
    assert before == ledger(row=name)[0]
    table = home / "penalty_flow" / "mnist.csv"
    with table.open(encoding="utf-8", newline="") as lines:
        read = list(csv.DictReader(lines))
    for row in read:  # layers change places
        row["first"], row["second"] = row["second"], row["first"]
    with table.open("w", encoding="utf-8", newline="") as lines:
        writer = csv.DictWriter(lines, list(read[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(read)
    after = ledger(home / "studies", row=name)[0]
    assert after.evidence != before.evidence


def test_a_part_that_is_missing_is_not_passed_over(tmp_path: Path) -> None:
    (row,) = ledger(tmp_path, row="dissertation-figure-5.19")
    assert row.verdict == "not run"
    stored = ROOT / "results" / "studies"
    for path in stored.glob("dissertation-sgd-combined*"):
        shutil.copy(path, tmp_path / path.name)
    (row,) = ledger(tmp_path, row="dissertation-figure-5.19")
    assert row.verdict != "reproduced"
    assert "dissertation-adam-combined" in row.evidence


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="source"):
        ledger(source="book")
    with pytest.raises(ValueError, match="row"):
        ledger(row="thesis-figure-9.9")


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["ledger", "--row", "blog-equation-1"]) == 0
    assert "reproduced" in capsys.readouterr().out
    asked = ["ledger", "--source", "blog", "--csv"]
    assert cli.main(asked) == 0
    read = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert list(read[0]) == [field.name for field in fields(Entry)]
    assert [row["key"] for row in read] == [
        row.key for row in rows() if row.source == SOURCES["blog"]
    ]
    assert cli.main(["ledger", "--verdict", "maybe"]) == 1
    assert "'not run'" in capsys.readouterr().err
