"""Notebooks that are opened elsewhere bring the library along."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from conftest import HTML, ROOT

sys.path[:0] = [str(ROOT / "book"), str(ROOT / "book" / "ext")]
import launch
import nbdev_pages

NOTEBOOKS = launch.listed_notebooks()
NAMES = [
    path.relative_to(ROOT).with_suffix("").as_posix() for path in NOTEBOOKS
]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_install_cell_comes_first(path: Path) -> None:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert not code or code[0] == launch.install_cell(), (
        "run python book/launch.py"
    )


def test_install_cell_is_put_in_once() -> None:
    words = {"cell_type": "markdown", "id": "title", "source": ["# One"]}
    code = {"cell_type": "code", "id": "sum", "source": ["1 + 1"]}
    for cells in ([words, code], [code, words]):
        first = cells.index(code)
        once = launch.with_cell({"cells": cells})
        assert once["cells"][first] == launch.install_cell()
        assert once["cells"][:first] + once["cells"][first + 1 :] == cells
        assert launch.with_cell(once) == once
    assert launch.with_cell({"cells": [words]})["cells"] == [words]


def test_pages_leave_the_cell_out() -> None:
    code = {"cell_type": "code", "id": "sum", "source": ["1"], "metadata": {}}
    notebook = launch.with_cell({"cells": [code]})
    state = nbdev_pages.library_state(notebook)
    assert state == nbdev_pages.library_state({"cells": [code]})
    cells = nbdev_pages.convert(notebook)["cells"]
    assert [cell["id"] for cell in cells] == ["library-state", "sum"]
    for name in NAMES:
        text = (HTML / f"{name}.html").read_text(encoding="utf-8")
        assert "site.addsitedir" not in text, name


@pytest.mark.parametrize(
    ("address", "launchers"),
    [
        ("https://github.com/someone/book", {"binderhub_url", "colab_url"}),
        ("https://gitlab.com/someone/book", {"binderhub_url"}),
        ("https://example.org/book", set()),
        ("https://git.example/book", set()),
        ("", set()),
    ],
)
def test_buttons_follow_the_address(
    tmp_path: Path, address: str, launchers: set[str]
) -> None:
    settings = tmp_path / "settings.ini"
    settings.write_text(f"[DEFAULT]\ngit_url = {address}\nbranch = trunk\n")
    options = nbdev_pages.launch_options(settings)
    buttons = options.get("launch_buttons", {})
    assert {name for name in buttons if name.endswith("_url")} == launchers
    if launchers:
        assert options["repository_url"] == address
        assert options["repository_branch"] == "trunk"


def test_buttons_of_built_pages() -> None:
    """Every notebook has those that the address allows; other pages none."""
    options = nbdev_pages.launch_options(ROOT / "settings.ini")
    wanted = {
        value
        for name, value in options.get("launch_buttons", {}).items()
        if name.endswith("_url")
    }
    every = {v for k, v in nbdev_pages.LAUNCHERS.items() if k.endswith("_url")}
    for name in NAMES:
        text = (HTML / f"{name}.html").read_text(encoding="utf-8")
        shown = {url for url in every if f'href="{url}' in text}
        assert shown == wanted, name


def test_install_cell_brings_the_library(tmp_path: Path) -> None:
    """In an environment without it, from a clone, offline; twice."""
    clone = tmp_path / "project"
    clone.mkdir()
    shutil.copytree(
        ROOT / "sparse_book",
        clone / "sparse_book",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, clone)
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org"]
    for words in (["init", "-qb", "main"], ["add", "."], ["commit", "-qmx"]):
        subprocess.run([*git, *words], cwd=clone, check=True)
    venv.create(tmp_path / "env", with_pip=False)
    folders = list((tmp_path / "env" / "lib").glob("python*/site-packages"))
    # What the library needs is there, without what makes it importable.
    borrowed = folders[0] / "borrowed.pth"
    borrowed.write_text(sysconfig.get_path("purelib") + "\n")
    cell = "".join(launch.install_cell()["source"])
    settings = launch.settings()
    address = f"git+{settings['git_url']}@{settings['branch']}"
    assert address in cell
    program = (
        "from IPython.core.interactiveshell import InteractiveShell\n"
        "shell = InteractiveShell.instance()\n"
        "cell = CELL\n"
        "for code in (cell, 'import sparse_book', cell):\n"
        "    shell.run_cell(code).raise_error()\n"
        "from sparse_book.measures.sparsity import gini\n"
        "import sparse_book, torch\n"
        "print(sparse_book.__file__, gini(torch.eye(4)).tolist())\n"
    ).replace(
        "CELL", repr(cell.replace(address, f"git+{clone.as_uri()}@main"))
    )
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    hidden = {"PYTHONPATH", "VIRTUAL_ENV", "PYTHONHOME"}
    env = {k: v for k, v in os.environ.items() if k not in hidden}
    env |= {
        "HOME": str(tmp_path),
        "PIP_NO_BUILD_ISOLATION": "0",  # pip reads it as: do not isolate
        "PIP_NO_DEPS": "1",
        "PIP_NO_INDEX": "1",
    }
    done = subprocess.run(
        [tmp_path / "env" / "bin" / "python", "-c", program],
        cwd=outside,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    *_, last = done.stdout.strip().splitlines()
    assert "src/sparse-book/sparse_book" in last, "not from the clone"
    assert last.endswith("[0.75, 0.75, 0.75, 0.75]")


def test_binder_installs_what_the_pages_need() -> None:
    folder = ROOT / ".binder"
    assert (folder / "runtime.txt").read_text().startswith("python-3.11")
    script = (folder / "postBuild").read_text()
    assert "-c constraints.txt" in script and "-e" in script
    assert os.access(folder / "postBuild", os.X_OK)
