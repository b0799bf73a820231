# `make demo` and `make test` set up everything they need in .venv; nothing else is touched.
PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow fault mutate gpu lint bench options clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: .venv/ready ## make .venv and install what is needed

# opencv-python needs libGL and glib of the system, which a bare server lacks. The headless build is
# the same library without windows; the two must never be installed side by side.
.venv/ready: requirements.txt setup.py .ci/make_venv.py
	$(PYTHON) .ci/make_venv.py .venv
	$(BIN)/pip install --quiet --editable ".[dev]"
	$(BIN)/python -c "import cv2" 2>/dev/null || { \
	  $(BIN)/pip uninstall --quiet --yes opencv-python && \
	  $(BIN)/pip install --quiet opencv-python-headless; }
	$(BIN)/python -c "import cv2, torch, torchvision"
	touch $@

demo: .venv/ready ## render videos, convert, train, evaluate; about six minutes on 2 cores
	$(BIN)/python -m run.demo

# A file of tests goes to one process, which makes its datasets once. One thread in each process:
# clips as small as the tests' take longer with more.
test: .venv/ready ## the default test suite, on all cores
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --maxprocesses 8 --dist loadfile

test-slow: .venv/ready ## the long proofs too: kills, training to an accuracy
	$(BIN)/python -m pytest -m slow --timeout 3600

fault: .venv/ready ## attack every promise of docs/reliability.md, count what held; under an hour
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m fault --full-trials -n logical --maxprocesses 8 \
	  --dist loadfile --timeout 3600

mutate: .venv/ready ## put small faults into the code, see whether the fast tests notice; half an hour
	OMP_NUM_THREADS=1 $(BIN)/python tests/mutate.py

# The benchmarks run even where a test has failed: the page then says which one.
gpu: .venv/ready ## the tests that need a GPU, then benchmarks on it, written to docs/gpu.md
	$(BIN)/python -m pytest -m gpu --junit-xml demo/gpu-tests.xml; tests=$$?; \
	  $(BIN)/python -m run.benchmark gpu --tests demo/gpu-tests.xml && exit $$tests

lint: .venv/ready ## ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

bench: .venv/ready ## every benchmark, one after the other
	for what in networks storage labels augment loader step; do \
	  $(BIN)/python -m run.benchmark $$what || exit 1; done

options: .venv/ready ## write docs/options.md anew, from the commands' own options
	$(BIN)/python -m run.options_page > docs/options.md

clean: ## remove .venv and caches, keep results
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis *.egg-info
