"""Put the cell that installs the library in front of every notebook.

Somebody who opens a notebook in Colab has the notebook alone. Its first code
cell fetches the project, which holds the library and the measured results
that pages read; where the library is installed, the cell does nothing. Pages
leave the cell out, and tests skip it.

    python book/launch.py          writes the cell into all listed notebooks
    python book/launch.py --check  names the notebooks that lack it
"""

from __future__ import annotations

import configparser
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "book" / "ext")]

import yaml

from nbdev_pages import INSTALL

CELL = """#| hide
#| eval: false
from importlib.util import find_spec

if find_spec("sparse_book") is None:  # as in Colab
    source = "git+{git_url}@{branch}"
    %pip install -q -e "{source}#egg={lib_name}[images,metrics,show]" myst-nb
    import site
    import sysconfig

    site.addsitedir(sysconfig.get_path("purelib"))"""


def settings() -> configparser.SectionProxy:
    """Return what settings.ini says."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / "settings.ini", encoding="utf-8")
    return parser["DEFAULT"]


def install_cell() -> dict[str, Any]:
    """Return the cell, with the address that settings.ini gives."""
    source, given = CELL, settings()
    for word in ("git_url", "branch", "lib_name"):
        source = source.replace(f"{{{word}}}", given[word])
    return {
        "cell_type": "code",
        "execution_count": None,
        "id": INSTALL,
        "metadata": {},
        "outputs": [],
        "source": source.splitlines(keepends=True),
    }


def with_cell(notebook: dict[str, Any]) -> dict[str, Any]:
    """Return a notebook whose first code cell is the install cell."""
    cells = [c for c in notebook["cells"] if c.get("id") != INSTALL]
    first = next(
        (n for n, c in enumerate(cells) if c["cell_type"] == "code"), None
    )
    if first is not None:
        cells.insert(first, install_cell())
    return notebook | {"cells": cells}


def listed_notebooks() -> list[Path]:
    """Return the notebooks of _toc.yml in reading order."""
    text = (ROOT / "_toc.yml").read_text(encoding="utf-8")
    found: list[Path] = []

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            for key, value in node.items():
                if key in {"file", "root"}:
                    found.append(ROOT / f"{value}.ipynb")
                else:
                    walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(yaml.safe_load(text))
    return [path for path in found if path.is_file()]


def main(arguments: list[str]) -> int:
    """Write the cell, or check that it is there; return the exit status."""
    lacking = []
    for path in listed_notebooks():
        before = path.read_text(encoding="utf-8")
        after = json.dumps(
            with_cell(json.loads(before)), indent=1, ensure_ascii=False
        )
        if after.rstrip("\n") == before.rstrip("\n"):
            continue
        lacking.append(path.relative_to(ROOT).as_posix())
        if "--check" not in arguments:
            path.write_text(after + "\n", encoding="utf-8")
    if "--check" in arguments:
        print("\n".join(lacking) or "Every notebook has the cell.")
        return 1 if lacking else 0
    print(f"Wrote the cell into {len(lacking)} notebooks.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
