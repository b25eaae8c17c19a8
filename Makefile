# make book    the book, from nothing: environment, build with execution
# make test    everything that checks the project
# make pdf     the built book as one PDF, with Chromium (minutes)
# make serve   the built book on a local port
# make clean   empties what was made
PYTHON ?= $(shell command -v python3.11 || command -v python3 || command -v python)
VENV_PYTHON := .venv/bin/python

.PHONY: book test pdf serve env clean

book: env
	@$(VENV_PYTHON) book/build.py

test: book
	@$(VENV_PYTHON) -m pytest -n 2 --dist worksteal

pdf: book
	@$(VENV_PYTHON) book/bundle.py

serve: book
	@$(VENV_PYTHON) -m http.server --bind 127.0.0.1 --directory _build/html 8000

env:
	@$(PYTHON) book/environment.py

clean:
	rm -rf .venv _build _docs build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache book/assets/vendor/anywidget.js
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
