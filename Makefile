# World Models, cell by cell. `make` alone lists what it can do.

PRESET ?= laptop
RUN ?= runs/my_agent

# The first Python that runs and that Box2D has a wheel for; make course PYTHON=... names another.
SUITABLE := import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c "$(SUITABLE)" && echo $$p && break; done 2>/dev/null)
NO_PYTHON := No Python 3.11, 3.12 or 3.13 found: install one, or name it, as in make course PYTHON=python3.12

VENV_PYTHON := .venv/bin/python
READY := .venv/ready
LINT_READY := .venv/lint-ready
BIOME_VERSION := 2.6.8
BIOME := .venv/node/node_modules/.bin/biome
BIOME_READY := .venv/node/biome-$(BIOME_VERSION)
NPM := $(shell command -v npm 2>/dev/null)
NOTEBOOKS = $(wildcard notebooks/*.ipynb notebooks/solutions/*.ipynb)

.PHONY: help course test lint agent figures map notebooks

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

course: $(READY) ## set up once, copy the notebooks to study/, open JupyterLab there
	@$(VENV_PYTHON) course.py open

test: $(READY) ## set up once, run every test and every notebook
	$(VENV_PYTHON) -m pytest --nbval tests notebooks

lint: $(LINT_READY) $(if $(NPM),$(BIOME_READY)) ## check style, layout and types of all code, notebooks too
	$(VENV_PYTHON) -m ruff check .
	$(VENV_PYTHON) -m ruff format --check .
	$(VENV_PYTHON) -m mypy
ifneq ($(NPM),)
	$(BIOME) check
else
	@echo "The widgets' scripts and styles are not checked: that needs npm, which comes with Node (https://nodejs.org)"
	@test -z "$$WMLIB_REQUIRE_NODE"
endif

agent: $(READY) ## train a whole agent from nothing (PRESET=laptop RUN=runs/my_agent); resumable
	@$(VENV_PYTHON) -m wmlib agent --preset $(PRESET) --run $(RUN)

figures: $(READY) ## redraw all of figures/
	$(VENV_PYTHON) figures/draw.py

map: $(READY) ## count the lines of each module into CONTRIBUTING
	@$(VENV_PYTHON) -c "from figures.draw import write_map; write_map()"

notebooks: $(READY) ## run all notebooks and save them with their outputs
	$(VENV_PYTHON) -m nbconvert --to notebook --execute --inplace \
		--ExecutePreprocessor.record_timing=False --ExecutePreprocessor.store_widget_state=False $(NOTEBOOKS)

$(READY): pyproject.toml requirements.lock
	@"$(PYTHON)" -c "$(SUITABLE)" 2>/dev/null || { echo "$(NO_PYTHON)" >&2; exit 1; }
	@"$(PYTHON)" course.py install
	@touch $@

# Apart from the rest, so that neither the course nor its tests need them.
$(LINT_READY): pyproject.toml requirements.lock $(READY)
	@$(VENV_PYTHON) -m pip install -c requirements.lock -e ".[dev]"
	@touch $@

$(BIOME_READY): $(READY)
	@npm install --silent --no-audit --no-fund --no-package-lock --prefix .venv/node @biomejs/biome@$(BIOME_VERSION)
	@touch $@
