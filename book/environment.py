"""Make `.venv` what pyproject.toml and constraints.txt say, in one install.

Does nothing if it is so already. An environment that is incomplete, made for
other pins, or moved with its folder is made anew: pip's own cache keeps that
cheap. Runs on the standard library alone.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "complete"
OLDEST = (3, 11)  # what the tests run on


def fingerprint() -> str:
    """Return a digest of everything that the environment depends on."""
    digest = hashlib.sha256(f"{ROOT}\0{sys.version}\0".encode())
    for name in ("constraints.txt", "pyproject.toml", "settings.ini"):
        digest.update((ROOT / name).read_bytes() + b"\0")
    return digest.hexdigest()


def main() -> int:
    """Make the environment; return the exit status."""
    if sys.version_info < OLDEST:
        wanted, got = ".".join(map(str, OLDEST)), sys.version.split()[0]
        print(f"The book is built with Python {wanted} or newer, not {got}.")
        print("Choose one: make book PYTHON=/path/to/python3.11")
        return 1
    wanted = fingerprint()
    if STAMP.is_file() and STAMP.read_text(encoding="ascii") == wanted:
        return 0
    print(
        "Installing the pinned packages into .venv (a few minutes)", flush=True
    )
    shutil.rmtree(VENV, ignore_errors=True)
    try:
        venv.create(VENV, with_pip=True)
    except subprocess.CalledProcessError:
        print("This Python lacks venv or pip; on Debian: python3-venv.")
        return 1
    done = subprocess.run(
        [
            *(VENV / "bin" / "python", "-m", "pip", "install", "--quiet"),
            *("--disable-pip-version-check", "-c", "constraints.txt"),
            *("-e", ".[book,test]"),
        ],
        cwd=ROOT,
        check=False,
    )
    if done.returncode == 0:
        STAMP.write_text(wanted, encoding="ascii")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
