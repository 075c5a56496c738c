PYTHON ?= python3
BIN := .venv/bin

.PHONY: install demo test lint clean

install:
	@$(PYTHON) constraints/install.py

demo: install
	@$(BIN)/orchestrate train rlvr

lint: install
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

test: lint
	@$(BIN)/pytest

clean:
	rm -rf .venv runs build *.egg-info
