# `make demo` and `make test` set up everything they need, on a fresh machine too.
PYTHON ?= python3
BIN := .venv/bin
TRACES ?= ../shared/traces
READY := .venv/ready
PERF_ANALYZER := .perf-analyzer

.DEFAULT_GOAL := help
.PHONY: help demo test leaderboard lint unit bench proto lock clean system perf-analyzer

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

unit: $(READY) perf-analyzer
	$(BIN)/pytest

bench: $(READY) ## what a beat of the scaler costs at 100 to 10,000 replicas
	$(BIN)/python -m bench.signals

proto: $(READY) ## write the stubs anew from proto/
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m grpc_tools.protoc -Iproto --python_out=. --grpc_python_out=. \
	  --mypy_out=quiet:. --mypy_grpc_out=quiet:. $$(find proto/minwatt -name '*.proto')
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m grpc_tools.protoc -Iproto/inference \
	  --descriptor_set_out=service/oip/open_inference.binpb --mypy_out=quiet:service/oip open_inference.proto

lock: system ## pin every package anew in constraints.txt
	$(PYTHON) scripts/lock.py

clean: ## remove the environment and all output
	rm -rf .venv $(PERF_ANALYZER) out dist build

$(READY): pyproject.toml constraints.txt | system
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,proto]'
	@touch $@

perf-analyzer: $(PERF_ANALYZER)/ready ## NVIDIA's perf_analyzer, which a test runs against a replica
	@/sbin/ldconfig -p | grep -q 'libb64\.so\.0d' || scripts/need-debian libb64-0d

$(PERF_ANALYZER)/ready: tests/e2e/perf_analyzer.txt | $(READY)
	rm -rf $(PERF_ANALYZER)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --target $(PERF_ANALYZER) -r $<
	@touch $@

# What pip can't bring: an interpreter that is new enough and, for one test's stand-in library, a C compiler.
system:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "minwatt needs Python 3.11 or newer; $(PYTHON) is older. Set PYTHON=python3.x" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || scripts/need-debian python3-venv
	@command -v cc >/dev/null || scripts/need-debian gcc libc6-dev
