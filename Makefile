# make demo | make test are all that a newcomer needs; each sets up .venv by itself and is quick the second time.
# Arguments are passed on: make demo ARGS="--seconds 20 --json out.json"
SHELL := /bin/bash
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	command -v $$p >/dev/null && $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
STAMP = $(VENV)/.$(1)-$(shell cat lock/$(1).txt setup.py setup.cfg package.xml ros_ws/libexec/* launch/*.yaml | sha256sum | cut -c1-16)
ROBOT := $(call STAMP,robot)
TRAIN := $(call STAMP,train)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
ARGS ?=
SITE = $(BIN)/python -m sphinx -c docs -d $(VENV)/doctrees --fresh-env --nitpicky --fail-on-warning --quiet

.PHONY: demo test test-slow bench setup check lock docs clean

demo: $(ROBOT)
	@$(BIN)/mbrl demo $(ARGS)

test: $(TRAIN)
	@$(BIN)/python -m pytest $(ARGS)

test-slow: $(TRAIN)
	@$(BIN)/python -m pytest -m "slow and not gpu" $(ARGS)

bench: $(TRAIN)
	@$(BIN)/mbrl bench $(or $(ARGS),all --peers)

setup: $(TRAIN)

docs: $(TRAIN)
	@$(BIN)/python docs/generate.py
	@$(SITE) -b html . site && echo "the site: site/index.html"

check: $(TRAIN)
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .
	@$(BIN)/python docs/generate.py --check
	@$(SITE) -b dummy . $(VENV)/site
	@$(BIN)/lint-imports
	@$(BIN)/pyright --pythonpath $(BIN)/python

$(VENV)/bin/python:
	@if [ -z "$(PYTHON)" ]; then echo "mbrl_control needs Python 3.11, 3.12 or 3.13 on the PATH (found: $$(python3 --version 2>&1))"; exit 2; fi
	@$(PYTHON) -m venv $(VENV)

# $(1) lock file; the project itself goes in editable, with what the lock file pins
define install
	@start=$$SECONDS; printf 'setting up $(VENV) (once), $(1) ... '; \
	log=$(VENV)/setup-$(1).log; rm -f $(VENV)/.$(1)-*; \
	if $(BIN)/python -m pip install -q -r lock/$(1).txt >$$log 2>&1 \
	&& $(BIN)/python -m pip install -q --no-deps --no-build-isolation -e . >>$$log 2>&1; \
	then echo "done in $$((SECONDS - start)) s"; \
	else echo failed; tail -n 15 $$log; echo "the whole log: $$log"; exit 1; fi
endef

$(ROBOT): | $(VENV)/bin/python
	@[ -e $(TRAIN) ] || $(MAKE) --no-print-directory .install-robot
	@touch $@

.PHONY: .install-robot
.install-robot:
	$(call install,robot)

$(TRAIN): | $(VENV)/bin/python
	$(call install,train)
	@touch $@

lock: | $(VENV)/bin/python
	@$(BIN)/python lock/lock.py

clean:
	rm -rf $(VENV) {,ros_ws/}{build,install,log} *.egg-info ros_ws/src/*.egg-info runs site
