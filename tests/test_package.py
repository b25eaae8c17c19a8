"""The package as others get it: wheel, files, imports, README."""

from __future__ import annotations

import configparser
import re
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
import yaml

import sparse_book

from conftest import ROOT

HEAVY = {
    "IPython",
    "anywidget",
    "execnb",
    "fastcore",
    "ipywidgets",
    "matplotlib",
    "nbdev",
    "torchmetrics",
    "torchvision",
}
LIGHT_PARTS = ("data", "linear", "measures")
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for part in LIGHT_PARTS
    for path in (ROOT / "sparse_book" / part).glob("[!_]*.py")
    if path.name != "metrics.py"  # torchmetrics is what it is about
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from what git would give to another machine."""
    source = tmp_path_factory.mktemp("source")
    names = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in names.split("\0"):
        path = ROOT / name
        if name and path.is_file() and not name.startswith("book/assets"):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes(path.read_bytes())
    out = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation"]
    done = subprocess.run(
        [*build, "--outdir", str(out), str(source)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return next(out.glob("*.whl"))


def test_wheel_holds_the_library_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    ours = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "sparse_book").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    inside = {name for name in names if ".dist-info/" not in name}
    assert inside == ours
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_wheel_imports_in_an_empty_environment(
    wheel: Path, tmp_path: Path
) -> None:
    venv.create(tmp_path / "empty", with_pip=True)
    python = tmp_path / "empty" / "bin" / "python"
    install = [python, "-m", "pip", "install", "-q", "--no-deps", wheel]
    subprocess.run(install, check=True, capture_output=True)
    done = subprocess.run(
        [python, "-c", "import sparse_book; print(sparse_book.__version__)"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", done.stdout)


def test_imports_bring_nothing_heavy(tmp_path: Path) -> None:
    """Blocked, so that a hidden import fails rather than slows."""
    program = (
        "import importlib, sys\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        f"for name in {sorted(HEAVY)!r}: sys.modules[name] = None\n"
        "import sparse_book\n"
        "assert 'torch' not in sys.modules\n"
        f"for name in {MODULES!r}:\n"
        "    try: importlib.import_module(name)\n"
        "    except ImportError as error: print(name, error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    assert not done.stdout


def test_the_citation_and_the_changelog_name_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["version"] == sparse_book.__version__
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (.+)$", changes, flags=re.MULTILINE)
    released = re.compile(r"\d+\.\d+\.\d+ \(\d{4}-\d{2}-\d{2}\)")
    assert headings and len(set(headings)) == len(headings)
    for heading in headings:
        assert heading == "Unreleased" or released.fullmatch(heading), heading
    kinds = set(re.findall(r"^### (.+)$", changes, flags=re.MULTILINE))
    known = "Added Changed Deprecated Removed Fixed Security"
    assert kinds <= set(known.split())


def test_every_lower_end_is_in_the_constraints_of_the_lowest() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    ranges = dict(re.findall(r'"([a-z-]+)>=([\d.]+)"', text))
    del ranges["setuptools"]  # builds the package, and is not in it
    text = (ROOT / "constraints-lowest.txt").read_text(encoding="utf-8")
    lowest = dict(re.findall(r"^([a-z-]+)==([\d.]+)$", text, re.MULTILINE))
    assert lowest.keys() == ranges.keys()
    for name, version in ranges.items():
        assert f"{lowest[name]}.".startswith(f"{version}."), name


def test_both_files_of_settings_name_the_same_requirements() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    settings = configparser.ConfigParser()
    settings.read(ROOT / "settings.ini", encoding="utf-8")
    named = settings["DEFAULT"]["requirements"].split()
    assert named == project["project"]["dependencies"]
    lowest = f">={settings['DEFAULT']['min_python']}"
    assert lowest == project["project"]["requires-python"]


def readme_examples() -> list[str]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)


def test_readme_example_runs(tmp_path: Path) -> None:
    examples = readme_examples()
    assert len(examples) == 1
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", examples[0]],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    shown = re.findall(r"#\s*prints (.+)", examples[0])
    assert shown and done.stdout.splitlines() == shown
