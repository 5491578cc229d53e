# make demo | make test | make lint: everything else is made when it is needed.
#   make demo SOURCE=/dev/video0 PORTRAIT=me.jpg
SHELL := /bin/bash
.ONESHELL:
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV   ?= .venv
SOURCE ?= demo
PORTRAIT ?= demo
ARGS   ?=
PYTEST_ARGS ?=

# Discovery stays on this machine, here and in every test.
export ROS_AUTOMATIC_DISCOVERY_RANGE := LOCALHOST
# A virtual environment of ROS wheels remembers itself; make may be called from inside another, or
# with a ROS installation sourced.
unexport _ROS_WHEELS_BOOTSTRAP_COMPLETE LD_LIBRARY_PATH PYTHONPATH AMENT_PREFIX_PATH \
  CMAKE_PREFIX_PATH COLCON_PREFIX_PATH

ENTER = source $(VENV)/bin/activate; export AMENT_PREFIX_PATH="$$VIRTUAL_ENV"; set +u; source install/local_setup.bash; set -u

.PHONY: help build demo test lint clean

help:  ## Show this list.
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

$(VENV)/.ready: requirements.txt requirements-ros.txt requirements-models.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || {
	  echo 'Python 3.11, 3.12 or 3.13 is needed (the ROS wheels): make PYTHON=python3.12' >&2; exit 1; }
	echo '==> [1/2] Python packages (about 2 GB, once)'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet -r requirements-ros.txt -r requirements.txt
	$(VENV)/bin/pip install --quiet --no-deps -r requirements-models.txt
	touch $@

$(VENV)/.ready-dev: $(VENV)/.ready requirements-dev.txt requirements-faces.txt
	@echo '==> Python packages for tests and checks'
	$(VENV)/bin/pip install --quiet -r requirements-dev.txt -r requirements-faces.txt
	touch $@

build: $(VENV)/.ready  ## Build messages and kernels into install/.
	@echo '==> [2/2] messages and C++ kernels'
	source $(VENV)/bin/activate
	export AMENT_PREFIX_PATH="$$VIRTUAL_ENV"
	colcon --log-level error build --symlink-install --event-handlers console_direct- --cmake-args -GNinja -DCMAKE_BUILD_TYPE=Release

demo: build  ## Show the avatar live at a local web page and write an MP4.
	@$(ENTER)
	mkdir -p out
	python -m visa_ros.nodes.telepresence --ros-args -p display.video_path:=out/telepresence.mp4 -p "camera.source:='$(SOURCE)'" -p "avatar.portrait:='$(PORTRAIT)'" -p camera.loop:=false $(ARGS)

test: build $(VENV)/.ready-dev  ## Run the whole test suite.
	@$(ENTER)
	python -m pytest $(PYTEST_ARGS)

lint: $(VENV)/.ready-dev  ## Check style and types.
	@source $(VENV)/bin/activate
	ruff check .
	mypy

clean:  ## Remove what was built, not the environment.
	rm -rf build install log
