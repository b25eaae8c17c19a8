"""Build the book: export, execute what changed, render, and check.

Pages execute side by side into jupyter-cache, whose key holds each page's code
and, through the extension, the state of the library that it imports. Sphinx
then finds every page in the cache. A build that warned, missed a page or had a
failing cell fails, and so does the next one until the fault is mended.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import closing
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "book"), str(ROOT / "book" / "ext")]

import nbformat
import yaml
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn, JupyterCacheAbstract
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from sqlalchemy.exc import SQLAlchemyError

from bundle import bundle
from nbdev_pages import convert

BUILD = ROOT / "_build"
CACHE = BUILD / ".jupyter_cache"
HTML = BUILD / "html"
STAMP = BUILD / "book.stamp"
INPUTS = ("nbs", "sparse_book", "book", "results")
SINGLE = ("_config.yml", "_toc.yml", "references.bib", "constraints.txt")
CELL_SECONDS = 180
START_TRIES = 3


def input_digest() -> str:
    """Return a digest of every file that the built book depends on."""
    paths = [ROOT / name for name in SINGLE]
    for folder in INPUTS:
        paths += (ROOT / folder).rglob("*")
    digest = hashlib.sha256()
    for path in sorted(paths):
        hidden = {"__pycache__", ".ipynb_checkpoints"} & set(path.parts)
        if path.is_file() and not hidden and path.name != "anywidget.js":
            name = path.relative_to(ROOT).as_posix()
            digest.update(f"{name}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def listed_pages() -> list[str]:
    """Return the pages of _toc.yml in reading order, without extensions."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    found = [toc["root"]]

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            found.extend([node["file"]] if "file" in node else [])
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk({key: value for key, value in toc.items() if key != "root"})
    return found


def read_page(page: str) -> nbformat.NotebookNode | None:
    """Return a page's notebook as Sphinx will see it; None for Markdown."""
    path = ROOT / f"{page}.ipynb"
    if not path.is_file():
        return None
    notebook = convert(json.loads(path.read_text(encoding="utf-8")))
    return nbformat.from_dict(notebook)


def execute(page: str) -> tuple[str, nbformat.NotebookNode, float, str]:
    """Run one page; return it with outputs, seconds, and an error or ''."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # pages run side by side
    start = time.monotonic()
    for _ in range(START_TRIES):
        notebook, error = execute_once(page)
        # Kernels that start side by side may choose the same port; then one
        # of them dies before its first cell.
        ran = any(cell.get("execution_count") for cell in notebook.cells)
        if not error or ran:
            break
    return page, notebook, time.monotonic() - start, error


def execute_once(page: str) -> tuple[nbformat.NotebookNode, str]:
    """Run one page in a new kernel; return it and an error or ''."""
    notebook, error = read_page(page), ""
    assert notebook is not None
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook,
            timeout=CELL_SECONDS,
            resources={"metadata": {"path": folder}},
            record_timing=False,
            extra_arguments=["--log-level=ERROR"],
        )
        try:
            client.execute()
        except CellExecutionError as fault:
            error = str(fault)
        except Exception as fault:  # a dead or silent kernel
            error = f"{type(fault).__name__}: {fault}"
    return notebook, error


def open_cache() -> JupyterCacheAbstract:
    """Return the cache of runs, emptied if its index is damaged."""
    try:
        index = (
            sqlite3.connect(CACHE / "global.db") if CACHE.is_dir() else None
        )
        if index:
            with closing(index):
                said = index.execute("PRAGMA integrity_check").fetchone()[0]
            if said != "ok":
                raise sqlite3.DatabaseError(said)
        cache = get_cache(CACHE)
        cache.list_cache_records()
    # jupyter-cache turns some faults of its index into a RuntimeError.
    except (sqlite3.DatabaseError, SQLAlchemyError, RuntimeError, ValueError):
        print("The cache of runs is damaged: every page runs again.")
        shutil.rmtree(CACHE)
        cache = get_cache(CACHE)
    return cache


def run_file(hashkey: str) -> Path:
    """Return the file of a run in the cache."""
    return CACHE / "executed" / hashkey / "base.ipynb"


def keep(
    cache: JupyterCacheAbstract,
    page: str,
    notebook: nbformat.NotebookNode,
    seconds: float,
) -> None:
    """Put a page's run into the cache, and its checksum beside it."""
    record = cache.cache_notebook_bundle(
        CacheBundleIn(notebook, page, data={"execution_seconds": seconds}),
        check_validity=False,
        overwrite=True,
    )
    path = run_file(record.hashkey)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_suffix(".sha256").write_text(digest, encoding="ascii")


def is_kept(
    cache: JupyterCacheAbstract, page: str, notebook: nbformat.NotebookNode
) -> bool:
    """Tell whether the cache holds a page's run as it was written."""
    try:
        path = run_file(cache.match_cache_notebook(notebook).hashkey)
    except KeyError:
        return False
    try:
        wanted = path.with_suffix(".sha256").read_bytes()
        found = hashlib.sha256(path.read_bytes()).hexdigest().encode()
    except FileNotFoundError:
        wanted = found = b""
    if not found or found != wanted:
        print(f"The kept run of {page} is damaged: it runs again.")
        shutil.rmtree(path.parent, ignore_errors=True)
    return bool(found) and found == wanted


def execute_changed(pages: list[str]) -> bool:
    """Execute into the cache what it does not hold; return success."""
    cache = open_cache()
    missing = []
    for page in pages:
        notebook = read_page(page)
        if notebook is not None and not is_kept(cache, page, notebook):
            missing.append(page)
    failed = []
    with ProcessPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        jobs = [pool.submit(execute, page) for page in missing]
        for n, job in enumerate(as_completed(jobs), 1):
            page, notebook, seconds, error = job.result()
            head = f"[{n}/{len(jobs)}] {page} ({seconds:.1f} s)"
            print(f"{head}{' FAILED' if error else ''}", flush=True)
            if error:
                failed.append(page)
                print(error, flush=True)
                continue
            keep(cache, page, notebook, seconds)
    if failed:
        print(f"Failing pages: {', '.join(failed)}")
    return not failed


def render() -> bool:
    """Run Jupyter Book with warnings as errors; return success."""
    program = "from jupyter_book.cli.main import main; main()"
    command = [sys.executable, "-c", program, "build"]
    command += ["-W", "--keep-going", "."]
    faults = []
    with (
        (BUILD / "book.log").open("w", encoding="utf-8") as log,
        subprocess.Popen(
            command,
            cwd=ROOT,
            text=True,
            encoding="utf-8",
            errors="replace",
            env=os.environ | {"PYTHONIOENCODING": "utf-8", "NO_COLOR": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            log.write(line)
            if "WARNING" in line or "ERROR" in line:
                faults.append(line.rstrip())
    for line in faults:
        print(line)
    if process.returncode and not faults:
        print((BUILD / "book.log").read_text(encoding="utf-8")[-4000:])
    return process.returncode == 0 and not faults


def whole(pages: list[str]) -> bool:
    """Tell whether every listed page was written, and every source listed."""
    missing = [page for page in pages if not (HTML / f"{page}.html").is_file()]
    sources = {
        path.relative_to(ROOT).with_suffix("").as_posix()
        for path in (ROOT / "nbs").rglob("*")
        if path.suffix in {".ipynb", ".md", ".rst"}
        and ".ipynb_checkpoints" not in path.parts
    }
    unlisted = sorted(sources - set(pages))
    for fault, names in [
        ("not built", missing),
        ("not in _toc.yml", unlisted),
    ]:
        if names:
            print(f"Pages {fault}: {', '.join(names)}")
    return not missing and not unlisted


def main() -> int:
    """Build the book unless it is built; return the exit status."""
    start, index = time.monotonic(), HTML / "index.html"
    from nbdev.doclinks import nbdev_export  # slow to import

    os.chdir(ROOT)
    nbdev_export()
    digest = input_digest()
    if not (
        index.is_file()
        and STAMP.is_file()
        and STAMP.read_text(encoding="ascii") == digest
    ):
        BUILD.mkdir(exist_ok=True)
        STAMP.unlink(missing_ok=True)
        pages = listed_pages()
        if not (execute_changed(pages) and render() and whole(pages)):
            # Sphinx reads pages again only if they changed: make it forget.
            for name in (".doctrees", "html/.doctrees", ".sphinx"):
                shutil.rmtree(BUILD / name, ignore_errors=True)
            print("The book was NOT built.")
            return 1
        STAMP.write_text(digest, encoding="ascii")
        print(f"Built {len(pages)} pages in {time.monotonic() - start:.0f} s.")
    bundle(ROOT, HTML, listed_pages())
    print(f"The book is ready. Open {index.relative_to(ROOT)} in a browser.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
