"""The command line, as a reader meets it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sparse_book import __version__, cli

ONE = "thesis-thresholds"


def command(*arguments: str, store: Path | None = None) -> list[str]:
    """Return the command as the shell would run it."""
    words = [sys.executable, "-m", "sparse_book.cli", *arguments]
    return words if store is None else [*words, "--store", str(store)]


def test_help_and_version_import_nothing_heavy() -> None:
    program = (
        "import sys, sparse_book.cli as c; c.main(['--version']); "
        "assert not {'torch', 'numpy'} & set(sys.modules), 'slow start'"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == __version__


def test_list_names_everything(capsys: pytest.CaptureFixture[str]) -> None:
    from sparse_book.studies.registry import (
        all_artefacts,
        all_claims,
        all_studies,
    )

    assert cli.main(["list"]) == 0
    text = capsys.readouterr().out
    for table in (all_studies(), all_artefacts(), all_claims()):
        assert table
        assert all(name in text for name in table)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["run", "nothing"], "'thesis-relu-1'"),
        (["run", ONE, "--scale", "huge"], "'quick', 'small', 'paper'"),
        (["run", ONE, "--device", "tpu"], "auto, cpu"),
        (["run", ONE, "--data", "mnits"], "'fashion-mnist'"),
        (["run", ONE, "--workers", "0"], "workers"),
        (["show", "figure-9"], "'thesis-figure-3.1'"),
        (["export", "nothing"], "'thesis-relu-1'"),
        (["import", "nothing"], "'thesis-relu-1'"),
    ],
)
def test_bad_names_list_the_valid_ones(
    arguments: list[str],
    match: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if arguments[0] in ("run", "export", "import"):
        arguments = [*arguments, "--store", str(tmp_path / "s")]
    assert cli.main(arguments) == 1
    assert match in capsys.readouterr().err


def test_no_command_shows_the_help(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main([]) == 2
    assert "COMMAND" in capsys.readouterr().out


def test_run_status_export_show(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = str(tmp_path / "s")
    run = ["run", ONE, "--store", store, "--workers", "1"]
    assert cli.main(run) == 0
    assert "24 networks trained, 0 found" in capsys.readouterr().out
    assert cli.main(run) == 0
    assert "0 networks trained, 24 found" in capsys.readouterr().out
    assert cli.main(["status", "--store", store]) == 0
    assert "quick 24/24, small 0/96" in capsys.readouterr().out
    results = str(tmp_path / "results")
    export = ["export", ONE, "--store", store, "--folder", results]
    assert cli.main(export) == 1  # nothing on MNIST yet
    assert "--scale paper" in capsys.readouterr().err
    assert cli.main([*export, "--data", "digits"]) == 0
    assert f"{ONE}.csv" in capsys.readouterr().out
    show = ["show", "thesis-negative-biases", "--results", results]
    assert cli.main(show) == 0
    assert "Verdict:" in capsys.readouterr().out
    back = ["import", ONE, "--folder", results]
    assert cli.main([*back, "--store", str(tmp_path / "t")]) == 0
    assert "24 networks" in capsys.readouterr().out


def test_status_beside_a_run_that_goes_on(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from sparse_book.studies.registry import all_studies
    from sparse_book.training.store import NetworkRecord, Store

    study, path, read = all_studies()[ONE], tmp_path / "s", Store.records
    condition = study.conditions("quick")[0]
    epochs = study.scales["quick"].epochs

    def records(self: Store, name: str | None = None) -> list[NetworkRecord]:
        """Read a little after another process has added a network."""
        if name == ONE:
            new = NetworkRecord("k", ONE, condition, 0, epochs, "finished", {})
            with Store(path) as other:
                other.add([new], {"study": ONE, "data": "digits"})
        return read(self, name)

    monkeypatch.setattr(Store, "records", records)
    assert cli.main(["status", "--store", str(path)]) == 0
    assert "quick 1/24" in capsys.readouterr().out


def test_show_prints_theirs_beside_ours(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["show", "thesis-figure-3.1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    first = next(
        line.split() for line in lines if line.split()[:2] == ["8", "0"]
    )
    assert float(first[2]) == pytest.approx(92.32, abs=0.01)  # as published
    assert float(first[4]) == pytest.approx(
        float(first[3]) - float(first[2]), abs=2e-3
    )


def test_missing_results_are_not_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    show = ["show", "thesis-few-active", "--results", str(tmp_path)]
    assert cli.main(show) == 0
    assert "Verdict: not run" in capsys.readouterr().out


@pytest.mark.skipif(os.name != "posix", reason="signals of Unix")
def test_ctrl_c_ends_workers_and_resumes(tmp_path: Path) -> None:
    store = tmp_path / "s"
    arguments = ["run", "thesis-relu-3", "--workers", "2"]
    process = subprocess.Popen(
        command(*arguments, store=store),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    time.sleep(12)
    os.killpg(process.pid, signal.SIGINT)
    output, errors = process.communicate(timeout=120)
    if process.returncode == 0:
        pytest.skip("this machine was done before it could be interrupted")
    assert process.returncode == 130, errors
    assert "Interrupted" in output or "interrupted" in errors
    assert "Traceback" not in errors
    from sparse_book.training.store import Store

    with Store(store) as opened:
        assert len(opened.records()) < 70
