# Each target makes .venv and installs what it needs: all that is asked for is Python >= 3.11.
PYTHON ?= python3
BIN := .venv/bin
RUN ?= runs/demo

.PHONY: demo test test-slow test-browser gpu extras oracles parity parity-full parity-weights web web-check docs package types lint clean

demo: .venv/demo
	$(BIN)/python eval.py --run glioma --prompt none --limit 2 --output $(RUN)-glioma
	$(BIN)/python train.py --strategy lora4ch --run $(RUN)
	$(BIN)/python eval.py --run $(RUN) --strategy zeroshot --prompt point --save-predictions

test: .venv/test
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

# Every strategy killed and resumed, and one run killed again and again: a quarter of an hour on two cores.
test-slow: .venv/test
	$(BIN)/python -m pytest -m slow -n auto --maxprocesses 4

# The page of samjax serve in a Chromium that is installed (CHROMIUM may name it).
test-browser: .venv/browser
	SAMJAX_NEEDS_BROWSER=1 $(BIN)/python -m pytest -m browser

# What must hold on a GPU; needs jax with CUDA in .venv (pip install -e '.[cuda]').
gpu: .venv/test
	JAX_PLATFORMS=cuda,cpu $(BIN)/python -m pytest -m gpu

# What needs the packages of the extras: ONNX by onnxruntime, and the trackers without a server.
extras: .venv/extras
	$(BIN)/python -m pytest -m extras

# Metrics against MONAI, MedPy and surface-distance; on real labels too where SAMJAX_REAL_DATA names their folder.
oracles: .venv/oracles
	$(BIN)/python -m pytest -m oracles

# The official PyTorch code as the oracle, on a small model.
parity: .venv/parity
	$(BIN)/python -m pytest -m "parity and not full"

# The same for ViT-B at 1024 x 1024: minutes, and 4 GB of memory.
parity-full: .venv/parity
	$(BIN)/python -m pytest -m "parity and full"

# A checkpoint of SAM, yours or Meta's, in samjax and in PyTorch by stages: make parity-weights FILE=sam_vit_b_01ec64.pth
# ARGS="--image-size 256" is quick; ARGS=--help lists all options.
parity-weights: .venv/parity
	$(BIN)/python -m tests.parity_weights $(FILE) $(ARGS)

# The page of samjax serve from its sources in web/ (Node 20 and npm); its built files are committed.
web: web/node_modules
	cd web && npm run --silent build

# Whether the committed page is what the sources give.
web-check: web/node_modules
	rm -rf build/page
	cd web && npm run --silent build -- ../build/page
	diff -r build/page samjax/serve/page

# The source distribution and the wheel made from it: their contents, and the tests of the installed wheel.
package: .venv/package
	rm -rf dist
	$(BIN)/python -m build --no-isolation --outdir dist
	$(BIN)/twine check --strict dist/*
	$(BIN)/check-wheel-contents dist/*.whl
	$(BIN)/hadolint Dockerfile
	SAMJAX_DIST=$(CURDIR)/dist $(BIN)/python -m pytest tests/cli/test_wheel.py

# The types of the public interface.
types: .venv/package
	$(BIN)/mypy

# The documentation in build/docs, without warnings; then its links, its reference and the options of the commands.
docs: .venv/docs
	rm -rf build/docs
	$(BIN)/python -m sphinx -b html -q -E -W --keep-going -d build/docs-pages docs build/docs
	$(BIN)/python -m pytest -m "docs or not docs" tests/docs/test_site.py tests/docs/test_pages.py

lint: .venv/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

clean:
	rm -rf .venv build dist *.egg-info

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "samjax needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv

.venv/demo: pyproject.toml | .venv/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check -e .
	touch $@

.venv/test: pyproject.toml | .venv/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[test]'
	touch $@

.venv/extras: .venv/test
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[onnx,wandb,mlflow]'
	touch $@

.venv/package: .venv/test
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[package]'
	touch $@

.venv/browser: .venv/test
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[serve,browser]'
	touch $@

.venv/docs: .venv/test
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[docs]'
	touch $@

web/node_modules: web/package.json web/package-lock.json
	cd web && npm ci --silent --no-audit --no-fund
	touch $@

.venv/oracles: .venv/test
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[oracles]'
	touch $@

# Meta's code asks for torchvision, which nothing compared here uses; hence --no-deps.
.venv/parity: .venv/test
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[parity]'
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps segment-anything-py==1.0.1
	touch $@
