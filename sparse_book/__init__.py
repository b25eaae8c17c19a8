"""Sparse coding: the library that the book derives."""

__version__ = "0.1.0"
