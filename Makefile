# The verbs of the repository. Each sets up what it needs; `make` alone lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:

BIN := .venv/bin
PACKAGES := server/pyproject.toml sdk/python/pyproject.toml
# How many tests run at once: four more than there are processors, since many wait for a process or
# a clock. And anything else for the program behind a verb: make test ARGS="-k sse"
JOBS ?= $(shell echo $$(($$(getconf _NPROCESSORS_ONLN) + 4)))
ARGS ?=
# The documentation and the console, in the server's package.
SITE := server/src/resonantgenesis_server/site/index.html
CONSOLE := server/src/resonantgenesis_server/console/index.html
# What the tests in Python stand on.
PYTHON_TESTS := .venv/.collected $(SITE) $(CONSOLE) .venv-guide/.done .venv-frameworks/.done tests/clients/node_modules/.done
# How often `make soak` runs the whole suite under load.
RUNS ?= 20
# The tests start hundreds of servers and commands; without it each would compile all that is ours.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup site console demo serve test test-python test-typescript test-bounds soak check format bench bench-full lock audit dist clean

help: ## Show the verbs
	@awk -F ':.*## ' '/^[a-z][a-z -]*:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: .venv/.dev node_modules/.done $(SITE) $(CONSOLE) ## Install everything for development into .venv and node_modules

demo: .venv/.run ## Start a server, ask its built-in agent, show the answer as it streams
	@$(BIN)/resonantgenesis demo $(ARGS)

serve: .venv/.run ## Run the server on 127.0.0.1:8080
	@$(BIN)/resonantgenesis serve $(ARGS)

# What ARGS chooses among the tests only pytest understands: with it, Python's run alone.
test: test-python $(if $(ARGS),,test-typescript test-bounds) ## Run every test but the long campaigns

# Each worker has a stretch of its own, so that what a module's tests share is made once.
test-python: $(PYTHON_TESTS) ## Run those in Python alone: ARGS="-k sse"
	@scripts/system.sh
	@$(BIN)/pytest -n $(JOBS) --dist worksteal -m "not soak" $(ARGS)

test-typescript: .venv/.dev node_modules/.done ## Run those in TypeScript alone: ARGS="--project core"
	@scripts/system.sh
	@node_modules/.bin/vitest run $(ARGS)

test-bounds: .venv/.dev ## Run some of them with the oldest dependencies, and with the newest Python here
	@scripts/bounds.sh

soak: .venv/.dev .venv-guide/.done .venv-frameworks/.done .venv-model/.done tests/clients/node_modules/.done tests/databases/node_modules/.done ## Run the long campaigns
	@scripts/system.sh
	@$(BIN)/pytest -m soak $(ARGS)
	@[[ -n "$(ARGS)" ]] || scripts/suite_under_load.sh $(RUNS)

site: $(SITE) $(CONSOLE) ## Build the documentation and the console, which the server serves

console: $(CONSOLE) ## Build the console alone

check: .venv/.dev node_modules/.done ## Format, lint, generated code, types and layers
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/python scripts/sync_client.py --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@node_modules/.bin/biome ci
	@scripts/types.sh

format: .venv/.dev node_modules/.done ## Format the code, apply the linters' safe fixes, write what is generated
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .
	@$(BIN)/python scripts/sync_client.py
	@$(BIN)/python scripts/tables.py
	@node_modules/.bin/biome check --write

ifneq ($(wildcard bench/Makefile),)
bench bench-full: .venv/.dev ## Measure beside the peers
	@$(MAKE) --no-print-directory -C bench $@
else
bench bench-full:
	@echo "The benchmarks come with a later release."
endif

lock: .venv/.dev ## Rewrite requirements/*.txt from requirements/*.in
	@scripts/lock.sh $(ARGS)

audit: ## Ask the registries for open advisories of what a release is made of; needs the network
	@scripts/audit.sh

dist: .venv/.dev node_modules/.done $(SITE) $(CONSOLE) ## Build the packages into dist/, with their bills of materials and checksums
	@$(BIN)/python scripts/dist.py $(ARGS)

clean: ## Remove what the verbs made, but no data
	@rm -rf build server/src/resonantgenesis_server/{site,console} .venv .venv-guide .venv-frameworks .venv-model .venv-lowest .venv-newest dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .schemathesis
	@rm -rf node_modules sdk/typescript/{dist,node_modules} examples/*/{dist,node_modules} tests/browser/*/node_modules tests/{clients,databases}/node_modules
	@find . -name node_modules -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamps: what was installed last. They live in what they stand for, so that they go when it goes.
.venv/bin/python:
	@scripts/venv.sh

.venv/.run: requirements/server.txt requirements/build.txt $(PACKAGES) | .venv/bin/python
	@scripts/venv.sh
	@scripts/install.sh build server
	@touch $@

.venv/.dev: requirements/dev.txt $(PACKAGES) | .venv/bin/python
	@scripts/venv.sh
	@scripts/install.sh dev
	@touch .venv/.run $@

# The first time, each worker would compile all tests by itself.
.venv/.collected: | .venv/.dev
	@$(BIN)/pytest --collect-only -qq >/dev/null || true
	@touch $@

.venv-guide/.done: requirements/guide.txt | .venv/bin/python
	@scripts/guide_env.sh
	@touch $@

.venv-frameworks/.done: requirements/frameworks.txt $(PACKAGES) | .venv/.dev
	@scripts/frameworks_env.sh
	@touch $@

.venv-model/.done: requirements/model.txt | .venv/.dev
	@scripts/model_env.sh
	@touch $@

tests/clients/node_modules/.done: tests/clients/package-lock.json
	@scripts/clients_env.sh
	@touch $@

tests/databases/node_modules/.done: tests/databases/package-lock.json
	@scripts/databases_env.sh
	@touch $@

$(CONSOLE): node_modules/.done $(shell find console sdk/typescript/src -type f -not -path '*/node_modules/*')
	@npm run --silent --workspace @resonantgenesis/sdk build
	@npm run --silent --workspace @resonantgenesis/console build
	@touch $@

$(SITE): .venv/.dev node_modules/.done mkdocs.yml scripts/site.py scripts/sockets.py $(wildcard site/* docs/* server/src/resonantgenesis_server/http/websocket/*.py) PROTOCOL.md ARCHITECTURE.md CONTRIBUTING.md CHANGELOG.md
	@$(BIN)/python scripts/site.py
	@touch $@

node_modules/.done: package-lock.json package.json $(wildcard console/package.json sdk/typescript/package.json examples/*/package.json)
	@scripts/node.sh
	@touch $@
