# make stream, make test, ...: each installs what it needs (on Debian and Ubuntu the system's packages, too) and runs.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c

VENV := .venv
PYTHON := $(VENV)/bin/python
ARGS ?=
DATASET ?= build/dataset
ENCODER ?= avatars/ada

STREAM_PACKAGES := libegl1 libgl1 libgl1-mesa-dri libegl-mesa0 portaudio19-dev gcc python3-dev
TEST_PACKAGES := pulseaudio pulseaudio-utils libasound2-plugins xvfb g++ strace

.PHONY: help stream test check wheel encoder avatar bench system-stream system-test

help:
	@echo 'make stream   Ada, live at http://127.0.0.1:8080; options in ARGS: make stream ARGS="--source mic"'
	@echo 'make test     ruff, format, mypy and all tests'
	@echo 'make check    ruff, format and mypy'
	@echo 'make wheel    what `pip install` takes: the package miravox with Ada, without her GPU files, in dist'
	@echo 'make encoder  trains the audio encoder on ../shared/data into build/encoder'
	@echo 'make avatar   trains the rest of the avatar; like make encoder it goes on where it was interrupted'
	@echo 'make bench    what a frame, a start, a session and a stream cost, in five minutes, into build/bench'

stream: $(VENV)/.stream
	$(PYTHON) run_stream.py $(ARGS)

test: check
	$(PYTHON) -m pytest

check: $(VENV)/.dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

# Setuptools would put what it left in build/lib an earlier time into the wheel, files that are gone since included.
wheel: | $(PYTHON)
	rm -rf build/lib
	$(PYTHON) -m pip wheel --no-deps --wheel-dir dist .

encoder: $(VENV)/.train
	[ -e build/encoder/encoder.safetensors ] || $(PYTHON) -m training.speech --out build/encoder --resume
	[ -e build/encoder/readout.safetensors ] || $(PYTHON) -m training.readout

avatar: $(VENV)/.train
	[ -e $(DATASET)/dataset.json ] || $(PYTHON) -m studio --out $(DATASET)
	[ -e build/avatar/face/face.safetensors ] || $(PYTHON) -m training.face --dataset $(DATASET) --encoder $(ENCODER) --resume
	[ -e build/avatar/baked/report.json ] || $(PYTHON) -m export bake --dataset $(DATASET) --encoder $(ENCODER)
	[ -e build/avatar/composition/composition.safetensors ] || \
		$(PYTHON) -m training.composition --dataset $(DATASET) --encoder $(ENCODER) --resume
	$(PYTHON) -m export pack --dataset $(DATASET) --encoder $(ENCODER) --sample avatars/ada/sample.flac --name Ada \
		--consent "synthetic actor, nobody is portrayed" --out build/ada
	$(PYTHON) -m export.parity build/ada

bench: $(VENV)/.dev
	mkdir -p build/bench
	$(PYTHON) -m bench stages --reference --json build/bench/stages.json --png build/bench/stages.png
	$(PYTHON) -m bench throughput --json build/bench/throughput.json
	$(PYTHON) -m bench startup --json build/bench/startup.json
	$(PYTHON) -m bench sessions --seconds 10 --json build/bench/sessions.json --png build/bench/sessions.png
	$(PYTHON) -m bench latency --seconds 45 --json build/bench/latency.json --png build/bench/latency.png

# The virtual environment. Empty files in it say what it holds, so that nothing is installed twice.

$(VENV)/.stream: pyproject.toml | $(PYTHON)
	$(PYTHON) -m pip install --editable '.[mic]' || { \
		echo "miravox: PyAudio cannot be built here (it needs gcc, PortAudio's and Python's headers): without --source mic" >&2; \
		$(PYTHON) -m pip install --editable .; \
	}
	touch $@

$(VENV)/.train: pyproject.toml | $(PYTHON)
	$(PYTHON) -m pip install --editable '.[train]'
	touch $@ $(VENV)/.stream

$(VENV)/.dev: pyproject.toml | $(PYTHON) system-test
	$(PYTHON) -m pip install --editable '.[dev]'
	touch $@ $(VENV)/.train $(VENV)/.stream

$(PYTHON): | system-stream
	@$(FIND_PYTHON); \
	if [ -z "$$python" ]; then \
		echo "miravox: Python: found $$(python3 --version 2>/dev/null || echo none); wanted 3.11 or newer that can make a virtual" \
			"environment. Install it; on Debian and Ubuntu: apt-get install python3.11 python3.11-venv" >&2; \
		exit 2; \
	fi; \
	echo "making $(VENV) with $$python"; \
	"$$python" -m venv $(VENV)

# The system's packages. What is there already is left alone; then neither root nor a network is needed.

# Sets `python` to one that can make a virtual environment, or to nothing.
FIND_PYTHON = python=; for candidate in python3 python3.13 python3.12 python3.11 python3.14; do \
		if "$$candidate" -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
			python=$$(command -v "$$candidate"); break; \
		fi; \
	done

# install PACKAGE ...
DEFINE_INSTALL = install() { \
		local package root missing=(); \
		for package in "$$@"; do \
			if [ "$$(dpkg-query -W -f '$${Status}' "$$package" 2>/dev/null)" != "install ok installed" ]; then \
				missing+=("$$package"); \
			fi; \
		done; \
		if [ "$${\#missing[@]}" -eq 0 ]; then return; fi; \
		root=sudo; if [ "$$(id -u)" -eq 0 ]; then root=; fi; \
		if [ -n "$$root" ] && ! command -v sudo >/dev/null; then \
			echo "miravox: neither root nor sudo here; have these packages installed: $${missing[*]}" >&2; \
			return; \
		fi; \
		echo "installing $${missing[*]}"; \
		$$root apt-get update -qq; \
		$$root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$${missing[@]}" >/dev/null; \
	}

system-stream:
	@$(DEFINE_INSTALL); $(FIND_PYTHON); \
	if ! command -v apt-get >/dev/null; then \
		echo "miravox: no apt-get here. Install what is missing: Python 3.11 or newer, OpenGL 3.3 (a software renderer" \
			"will do; on Linux with EGL), PortAudio." >&2; \
		exit 0; \
	fi; \
	install $(STREAM_PACKAGES); \
	if [ -z "$$python" ]; then install python3 python3-venv; $(FIND_PYTHON); fi; \
	if [ -z "$$python" ]; then install python3.11 python3.11-venv; fi

system-test: system-stream
	@$(DEFINE_INSTALL); \
	if command -v apt-get >/dev/null; then install $(TEST_PACKAGES); fi; \
	if command -v chromium chromium-browser google-chrome >/dev/null && command -v chromedriver >/dev/null; then exit 0; fi; \
	if ! command -v apt-get >/dev/null; then \
		echo "miravox: no apt-get here. Install what is missing: Chromium or Chrome, ChromeDriver." >&2; \
	elif grep -q '^ID=ubuntu' /etc/os-release; then \
		install chromium-browser chromium-chromedriver; \
	else \
		install chromium chromium-driver; \
	fi
