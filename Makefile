# make demo   set up, run the embedded demo, print the table
# make test   set up, lint, type-check, run the tests
# make gpu-check   on a machine with a GPU: is it right, repeatable, fast? (benchmarks/gpu_check.py)
# make chaos MINUTES=30 [SEED=7]   sweeps on a simulated cluster under random kills: for nights
# Set-up is done once: .venv/.ready is newer than what it was made from.

PYTHON ?= python3.11
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
STORE  ?= runs
MINUTES ?= 30
CORES  ?= $(shell n=$$(nproc); echo $$((n < 8 ? n : 8)))

.PHONY: demo test lint types tests setup clean gpu-check chaos

setup: $(READY)

$(READY): setup.cfg pyproject.toml constraints.txt
	@echo "setting up $(VENV): a few minutes, once"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(READY)
	$(BIN)/sdesweep run digits-demo --store $(STORE)

test: lint types tests

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

# Tests are spread over the cores, one thread each. End-to-end tests start clusters, which take all cores: one at
# a time, in a process in which nothing of Ray was used before.
tests: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --ignore tests/e2e --numprocesses $(CORES) --dist loadfile
	$(BIN)/python -m pytest tests/e2e

gpu-check: $(READY)
	$(BIN)/python benchmarks/gpu_check.py $(GPU_CHECK)

chaos: $(READY)
	$(BIN)/python tests/e2e/chaos.py --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache
