# Needs only python3 (3.11 or newer), make and git; everything else lands in $(VENV).
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo test check docs clean

help: ## show this list
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /make \1\t/'

demo: $(VENV)/demo.stamp ## 111 grocery stores train one recommender; results in out/demo
	$(BIN)/hansa simulate journey --out out/demo

test: check ## every gate, then every test
	$(BIN)/python -m pytest

check: $(VENV)/dev.stamp ## formatting, lint, types, floors, documentation
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m pytest --quiet tests/docs

docs: $(VENV)/dev.stamp ## write docs/commands.md anew from the commands' help
	$(BIN)/python docs/commands.py

clean: ## remove the environment and everything that runs have left
	rm -rf $(VENV) out build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache

# The install is editable: only new dependencies or entry points need another one.
$(VENV)/demo.stamp: EXTRAS := demo
$(VENV)/dev.stamp: EXTRAS := demo,dev
$(VENV)/demo.stamp $(VENV)/dev.stamp: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --constraint constraints.txt --editable '.[$(EXTRAS)]'
	touch $@
