# Two commands do everything on a bare machine with Python 3.11 or newer: `make demo` and `make test`.
# Every target makes `.venv` first (`make setup`); the second time that takes no time.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.complete
OUT ?= runs/demo
WORKERS ?= 2
REPEATS ?= 100
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

.DEFAULT_GOAL := help
.PHONY: help setup demo test faults sandbox check bench docs test-servers test-trl doors wheel clean

help: ## show the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: $(STAMP) ## make .venv with the package and all that tests need

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: stepcredit needs Python 3.11 or newer; name one with make PYTHON=/path/to/python3" >&2; exit 3; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
	  { echo "error: this Python makes no virtual environments (Debian: apt-get install python3-venv)" >&2; exit 3; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[math,train,sandbox,dev]"
	@touch $@

demo: $(STAMP) ## train with TP-GRPO and with GRPO, compare them, write runs/demo/report.html
	$(BIN)/stepcredit demo --out $(OUT) $(ARGS)

test: $(STAMP) ## all tests that need no server, GPU or second environment, and the doctests
	$(ONE_THREAD) $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

faults: $(STAMP) ## the long form of tests/faults: fifty kill -9 in each stage, 2,000 calls to a failing server
	$(ONE_THREAD) $(BIN)/python -m pytest -m slow tests/faults -n $(WORKERS) --dist worksteal $(ARGS)

sandbox: $(STAMP) ## build the WebAssembly component; hostile programs: all in each engine, REPEATS at random, 32 at once
	$(BIN)/python -c 'from stepcredit.sandbox.component import build_component; print(build_component())'
	$(ONE_THREAD) SANDBOX_REPEATS=$(REPEATS) $(BIN)/python -m pytest -m slow tests/sandbox $(ARGS)

check: $(STAMP) ## lint, format, types, import contracts, rules of the house
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/python -m pytest tests/house

bench: $(STAMP) ## speed on this machine: every benchmarks/*_speed.py
	@for file in benchmarks/*_speed.py; do echo "== $$file"; $(ONE_THREAD) $(BIN)/python $$file $(ARGS) || exit; done

docs: $(STAMP) ## API reference from the docstrings, into docs/api
	$(BIN)/pdoc --docformat google --no-show-source -o docs/api stepcredit

test-servers: $(STAMP) ## tests against a real vLLM server in an environment of its own
	tests/servers/make_venv.sh $(PYTHON)
	$(BIN)/python -m pytest -m servers tests/servers $(ARGS)

test-trl: ## the TRL adapter against the oldest and the newest TRL, each in an environment of its own
	tests/adapters/make_trl_venvs.sh $(PYTHON)
	@for venv in .venv-trl-oldest .venv-trl-newest; do echo "== $$venv"; \
	  $(ONE_THREAD) $$venv/bin/python -m pytest tests/adapters stepcredit/adapters -m 'not learning' $(ARGS) || exit; done

wheel: $(STAMP) ## build the wheel into dist/
	rm -rf dist
	$(BIN)/python -m build --wheel --outdir dist .

doors: wheel ## the README's commands, run from the wheel in empty environments
	$(BIN)/python -m pytest -m doors tests/doors

clean: ## remove what the other targets made, runs excepted
	rm -rf $(VENV) .venv-vllm .venv-trl-oldest .venv-trl-newest dist build docs/api .pytest_cache .ruff_cache .hypothesis .import_linter_cache
