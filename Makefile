# make demo   sets everything up and runs the main job on an embedded case
# make test   sets everything up and runs linters, type checker and tests
# make audit  asks PyPI's advisories about every installed package
#
# Settings:  VENV=folder   PYTHON=python3.12   DEMO=folder   PYTEST_ARGS='-m "not slow"'
#            JOBS=2
#            TORCH=torch==2.13.0   TORCH_INDEX=https://download.pytorch.org/whl/cpu

VENV ?= .venv
DEMO ?= demo
TORCH ?= torch==2.13.0
TORCH_INDEX ?=
PYTEST_ARGS ?=
# Processes that test at once, each with one thread; a module's tests stay together, in the order of
# the tree, so that what takes longest is not left for one process alone at the end.
JOBS ?= 2
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo -n)
# The tree itself is tested, also by the processes that tests start.
TREE := PYTHONPATH="$(CURDIR)/ImbalanceSeg"
ENGINE := $(shell find ImbalanceSeg/imbalanceseg -type f -not -name '*.pyc')

.PHONY: demo test campaign audit lint clean
.DELETE_ON_ERROR:

demo: $(VENV)/.engine
	$(BIN)/imbalanceseg demo -o $(DEMO)
	@echo "The results lie in $(abspath $(DEMO)):"
	@ls -1 $(DEMO)

test: $(VENV)/.tools lint
	$(TREE) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder \
		$(PYTEST_ARGS)

# Damaged files of every kind and failing disks, an hour or two; `make test` tries a few of them.
campaign: $(VENV)/.dev
	$(TREE) IMBALANCESEG_CAMPAIGN=5000 IMBALANCESEG_KILLS=67 OMP_NUM_THREADS=1 \
		$(BIN)/python -m pytest -q -s Testing/imbalanceseg/hostile Testing/imbalanceseg/faults

# What is passed over has no mended version, and is a program of pynetdicom that is not used here.
audit: $(VENV)/.dev
	$(PIP) install --quiet "pip-audit>=2.9"
	$(BIN)/pip-audit --skip-editable --progress-spinner off --ignore-vuln CVE-2026-56445

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(TREE) $(BIN)/lint-imports

clean:
	rm -rf $(VENV) $(DEMO) build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find ImbalanceSeg Testing -name __pycache__ -type d -prune -exec rm -rf {} +

# Debian and Ubuntu ship Python without ensurepip; `venv` then fails halfway, so ask first.
$(VENV)/.made:
	@[ -n "$(PYTHON)" ] || { echo "Python 3.11 or newer is needed and was not found." \
		"Install it, or name it: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		package="$$($(PYTHON) -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"; \
		{ $(SUDO) apt-get update && $(SUDO) apt-get install -y "$$package"; } || { \
		echo "$(PYTHON) cannot make virtual environments yet. Run this, then make again:"; \
		echo "    sudo apt-get install $$package"; exit 1; }; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --upgrade pip
	@touch $@

# torch goes first and alone: an index for torch must not serve the other packages.
$(VENV)/.torch: $(VENV)/.made
	$(PIP) install $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) "$(TORCH)"
	@touch $@

# Once `make test` has installed the folder itself, copying it again would hide later edits.
$(VENV)/.engine: $(VENV)/.torch pyproject.toml $(ENGINE)
	[ -e $(VENV)/.dev ] || $(PIP) install .
	@touch $@

$(VENV)/.dev: $(VENV)/.torch pyproject.toml
	$(PIP) install --editable ".[dev]"
	@touch $@

# Tests that need dciodvfy or Qt skip, and say so, where they cannot be installed.
$(VENV)/.tools: $(VENV)/.made
	@command -v dciodvfy >/dev/null \
		|| { $(SUDO) apt-get update && $(SUDO) apt-get install -y dicom3tools; } \
		|| echo "dicom3tools could not be installed: the DICOM validation tests will be skipped."
	@ldconfig -p 2>/dev/null | grep -q libEGL.so.1 && ldconfig -p | grep -q libxkbcommon.so.0 \
		|| { $(SUDO) apt-get update && $(SUDO) apt-get install -y \
			libdbus-1-3 libegl1 libfontconfig1 libgl1 libxkbcommon0; } \
		|| echo "Libraries of Qt could not be installed: the tests of the panel may be left out."
	@touch $@
