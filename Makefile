# `make demo` and `make test` set up everything they need, on a fresh machine too.
PYTHON ?= python3
BIN := .venv/bin
TRACES ?= ../shared/traces
READY := .venv/ready
GPU_READY := .venv-gpu/ready
PERF_ANALYZER := .perf-analyzer
KSERVE := .kserve

.DEFAULT_GOAL := help
.PHONY: help demo test docs pictures leaderboard lint unit bench bench-peers bench-scaler bench-fleet chaos soak explore fuzz gpu-check proto lock clean system perf-analyzer kserve

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

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
	$(BIN)/pytest -n 2 --dist worksteal

bench: $(READY) ## the server beside its ceiling and its floor; docs/benchmarks.md; ten minutes of a quiet machine
	$(BIN)/python -m bench.serving $(OPTIONS)

bench-peers: $(READY) ## the server beside others of its kind, each in its own environment under .venv-peers/
	$(BIN)/python -m bench.peers $(OPTIONS)

bench-scaler: $(READY) ## what a beat of the scaler costs at 100 to 10,000 replicas
	$(BIN)/python -m bench.signals

bench-fleet: $(READY) ## a scaler's beat and tick at 10,000 replicas that report each second through a real Redis
	$(BIN)/python -m bench.fleet $(OPTIONS)

chaos: $(READY) ## 1,000 replica stops and starts under load: 0 failed requests; OPTIONS='--stops 100 --addresses'
	$(BIN)/python -m bench.chaos $(OPTIONS)

soak: $(READY) ## an hour of everything at one replica: nothing lost, nothing growing; OPTIONS='--minutes 5'
	$(BIN)/python -m bench.soak $(OPTIONS)

gpu-check: ## on a machine with an NVIDIA card: answers, memory, sweep, joules; one report in out/gpu-check/
	@$(PYTHON) -m tests.gpu.card
	@$(MAKE) --no-print-directory $(GPU_READY)
	.venv-gpu/bin/python -m tests.gpu $(OPTIONS)

explore: $(READY) ## the property tests with examples that no run has drawn before; OPTIONS='tests/scaler'
	$(BIN)/pytest -n 2 --dist worksteal -m hypothesis --hypothesis-profile explore $(OPTIONS)

fuzz: $(READY) ## ten minutes of coverage-guided fuzzing of messages; what it finds stays in out/fuzz/
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[fuzz]'
	mkdir -p out/fuzz/corpus
	$(BIN)/python -m tests.fuzz models/support-text out/fuzz/corpus -max_total_time=600 -artifact_prefix=out/fuzz/

docs: $(READY) ## the documentation as a site, out/site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

pictures: $(READY) ## the README's pictures anew, of a real fleet and of the last demo
	$(BIN)/python -m scripts.pictures

proto: $(READY) ## write the stubs anew from proto/
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m grpc_tools.protoc -Iproto --python_out=. --grpc_python_out=. \
	  --mypy_out=quiet:. --mypy_grpc_out=quiet:. $$(find proto/minwatt -name '*.proto')
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m grpc_tools.protoc -Iproto/inference \
	  --descriptor_set_out=service/oip/open_inference.binpb --mypy_out=quiet:service/oip open_inference.proto
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m grpc_tools.protoc -Iscaler/kube/keda=proto/keda \
	  --python_out=. --grpc_python_out=. --mypy_out=quiet:. --mypy_grpc_out=quiet:. proto/keda/externalscaler.proto

lock: system ## pin every package anew in constraints.txt
	$(PYTHON) scripts/lock.py

clean: ## remove the environment and all output
	rm -rf .venv .venv-gpu $(PERF_ANALYZER) $(KSERVE) out dist build

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

perf-analyzer: $(PERF_ANALYZER)/ready ## NVIDIA's perf_analyzer, which a test runs against a replica
	@/sbin/ldconfig -p | grep -q 'libb64\.so\.0d' || scripts/need-debian libb64-0d

$(PERF_ANALYZER)/ready: tests/e2e/perf_analyzer.txt | $(READY)
	rm -rf $(PERF_ANALYZER)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --target $(PERF_ANALYZER) -r $<
	@touch $@

kserve: $(READY) $(KSERVE)/ready ## KServe's own client against a replica, from an environment of its own
	$(BIN)/python -m pytest -q tests/e2e/test_kserve.py

$(KSERVE)/ready:
	$(PYTHON) -m venv $(KSERVE)
	$(KSERVE)/bin/pip install --quiet --disable-pip-version-check 'kserve>=0.21,<0.22'
	@touch $@

# What pip can't bring: an interpreter that is new enough and, for tests, a C compiler, a Redis server, promtool and Chromium.
system:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "minwatt needs Python 3.11 or newer; $(PYTHON) is older. Set PYTHON=python3.x" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || scripts/need-debian python3-venv
	@command -v cc >/dev/null || scripts/need-debian gcc libc6-dev
	@command -v redis-server >/dev/null || scripts/need-debian redis-server
	@command -v promtool >/dev/null || scripts/need-debian prometheus
	@command -v chromedriver >/dev/null || scripts/need-debian chromium chromium-driver
