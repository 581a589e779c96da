# The two commands of a fresh machine are `make demo` and `make test`. They need python3 (3.11+) only:
# the environment is made on first use, and again when pyproject.toml changes.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check

# `docs` is a folder, too.
.PHONY: demo demo-scale test test-long test-clients test-kubernetes test-real test-deploy test-systemd manifests docs screenshots check coverage compiled interpreted format clean

demo: $(VENV)/.run
	$(BIN)/cuvee demo $(ARGS)

# A day in six minutes: a fleet of emulated engines that starts and stops with its traffic.
demo-scale: $(VENV)/.run
	$(BIN)/cuvee demo-scale $(ARGS)

# On all cores, four at most; without `make`, pytest runs one test after another.
test: $(VENV)/.dev
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal -m 'not long' $(ARGS)

# The tests that play whole certificates, or wait for clocks, and the like: two to three minutes.
test-long: $(VENV)/.dev
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal -m long $(ARGS)

# What clients see of a running gateway: the SDKs, benchmark tools and a browser of docs/clients.md, each
# in an environment of its own below build/clients; ARGS="openai browser" runs some.
test-clients: $(VENV)/.dev
	$(BIN)/python tests/clients/run.py $(ARGS)

# Against a real vLLM on the CPU and a real llama.cpp, in environments of their own below build/real (3.7 GB): five to
# ten minutes at first, three later. Needs python3.11 for vLLM.
test-real: $(VENV)/.dev
	$(BIN)/python tests/real/run.py $(ARGS)

# Discovery and actuation against a real kube-apiserver with etcd, made from Debian's source at first use: needs Debian
# 12 and root, and ten minutes then; 30 s later.
test-kubernetes: $(VENV)/.dev
	CUVEE_KUBE_APISERVER=$$(tests/gateway/discovery/kubernetes/kube_apiserver.sh) \
	    $(BIN)/python -m pytest tests/gateway/discovery/kubernetes/test_kube_apiserver.py \
	    tests/gateway/actuation/test_kube_apiserver.py $(ARGS)

# The Helm chart, rendered by Helm and compared with the schemas of Kubernetes, and what else deploy/ has: half a minute,
# and as much for an environment of its own at first.
test-deploy: $(VENV)/.dev build/deploy/.made
	build/deploy/bin/python -m pytest -c tests/deploy/rendered/pytest.ini tests/deploy/rendered $(ARGS)

# The units of deploy/systemd under a real systemd, in a container of systemd-nspawn: needs root, and two minutes.
test-systemd: $(VENV)/.dev
	$(BIN)/python tests/deploy/systemd/run.py

# deploy/kubernetes/cuvee.yaml, from the chart and its default values; and the chart's copies of the rules.
manifests: build/deploy/.made
	cp configs/prometheus/*.yaml deploy/helm/cuvee/files/
	build/deploy/bin/python deploy/helm/render.py >build/deploy/cuvee.yaml
	cp build/deploy/cuvee.yaml deploy/kubernetes/cuvee.yaml

build/deploy/.made: tests/deploy/rendered/requirements.txt
	$(PYTHON) -m venv build/deploy
	build/deploy/bin/python -m pip install --quiet --disable-pip-version-check -r tests/deploy/rendered/requirements.txt
	@touch $@

# The pictures of the page in docs/images, made anew: six minutes, with chromium.
screenshots: $(VENV)/.dev
	$(BIN)/python docs/screenshots.py $(ARGS)

# The documents as a site that reads without a network: build/site/index.html. In an environment of its own.
docs: build/docs/.made
	NO_MKDOCS_2_WARNING=1 build/docs/bin/mkdocs build --quiet

build/docs/.made: docs/site/requirements.txt
	$(PYTHON) -m venv build/docs
	build/docs/bin/python -m pip install --quiet --disable-pip-version-check -r docs/site/requirements.txt
	@touch $@

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_layers.py

# The test suite with branch coverage, of worker processes too; takes half as long again.
coverage: $(VENV)/.dev
	rm -rf build/coverage && mkdir -p build/coverage
	$(BIN)/coverage run -m pytest $(ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --skip-covered --sort=cover --fail-under=90
	$(BIN)/coverage report --include='planner/*' --format=total --fail-under=95
	$(BIN)/coverage report --include='gateway/routing/*' --format=total --fail-under=95

# The data path in C, for this checkout's environment: demo, test and `cuvee overhead` then run it.
# Needs a C compiler and Python's headers; an edited source needs it again.
compiled: $(VENV)/.dev
	$(MAKE) --no-print-directory interpreted
	CUVEE_COMPILE=1 $(INSTALL) --no-deps --editable .

interpreted:
	rm -f cuvee__mypyc.*
	find gateway planner -name '*.so' -delete

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: interpreted
	rm -rf $(VENV) build

$(VENV)/.run: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Cuvée needs Python 3.11 or newer; set PYTHON=...")'
	@$(MAKE) --no-print-directory --silent interpreted
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) --editable '.[plot]'
	@touch $@

$(VENV)/.dev: pyproject.toml $(VENV)/.run
	$(INSTALL) --editable '.[dev]'
	@touch $@
