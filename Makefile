# The verbs, the same for a person and for CI. Everything lands in .venv and the user's cache.
#
#   make setup    the environment, with everything that the verbs below need
#   make serve    the product on this machine, with the default model    (ARGS="--http-port 9000")
#   make test     all tests                                              (ARGS="tests/octavo -x")
#   make check    formats, lint, types, imports, protos
#   make stubs    octavo/v1 from protos/
#   make bench    the running product under load     (ARGS=--quick; BENCH="decode waiting" for others)
#   make peers    llama.cpp, for `python -m benchmarks.peers.llama_cpp`
#   make gpu      tests and figures where there is a GPU, without network  (PART="tests engine")
#   make gpu-wheels   the wheels that `make gpu` needs there, into .wheels; run it where there is one
#
# Which torch: the default is what the tests run on. Another build is asked for like this:
#   make setup TORCH="torch==2.11.0 --index-url <PyTorch's index of the build for your device>"

TORCH ?= torch==2.13.0
# A CUDA build of torch brings the Triton it was made with; the default is pinned here.
TRITON ?= $(if $(filter torch==2.13.0,$(TORCH)),triton==3.9.0)
VENV ?= .venv
ARGS ?=

BIN := $(VENV)/bin
PYTHON := $(BIN)/python
PIP := .ci/quietly $(PYTHON) -m pip --disable-pip-version-check
SOURCES := octavo services gateway tests docs/examples $(wildcard benchmarks)
PROTOS := $(wildcard protos/octavo/v1/*.proto)
READY := $(VENV)/octavo-ready
KERNELS := $(VENV)/kernels-ready

.PHONY: help setup serve test check stubs bench peers gpu gpu-wheels model FORCE
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

help:
	@sed -n 's/^#   \(make .*\)/\1/p' Makefile

# ---- setup: runs again only when the dependencies or the choice of torch changed

setup: $(READY) $(KERNELS)
	@echo "setup: ready in $(VENV)"

$(PYTHON):
	@.ci/make-venv $(VENV)

# Holds the choice of torch, and is only rewritten by another choice.
$(VENV)/torch-choice: $(PYTHON) FORCE
	@echo '$(TORCH) $(TRITON)' | cmp -s - $@ || echo '$(TORCH) $(TRITON)' > $@

$(READY): pyproject.toml constraints.txt $(VENV)/torch-choice
	@echo "setup 1/3: $(TORCH)"
	@# Exactly and first: a range, met by another package's need, would fetch gigabytes of CUDA.
	@$(PIP) install $(TORCH)
	@echo "setup 2/3: the exact versions of constraints.txt"
	@$(PIP) install -c constraints.txt hatchling
	@$(PIP) install -c constraints.txt --no-build-isolation \
	    -e '.[gateway,tokenizer,worker,hub,dev]' $(TRITON)
	@echo "setup 3/3: do the packages agree?"
	@$(PIP) check
	@touch $@

# The C++ kernels for this machine's CPU; without a compiler it says what runs instead.
$(KERNELS): $(READY) $(wildcard services/worker/kernels/cpu/native/*)
	@$(PYTHON) -m services.worker.kernels.cpu.build
	@touch $@

model: $(READY) $(KERNELS)
	@$(PYTHON) -m services.worker.tools.prepare >/dev/null

# ---- the product and its tests

serve: $(READY) $(KERNELS)
	@$(PYTHON) -m octavo serve $(ARGS)

test: model
	@$(PYTHON) -m pytest $(ARGS)

BENCH ?= serving

bench: model
	@model=$$($(PYTHON) -m services.worker.tools.prepare --quiet); set -e; \
	for name in $(BENCH); do $(PYTHON) -m benchmarks.$$name --model "$$model" $(ARGS); done

# ---- other engines, for benchmarks/peers: an environment of their own, compiled for this machine

PEERS := .venv-peers

peers:
	@test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS)
	@CMAKE_ARGS="-DGGML_NATIVE=ON" $(PEERS)/bin/pip install --quiet --disable-pip-version-check \
	    --no-binary=llama-cpp-python --requirement=benchmarks/peers/requirements.txt
	@echo "peers: ready in $(PEERS)"

# ---- on a machine with a GPU and without network: benchmarks/gpu/__init__.py says what happens

DEVICE ?= cuda
PART ?=
WHEELS ?= .wheels
RESULTS ?= benchmarks/results
# The environment of `make setup` where there is one, else whichever Python has torch.
GPU_PYTHON ?= $(if $(wildcard $(PYTHON)),$(PYTHON),python3)

gpu:
	@$(GPU_PYTHON) -m benchmarks.gpu --device=$(DEVICE) --wheels=$(WHEELS) --results=$(RESULTS) \
	    $(PART:%=--part=%) $(if $(COMMIT),--commit=$(COMMIT)) $(ARGS)

gpu-wheels: $(READY)
	@$(PYTHON) -m benchmarks.gpu.gather_wheels --output=$(WHEELS) $(ARGS)

# ---- the checks: independent of each other, so they run side by side

CHECKS := check-format check-lint check-types check-imports check-stubs check-protos
.PHONY: $(CHECKS)

check: $(READY)
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target --keep-going $(CHECKS)
	@echo "check: all passed"

check-format:
	@echo "ruff format"; $(BIN)/ruff format --check .

check-lint:
	@echo "ruff check"; $(BIN)/ruff check .

check-types:
	@echo "mypy"; $(BIN)/mypy $(SOURCES)

check-imports:
	@echo "lint-imports"; $(BIN)/lint-imports --no-logo

check-stubs:
	@echo "stubs"; rm -rf $(VENV)/stubs; mkdir $(VENV)/stubs
	@$(call protoc,$(VENV)/stubs)
	@diff -rq --exclude=__init__.py --exclude=__pycache__ $(VENV)/stubs/octavo/v1 octavo/v1 \
	    || { echo "octavo/v1 differs from protos/: run make stubs and commit it"; exit 1; }

check-protos:
	@echo "buf lint"; $(BIN)/buf lint protos
	@BUF=$(BIN)/buf .ci/proto-breaking

# ---- the stubs

protoc = PATH="$(abspath $(BIN)):$$PATH" $(PYTHON) -m grpc_tools.protoc -Iprotos \
	--python_out=$(1) --grpc_python_out=$(1) \
	--mypy_out=quiet:$(1) --mypy_grpc_out=quiet:$(1) $(PROTOS)

stubs: $(READY)
	@$(call protoc,.)
