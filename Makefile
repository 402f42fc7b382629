# `make demo` and `make test` set up everything they need, on a fresh machine too.
PYTHON ?= python3
BIN := .venv/bin
TRACES ?= ../shared/traces
READY := .venv/ready
GPU_READY := .venv-gpu/ready

.DEFAULT_GOAL := help
.PHONY: help demo test leaderboard lint unit bench gpu-check proto lock clean system

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(READY) ## a compressed day through a fixed fleet and through minwatt; report in out/demo/
	$(BIN)/python -m examples.demo.run

test: $(READY) lint unit ## style, types, layers, and every test that needs no GPU

leaderboard: $(READY) ## every autoscaler over the traces in TRACES=DIR; docs/leaderboard.md; hours, goes on where it stopped
	$(BIN)/python -m scripts.leaderboard --traces $(TRACES) $(OPTIONS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: $(READY)
	$(BIN)/pytest

bench: $(READY) ## what a beat of the scaler costs at 100 to 10,000 replicas
	$(BIN)/python -m bench.signals

gpu-check: ## on a machine with an NVIDIA card: answers, memory, sweep, joules; one report in out/gpu-check/
	@$(PYTHON) -m tests.gpu.card
	@$(MAKE) --no-print-directory $(GPU_READY)
	.venv-gpu/bin/python -m tests.gpu $(OPTIONS)

proto: $(READY) ## write the stubs anew from proto/
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m grpc_tools.protoc -Iproto --python_out=. --grpc_python_out=. \
	  --mypy_out=quiet:. --mypy_grpc_out=quiet:. $$(find proto -name '*.proto')

lock: system ## pin every package anew in constraints.txt
	$(PYTHON) scripts/lock.py

clean: ## remove the environment and all output
	rm -rf .venv .venv-gpu out dist build

$(READY): pyproject.toml constraints.txt | system
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,proto]'
	@touch $@

# onnxruntime-gpu brings the same module as onnxruntime, which everything else asks for: it goes in last, alone.
$(GPU_READY): pyproject.toml constraints.txt | system
	$(PYTHON) -m venv .venv-gpu
	.venv-gpu/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,gpu]'
	.venv-gpu/bin/pip uninstall --quiet --yes onnxruntime
	.venv-gpu/bin/pip install --quiet --disable-pip-version-check --force-reinstall --no-deps onnxruntime-gpu
	@touch $@

# What pip can't bring: an interpreter that is new enough and, for one test's stand-in library, a C compiler.
system:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "minwatt needs Python 3.11 or newer; $(PYTHON) is older. Set PYTHON=python3.x" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || scripts/need-debian python3-venv
	@command -v cc >/dev/null || scripts/need-debian gcc libc6-dev
