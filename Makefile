# make demo    the whole loop on this machine        make lint      ruff and mypy
# make test    the tests of a few minutes            make test-all  all of them
# Each sets up what it needs first: a virtual environment in .venv, once.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= $(firstword $(shell command -v python3.11 python3.12 python3 2>/dev/null))
VENV ?= .venv
# With an NVIDIA driver that answers, the GPU builds; else the CPU builds.
EXTRA ?= $(shell nvidia-smi -L >/dev/null 2>&1 && echo gpu || echo cpu)
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready-$(EXTRA)
TESTS ?= tests

.PHONY: help setup demo test test-all lint

help:
	@sed -n 's/^# //p;/^SHELL/q' $(MAKEFILE_LIST)

setup: $(STAMP)

$(STAMP): pyproject.toml cluster/environment.py cluster/torchvision_hook.py
	@if [ -z "$(PYTHON)" ]; then echo "error: Python 3.11 or 3.12 is needed: apt install python3.11 python3.11-venv" >&2; exit 2; fi
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' || \
		{ echo "error: $(PYTHON) is not Python 3.11 or 3.12; give one: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "error: $(PYTHON) cannot make virtual environments: apt install python3-venv" >&2; exit 2; }
	@free=$$(df -Pk . | awk 'NR == 2 {print $$4}'); if [ "$$free" -lt 8000000 ]; then \
		echo "error: the environment needs about 8 GB of disk while it is installed; $$((free / 1000000)) GB are free here" >&2; exit 2; fi
	@echo "setting up $(VENV) with the $(EXTRA) builds (about 4 GB, some minutes, once)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q -e ".[$(EXTRA),dev]" || { \
		echo "error: pip could not install (its message stands above). If it finds no CPU build of torch, name the" >&2; \
		echo "index that PyTorch publishes them on, and run again: PIP_EXTRA_INDEX_URL=... make $(MAKECMDGOALS)" >&2; exit 2; }
	@$(BIN)/python -m cluster.environment --fix
	@touch $@

demo: setup
	@$(BIN)/l2t demo

test: setup
	@$(BIN)/python -m pytest -m "not slow" $(TESTS)

test-all: setup
	@$(BIN)/python -m pytest $(TESTS)

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
