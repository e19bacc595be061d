# One command a purpose; each sets up what it needs and is quick the second time.
# PIP_ARGS is handed to pip, to choose a package index for example.
PYTHON ?= python3
PIP_ARGS ?=
BIN := .venv/bin

.PHONY: install demo test test-all test-long check docs bench bench-gpu clean licences

install: .venv/installed

.venv/installed: .venv/package
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) -e '.[dev]' -c constraints.txt
	touch $@

.venv/package: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) -e '.[serve]' -c constraints.txt
	touch $@

demo: .venv/package
	$(BIN)/octorec demo --out runs/demo --force $(if $(PIP_ARGS),--pip-args '$(PIP_ARGS)')

# A worker a core, with one thread each; the server's slow tests alone, as they put it under a load of several minutes.
WORKERS ?= $(shell nproc)
TESTS = OMP_NUM_THREADS=1 $(BIN)/python -m pytest
TOGETHER = $(TESTS) -n $(WORKERS) --dist loadfile

test: install
	$(TOGETHER) -m 'not slow and not gpu'

test-all: test
	$(TOGETHER) -m 'slow or gpu' --ignore tests/serve
	$(TESTS) -m 'slow or gpu' tests/serve

# Minutes, and the package index: wheel and sdist in a new virtual environment with all extras; aiperf in another. The
# server under overloads and over replicas of Ray, which need an idle machine; with HTTP workers, what else is tried in
# one process.
WITH_WORKERS = admin batching fair_queue fuzz imported_catalogs lifecycle recommend refusals_arrive seen_and_empty \
	serve_errors serve_items tokens width_bodies widths

test-long: install
	PIP_ARGS='$(PIP_ARGS)' $(BIN)/python -m pytest tests/fresh_install.py tests/load_tools.py tests/serve/long_runs.py tests/serve/long_ray.py tests/offline/lost_actor.py
	OCTOREC_TEST_HTTP_WORKERS=3 $(BIN)/python -m pytest -m 'not slow' $(WITH_WORKERS:%=tests/serve/test_%.py)
	OCTOREC_TEST_HTTP_WORKERS=3 $(BIN)/python -m pytest tests/serve/test_attacks.py tests/serve/test_soak.py
	PIP_ARGS='$(PIP_ARGS)' $(BIN)/python -m studies.versions oldest
	PIP_ARGS='$(PIP_ARGS)' $(BIN)/python -m studies.versions newest

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_house.py

# The site of docs/ into site/, whose pages open from the disk; a link or an anchor that leads nowhere is an error.
docs: .venv/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

.venv/docs: .venv/package
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) -e '.[serve,client,docs]' -c constraints.txt
	touch $@

# The licences of all that is installed for OctoRec.
licences: install
	$(BIN)/python -m studies.licences

bench: install
	$(BIN)/python -m benchmarks.quantize

# The paper's comparison on one GPU, with the pair of torch and triton that the docs' numbers were measured with.
# CUDA_PYTHON=python3 takes an environment that has torch, triton and OctoRec's dependencies already.
CUDA_PYTHON ?= .venv-cuda/bin/python

bench-gpu: $(if $(filter .venv-cuda/%,$(CUDA_PYTHON)),.venv-cuda/installed)
	PYTHONPATH=src $(CUDA_PYTHON) -m benchmarks.headline
	PYTHONPATH=src $(CUDA_PYTHON) -m benchmarks.report

.venv-cuda/installed: pyproject.toml constraints-cuda.txt
	test -x .venv-cuda/bin/python || $(PYTHON) -m venv .venv-cuda
	.venv-cuda/bin/python -m pip install --quiet $(PIP_ARGS) -e . -c constraints-cuda.txt
	touch $@

clean:
	rm -rf .venv .venv-cuda .cache build site src/*.egg-info
