# `make` lists what there is. Everything needs only Python 3.11 or newer and access to PyPI.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python scripts/install.py

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev run test lint check docs model-card bench bench-memory bench-import bench-program chaos simulate mutants pictures axe schema lock clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/.runtime ## Make .venv with the loyalpro command in it

setup-dev: $(VENV)/.dev ## Like setup, with everything that tests and checks need

run: setup ## Try it out: a server, a shop, and a receiver that verifies every delivery
	@$(BIN)/loyalpro demo

test: setup-dev ## Run every test, a file on each CPU core
	@$(BIN)/python -m scripts.oracle
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder --durations 25

lint: setup-dev ## Check style, types, and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

check: lint test ## Run lint and test, which have to pass before a commit

docs: setup-dev ## Write the generated pages of docs/reference again
	$(BIN)/python scripts/reference.py

model-card: setup-dev ## Fit the churn model to the CDNOW purchases again; writes docs/churn-model-card.md
	$(BIN)/python -m scripts.churn_model_card

bench: setup-dev ## Measure every goal but memory, import and program, about 25 minutes; writes sections of bench/RESULTS.md (its options: make bench ARGS=--help)
	$(BIN)/python -m bench $(ARGS)

bench-memory: setup-dev ## Watch the server's memory for an hour; writes its section of bench/RESULTS.md
	$(BIN)/python -m bench --only memory

bench-import: setup-dev ## Import a million purchases into a new database, about 15 minutes; writes its section of bench/RESULTS.md
	$(BIN)/python -m bench --only import

bench-program: setup-dev ## Import a million purchases beside live traffic and let a million lots expire, about an hour; writes its sections of bench/RESULTS.md
	$(BIN)/python -m bench --only program-sqlite,program-postgres $(ARGS)

chaos: setup-dev ## Run real processes with real faults and check every webhook; writes bench/CHAOS.md (its options: make chaos ARGS=--help)
	$(BIN)/python -m chaos $(ARGS)

simulate: setup-dev ## Run 5,000 seeds full of faults on a virtual clock; writes bench/SIMULATION.md and bench/PROGRAM_SIMULATION.md (its options: make simulate ARGS=--help)
	$(BIN)/python -m simulation $(ARGS)

mutants: setup-dev ## Replace functions of the product by wrong ones, and check that the simulation finds each; writes bench/MUTANTS.md
	$(BIN)/python -m simulation --mutants $(ARGS)

pictures: setup-dev ## Draw every page of the dashboard, in both themes at three widths; writes docs/images/dashboard (one page: make pictures ARGS='--only NAME')
	$(BIN)/python scripts/pictures.py $(ARGS)

axe: setup-dev ## Ask axe about every page of the dashboard, in both themes at three widths
	$(BIN)/python scripts/pictures.py --check $(ARGS)

schema: setup-dev ## Write the schema that all migrations add up to, for both databases
	$(BIN)/python scripts/schema.py

lock: setup-dev ## Write the newest versions of all packages, and their hashes, into requirements
	$(INSTALL) run pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --custom-compile-command "make lock" -o requirements/runtime.txt pyproject.toml
	$(INSTALL) run pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --custom-compile-command "make lock" -o requirements/oracle.txt requirements/oracle.in
	$(INSTALL) run pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --custom-compile-command "make lock" --extra dev -c requirements/runtime.txt -o requirements/dev.txt pyproject.toml

clean: ## Remove .venv, caches and builds
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist

$(VENV)/.uv: requirements/uv.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "LoyalPro needs Python 3.11 or newer, and this is %s. Name another: make PYTHON=python3.12 ..." % sys.version.split()[0])'
	@echo "Creating $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(INSTALL) pip requirements/uv.txt
	@touch $@

# The package itself is linked by a .pth file: there is nothing to build, so nothing unpinned is fetched to build it.
$(VENV)/.runtime: $(VENV)/.uv requirements/runtime.txt
	@$(INSTALL) uv requirements/runtime.txt
	@$(BIN)/python scripts/link.py
	@echo "LoyalPro is installed: $(BIN)/loyalpro"
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime requirements/dev.txt
	@$(INSTALL) uv requirements/dev.txt
	@touch $@
