# Everything runs in .venv, which the first target makes from pinned versions (pyproject.toml).
#   make demo PYTHON=python3.12     another Python, 3.11 or newer
#   make demo TORCH_INDEX=URL     an extra index with a CPU build of PyTorch (smaller)

PYTHON ?= python3
TORCH_INDEX ?=
JOBS ?= 2

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
PIP := $(BIN)/python -m pip --disable-pip-version-check

# On few cores, threads of OpenMP fight the tests that run side by side.
export OMP_NUM_THREADS ?= 1

.PHONY: demo test lint docs clean distclean
.DEFAULT_GOAL := demo

# PyTorch comes first: a package that depends on it would pull another version.
$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit("pliant needs Python 3.11 or newer; this is %d.%d: make PYTHON=..." % v[:2])'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -q $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) torch==2.13.0
	$(PIP) install -q -e '.[hardware,simulation,synthesis,board,models,test,docs]'
	@touch $@

demo: $(STAMP)
	@$(BIN)/pliant demo

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/mypy hw sw sim models

test: lint
	$(BIN)/pytest --slow -n $(JOBS) --dist worksteal

docs: $(STAMP)
	$(BIN)/sphinx-build -q -W -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

# The user's cache of compiled models (~/.cache/pliant or PLIANT_CACHE) stays.
clean:
	rm -rf build docs/_build .mypy_cache .pytest_cache .ruff_cache .benchmarks
	find hw sw sim models tests -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV)
