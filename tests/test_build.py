"""The build notices what changed, and fails as long as something is wrong."""

from __future__ import annotations

import copy
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from conftest import ROOT

sys.path[:0] = [str(ROOT / "book"), str(ROOT / "book" / "ext")]
import build as build_book
import nbdev_pages


def code(name: str, source: str) -> dict:
    return {
        "cell_type": "code",
        "execution_count": None,
        "id": name,
        "metadata": {},
        "outputs": [],
        "source": source.splitlines(keepends=True),
    }


def text(name: str, source: str) -> dict:
    return {
        "cell_type": "markdown",
        "id": name,
        "metadata": {},
        "source": source.splitlines(keepends=True),
    }


def notebook(*cells: dict) -> dict:
    kernel = {
        "display_name": "python3",
        "language": "python",
        "name": "python3",
    }
    return {
        "cells": list(cells),
        "metadata": {"kernelspec": kernel},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


@pytest.mark.parametrize(
    ("source", "tags"),
    [
        ("#| default_exp linear.codes", {"remove-cell"}),
        ("#| hide\nx = 1", {"remove-cell"}),
        ("#| export\nx = 1", set()),
        ("#| exporti\nx = 1", {"hide-input"}),
        ("#| code-fold: true\nx = 1", {"hide-input"}),
        ("#| code-fold: false\nx = 1", set()),
        ("#| eval: false\nx = 1", {"skip-execution"}),
        ("#| echo: false\nx = 1", {"remove-input"}),
        ("#| output: false\nx = 1", {"remove-output"}),
        ("#|hide_input\nx = 1", {"remove-input"}),
        ("nbdev_export()", {"skip-execution"}),
        ("x = 1  #| hide", set()),
        ('"""\n#| hide\n"""', set()),
    ],
)
def test_directives_become_tags(source: str, tags: set[str]) -> None:
    directives, body = nbdev_pages.split_directives(source)
    assert set(nbdev_pages.tags_for(directives, body)) == tags
    assert not body.lstrip().startswith("#|")


def test_exported_names_become_targets_once() -> None:
    source = "#| export\ndef gini(): ...\ndef _gini(): ...\nclass Gini: ..."
    again = "#| export\ndef gini(x): ..."
    page = nbdev_pages.convert(
        notebook(
            code("default", "#| default_exp measures.x"),
            code("one", source),
            code("two", again),
            code("three", "def shown(): ..."),
        )
    )
    words = "".join(
        cell["source"]
        for cell in page["cells"]
        if cell["cell_type"] == "markdown"
    )
    assert words.count("{py:function} gini\n") == 1
    assert words.count("{py:class} Gini\n") == 1
    assert "sparse_book.measures.x" in words
    assert "_gini" not in words and "shown" not in words


def test_page_state_follows_imports_at_any_remove(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sparse_book" / "show").mkdir(parents=True)
    (tmp_path / "constraints.txt").write_text("torch==2.13.0\n")
    far = tmp_path / "sparse_book" / "far.py"
    near = tmp_path / "sparse_book" / "near.py"
    other = tmp_path / "sparse_book" / "other.py"
    far.write_text("x = 1\n")
    near.write_text("from sparse_book.far import x\n")
    other.write_text("y = 1\n")
    monkeypatch.setattr(nbdev_pages, "ROOT", tmp_path)
    page = notebook(code("one", "%pip list\nfrom sparse_book import near"))
    before = nbdev_pages.library_state(page)
    other.write_text("y = 2\n")
    assert nbdev_pages.library_state(page) == before
    far.write_text("x = 2\n")
    assert nbdev_pages.library_state(page) != before


def test_page_state_follows_the_rows_that_it_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sparse_book").mkdir()
    (tmp_path / "constraints.txt").write_text("torch==2.13.0\n")
    (tmp_path / "sparse_book" / "near.py").write_text('STUDY = "wide-net"\n')
    rows = tmp_path / "results" / "studies"
    rows.mkdir(parents=True)
    beats = tmp_path / "results" / "beats"
    beats.mkdir()
    monkeypatch.setattr(nbdev_pages, "ROOT", tmp_path)
    page = notebook(
        code("one", "from sparse_book import near\nresults = read(near)"),
        code("two", "beats = 1"),
    )
    states = [nbdev_pages.library_state(page)]
    for path, concerned in (
        (rows / "wide-net-history.csv", True),
        (rows / "deep-net.csv", False),
        (beats / "mean.npz", True),
    ):
        path.write_text("1\n")
        states.append(nbdev_pages.library_state(page))
        assert (states[-1] != states[-2]) == concerned, path


def small_book(folder: Path, *cells: dict) -> None:
    """Lay out a project of one page around this project's machinery."""
    shutil.copytree(
        ROOT / "book",
        folder / "book",
        ignore=shutil.ignore_patterns("vendor", "__pycache__"),
    )
    vendor = folder / "book" / "assets" / "vendor"
    vendor.mkdir()
    for name in ("_config.yml", "settings.ini", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    (folder / "references.bib").write_text("")
    (folder / "_toc.yml").write_text("format: jb-book\nroot: nbs/index\n")
    (folder / "nbs" / "part").mkdir(parents=True)
    (folder / "nbs" / "index.md").write_text("# A page\n")
    (folder / "sparse_book").mkdir()
    (folder / "sparse_book" / "__init__.py").write_text(
        '"""Small."""\n\n__version__ = "0.0.0"\n'
    )
    if cells:
        write_page(folder, *cells)


def write_page(folder: Path, *cells: dict) -> None:
    page = notebook(text("title", "# One"), *cells)
    path = folder / "nbs" / "part" / "one.ipynb"
    path.write_text(json.dumps(page))
    (folder / "_toc.yml").write_text(
        "format: jb-book\nroot: nbs/index\nchapters:\n- file: nbs/part/one\n"
    )


def build(folder: Path) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, str(folder / "book" / "build.py")],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_a_failing_cell_fails_every_time(tmp_path: Path) -> None:
    folder = tmp_path / "a book, ünd # spaces"
    small_book(folder, code("fails", "assert 1 + 1 == 3, 'no sum'"))
    for _ in range(2):
        status, said = build(folder)
        assert status == 1 and "no sum" in said and "NOT built" in said
    write_page(folder, code("passes", "assert 1 + 1 == 2"))
    status, said = build(folder)
    assert status == 0, said
    assert (folder / "_build" / "html" / "nbs" / "part" / "one.html").is_file()
    status, said = build(folder)
    assert status == 0 and "Built" not in said, "nothing had changed"


def test_a_warning_fails_every_time(tmp_path: Path) -> None:
    small_book(tmp_path, text("link", "See {ref}`nowhere`."))
    for _ in range(2):
        status, said = build(tmp_path)
        assert status == 1 and "nowhere" in said
    write_page(
        tmp_path, code("complains", "import sys; sys.stderr.write('hm')")
    )
    for _ in range(2):
        status, said = build(tmp_path)
        assert status == 1 and "stderr" in said


def test_a_page_that_is_not_listed_fails(tmp_path: Path) -> None:
    small_book(tmp_path)
    (tmp_path / "nbs" / "lost.md").write_text("# Lost\n")
    status, said = build(tmp_path)
    assert status == 1 and "not in _toc.yml: nbs/lost" in said


@pytest.mark.parametrize(("deaths", "runs"), [(0, 1), (2, 3), (3, 3)])
def test_a_kernel_that_dies_at_its_start_is_started_again(
    monkeypatch: pytest.MonkeyPatch, deaths: int, runs: int
) -> None:
    started = []

    def start(client: NotebookClient) -> None:
        started.append(client)
        if len(started) <= deaths:
            raise RuntimeError("Kernel died before replying to kernel_info")
        client.nb.cells[0].execution_count = 1

    monkeypatch.setattr(NotebookClient, "execute", start)
    monkeypatch.setattr(
        build_book,
        "read_page",
        lambda page: nbformat.from_dict(notebook(code("one", "1"))),
    )
    *_, error = build_book.execute("nbs/one")
    assert len(started) == runs
    assert ("Kernel died" in error) == (deaths == 3)


def test_a_kernel_that_dies_later_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started = []

    def start(client: NotebookClient) -> None:
        started.append(client)
        client.nb.cells[0].execution_count = 1
        raise RuntimeError("Kernel died")

    monkeypatch.setattr(NotebookClient, "execute", start)
    monkeypatch.setattr(
        build_book,
        "read_page",
        lambda page: nbformat.from_dict(notebook(code("one", "1"))),
    )
    *_, error = build_book.execute("nbs/one")
    assert len(started) == 1 and "Kernel died" in error


def test_a_damaged_run_is_never_shown(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Any file of the cache, any byte of it; cut short, or gone."""
    monkeypatch.setattr(build_book, "CACHE", tmp_path / "cache")
    pages = {}
    for name, value in (("one", "0.25"), ("two", "0.5")):
        ran = nbformat.from_dict(notebook(code("cell", f"print({value})")))
        asked = copy.deepcopy(ran)
        ran.cells[0].execution_count = 1
        ran.cells[0].outputs = [
            nbformat.v4.new_output("stream", text=f"{value}\n")
        ]
        pages[name] = asked, ran
        build_book.keep(build_book.open_cache(), name, ran, 1.0)
    shutil.copytree(tmp_path / "cache", tmp_path / "sound")

    def rerun() -> int:
        """As a build does; return how many pages had to run again."""
        again = 0
        cache = build_book.open_cache()
        for name, (asked, ran) in pages.items():
            if not build_book.is_kept(cache, name, asked):
                again += 1
                build_book.keep(cache, name, copy.deepcopy(ran), 1.0)
            record = cache.match_cache_notebook(asked)
            shown = cache.get_cache_bundle(record.pk).nb.cells[0]
            assert shown.outputs == ran.cells[0].outputs
        return again

    assert rerun() == 0 and not capsys.readouterr().out
    files = sorted(
        path.relative_to(tmp_path / "sound")
        for path in (tmp_path / "sound").rglob("*")
        if path.suffix in {".ipynb", ".sha256", ".db"}
    )
    assert len(files) == 5
    chance = random.Random(0)
    for path in files * 4:
        shutil.rmtree(tmp_path / "cache")
        shutil.copytree(tmp_path / "sound", tmp_path / "cache")
        whole = (tmp_path / "cache" / path).read_bytes()
        place = chance.randrange(len(whole))
        flipped = bytes([whole[place] ^ 1 << chance.randrange(8)])
        broken = chance.choice(
            [whole[:place] + flipped + whole[place + 1 :], whole[:place]]
        )
        (tmp_path / "cache" / path).write_bytes(broken)
        again = rerun()
        said = capsys.readouterr().out
        if path.suffix != ".db":
            assert again == 1 and "damaged: it runs again" in said
        assert rerun() == 0
        (tmp_path / "cache" / path).unlink(missing_ok=True)
        rerun()
        assert rerun() == 0
        capsys.readouterr()


def test_an_edit_of_the_library_runs_its_pages_again(tmp_path: Path) -> None:
    small_book(tmp_path)
    library = tmp_path / "sparse_book" / "five.py"
    library.write_text("five = 4\n")
    write_page(
        tmp_path, code("five", "from sparse_book.five import five\nfive")
    )
    page = tmp_path / "_build" / "html" / "nbs" / "part" / "one.html"
    for value in ("4", "5"):
        library.write_text(f"five = {value}\n")
        status, said = build(tmp_path)
        assert status == 0, said
        assert "[1/1] nbs/part/one" in said
        assert f"<span></span>{value}\n" in page.read_text(encoding="utf-8")
