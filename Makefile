# Every developer command. `make help` lists them.
PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin/python
PIP := $(RUN) -m pip --disable-pip-version-check install --quiet --no-deps

# Many tests wait for servers, and several wait together. A file's tests stay in one process, so
# that they share its servers; and files in order, since the longest would come last otherwise.
SEVERAL := -n 2 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help run up test test-all test-hostile test-newest test-ui lint types check docs format lock audit sbom install clean

help: ## List the commands.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/.run ## Install if needed and run the pipeline (preset tutorial).
	@$(RUN) -m digitflow run

up: $(VENV)/.run ## Install if needed; bring up server, deployments and workers until Ctrl-C.
	@$(RUN) -m digitflow up

test: $(VENV)/.dev ## Install if needed and run the tests, without the slow and the browser ones.
	@$(RUN) -m pytest $(SEVERAL) -m "not slow and not ui"

test-all: $(VENV)/.dev ## Run every test.
	@$(RUN) -m pytest $(SEVERAL)

test-hostile: $(VENV)/.dev ## Run what `make test` runs, in an environment that is all against it.
	@$(RUN) -m tests.hostile $(SEVERAL) -m "not slow and not ui"

test-newest: ## Run what `make test` runs, with the newest versions that pyproject.toml allows.
	@rm -rf $(VENV)-newest
	@$(PYTHON) -m venv $(VENV)-newest
	@echo "installing the newest packages, whatever the lock says"
	@$(VENV)-newest/bin/python -m pip --disable-pip-version-check install --quiet -e '.[dev]'
	@$(VENV)-newest/bin/python -m pytest $(SEVERAL) -m "not slow and not ui"

test-ui: $(VENV)/.dev ## Run the tests that look at the Prefect UI in a browser (needs chromium).
	@$(RUN) -m pytest -m ui

lint: $(VENV)/.dev ## Check style.
	@$(RUN) -m ruff check . && $(RUN) -m ruff format --check . && $(VENV)/bin/lint-imports --no-cache

types: $(VENV)/.dev ## Check types.
	@$(RUN) -m mypy

docs: $(VENV)/.dev ## Make the API reference from the docstrings, in build/api.
	@$(RUN) -W error::UserWarning -m pdoc --docformat numpy -o build/api digitflow \
		digitflow.tasks.engine digitflow.tasks.stages digitflow.tasks.nn digitflow.tasks.parameters

check: lint types test ## Everything that CI checks, but for the browser.

format: $(VENV)/.dev ## Format the code.
	@$(RUN) -m ruff check --fix . && $(RUN) -m ruff format .

LOCK := $(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-header --no-annotate pyproject.toml --extra build
lock: $(VENV)/.dev ## Pin the closure again, from pyproject.toml (UPGRADE=--upgrade for newer versions).
	@$(LOCK) $(UPGRADE) -o requirements.txt
	@$(LOCK) $(UPGRADE) --extra dev -c requirements.txt -o requirements-dev.txt

audit: $(VENV)/.dev ## Look every pin up among known vulnerabilities (needs a network).
	@$(VENV)/bin/uv tool run --quiet pip-audit --strict --disable-pip --require-hashes \
		-r requirements.txt -r requirements-dev.txt

sbom: $(VENV)/.dev ## Write what a release consists of, in build/sbom.json (CycloneDX).
	@mkdir -p build
	@$(VENV)/bin/uv tool run --quiet --from cyclonedx-bom cyclonedx-py requirements requirements.txt \
		--pyproject pyproject.toml --output-reproducible -o build/sbom.json

install: $(VENV)/.dev ## Make the virtual environment, with the developer tools.

clean: ## Remove the virtual environment and what tools left (not the store, not the results).
	rm -rf $(VENV) $(VENV)-newest build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

# A virtual environment that does not start (its Python is gone) is made anew. The stamps are
# written last, so an interrupted installation is taken up again.
$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "digitflow needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1)." \
		"Name another: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@echo "making the virtual environment $(VENV)"
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.run: $(VENV)/.python requirements.txt pyproject.toml
	@echo "installing the pinned packages (about a minute)"
	@$(PIP) --require-hashes -r requirements.txt
	@$(PIP) --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.run requirements-dev.txt
	@echo "installing the developer tools"
	@$(PIP) --require-hashes -r requirements-dev.txt
	@touch $@

ifneq ($(wildcard $(VENV)/.python),)
ifneq ($(shell $(RUN) -c 'print("works")' 2>/dev/null),works)
.PHONY: $(VENV)/.python
endif
endif
