# What a newcomer does: `make demo`, then `make test`. Needs Python 3.10 to 3.14, make and a package index; nothing else.
#   make demo FILES="a.bin b.txt"   what type of file is each of these?
#   make test                       ruff, mypy and every test; TESTS="tests/emulator -k mma" narrows the last
#   make check                      only ruff and mypy
#   make benchmark                  compile times of all models, as a table and as JSON
#   make conformance                all node cases of onnx on the emulator, as a table; writes what docs/operators.md is made of
#   make gpu-bundle                 engines, inputs and expected outputs for a machine with a GPU, in build/gpu-bundle
#   make gpu-check                  run that bundle on this machine's GPU: answers (Python, numpy, ml_dtypes, cuda-bindings), then
#                                   speed beside torch (torch, onnx); five parts of at most 7 minutes, each a target; 25 in all
#   make report                     tables of benchmarks/results/gpu-*.json
#   make docs                       renew the excerpts of IR and the list of operators in the documentation
#   make lock                       pin again what is installed in .venv
PYTHON ?= $(shell for p in python3.12 python3.13 python3.11 python3.14 python3.10 python3; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null \
	&& { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
WORKERS ?= 2
TESTS ?= tests

.PHONY: demo test check benchmark conformance docs lock setup clean report
.PHONY: gpu-bundle gpu-check gpu-answers gpu-kernels gpu-compiled gpu-models gpu-sanitized
.DEFAULT_GOAL := demo

demo: $(READY)
	@$(BIN)/python examples/file_types.py $(FILES)

test: check
	@$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal $(TESTS)

check: $(READY)
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy

benchmark: $(READY)
	@$(BIN)/python -m benchmarks.compile_time

conformance: $(READY)
	@$(BIN)/python -m benchmarks.conformance --workers $(WORKERS) --json benchmarks/results/conformance.json

gpu-bundle: $(READY)
	@$(BIN)/python -m benchmarks.gpu_bundle

# Run where nothing can be installed: with the machine's own Python. A part that fails does not keep the others from running.
# A part starts nothing after --seconds and is cut off a minute later (each sanitizer 15 seconds): 25 minutes in all.
# RESUME=--resume goes on after a cut.
BUNDLE ?= build/gpu-bundle
RESUME ?=
DEVICE ?= cuda
RESULTS := $(if $(filter cuda,$(DEVICE)),benchmarks/results,build/gpu-tried)
gpu_part = PYTHONPATH=.pkg:. timeout $(1) python3 $(2) $(BUNDLE) $(RESUME) --device $(DEVICE)
COMPILED := "matmul + epilogue" "gated matmul" "matmul + norm" memory "grouped decode" "group norm" transpose sum depthwise \
  "QDQ matmul" "QDQ convolution"

gpu-check:
	@$(MAKE) --keep-going gpu-answers gpu-kernels gpu-compiled gpu-models gpu-sanitized

gpu-answers:
	@$(call gpu_part,240,benchmarks/gpu_check.py) --seconds 180 --out $(RESULTS)/gpu-check.json

gpu-sanitized:
	@command -v compute-sanitizer >/dev/null || { echo "no compute-sanitizer here: not run"; exit 0; }; status=0; \
	for tool in memcheck racecheck; do PYTHONPATH=.pkg:. timeout 60 compute-sanitizer --tool $$tool --error-exitcode 9 \
	python3 benchmarks/gpu_check.py $(BUNDLE) --only ladder --together --seconds 45 --out build/sanitized-$$tool.json \
	|| { echo "$$tool: status $$?"; status=1; }; done; exit $$status

gpu-kernels:
	@$(call gpu_part,420,benchmarks/gpu_speed.py) --seconds 360 --out $(RESULTS)/gpu-kernels.json \
	--family matmul convolution attention "attention decode" "typed matmul" "int4 matmul" "scaled e4m3 matmul"

gpu-compiled:
	@$(call gpu_part,300,benchmarks/gpu_speed.py) --seconds 240 --out $(RESULTS)/gpu-compiled.json --family $(COMPILED)

gpu-models:
	@$(call gpu_part,420,benchmarks/gpu_models.py) --seconds 360 --out $(RESULTS)/gpu-models.json

report: $(READY)
	@$(BIN)/python -m benchmarks.report

setup: $(READY)

# Remade only when what is installed would change; the package itself is installed editable.
$(READY): pyproject.toml requirements.lock
	@test -n "$(PYTHON)" || { echo "tilewright needs Python 3.10 to 3.14 with venv; set PYTHON=/path/to/python"; exit 1; }
	@test -x $(BIN)/python || { echo "creating $(VENV) with $$($(PYTHON) --version)"; $(PYTHON) -m venv $(VENV); }
	@echo "installing the pinned dependencies into $(VENV) (once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock \
		--editable '.[test,disassembler]'
	@touch $@

docs: $(READY)
	@TILEWRIGHT_UPDATE=1 $(BIN)/python -m pytest -q tests/style/test_documentation.py

lock: $(READY)
	@$(BIN)/python .ci/lock.py

clean:
	@rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache
