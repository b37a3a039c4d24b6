# `make help` lists what there is. Every target sets up its own environment first.
PYTHON ?= $(shell .ci/pick-python)
BIN := .venv/bin
# Threads that spin while they wait make each other slow where trainings share few cores.
export OMP_WAIT_POLICY ?= PASSIVE

.DEFAULT_GOAL := help
.PHONY: help setup up demo secrets test test-compose soak check format lock docs clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*##/  make \1\t/p' $(MAKEFILE_LIST) | expand -t 24

setup:  ## .venv as requirements.lock says (part of every other target)
	@test -n "$(PYTHON)" && "$(PYTHON)" .ci/setup.py

up: setup  ## start everything on this machine; Ctrl-C stops it
	@exec $(BIN)/python -m embedded up

demo: setup  ## teacher, baseline and student on real images, to the verdict
	@exec $(BIN)/python -m embedded demo

test: setup  ## all tests
	$(BIN)/python -m pytest $(ARGS)

secrets:  ## .env for docker compose, with random passwords; what is there stays
	@docker/secrets.sh

test-compose: setup  ## build and run docker-compose.yml on this machine's Docker engine
	$(BIN)/python -m pytest -m compose tests/compose $(ARGS)

soak: setup  ## jobs while everything is killed at random: SEED=1 MINUTES=10 JOBS=10000
	$(BIN)/python -m tests.chaos.soak --seed $(or $(SEED),1) --minutes $(or $(MINUTES),10) --jobs $(or $(JOBS),10000)

check: setup  ## format, lint, types, import rules, lock file
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python .ci/check_lock.py

format: setup  ## put the code into its form
	$(BIN)/ruff check --fix --exit-zero .
	$(BIN)/ruff format .

lock: setup  ## make requirements.lock anew from pyproject.toml
	.ci/lock

docs: setup  ## draw again what is drawn from the code
	KD_WRITE_DOCS=1 $(BIN)/python -m pytest -m docs

clean:  ## remove the environment and caches; the state in .stillhouse stays
	rm -rf .venv .uv .setup.lock .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
