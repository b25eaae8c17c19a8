"""The project's metadata stands in pyproject.toml; old tools look here."""

from setuptools import setup

setup()
