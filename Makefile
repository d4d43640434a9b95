# Everything one does with dnsguard, one word each; plain `make` lists them.
#
# Needs python3 (3.11 or newer) with venv, and a package index. All of it happens in .venv, which is
# set up once, and again when pyproject.toml or constraints.txt change or the folder was moved.

PYTHON ?= python3
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
# Stamps: the environment exists, dnsguard runs in it, the tools for testing are in it too.
MADE := $(VENV)/.made
RUN := $(VENV)/.ready-to-run
DEV := $(VENV)/.ready-to-test

# The constraints hold for what builds the package as well. A relative path, because pip splits the
# variable at blanks and the folder's own path may have some.
PIP_ENV := PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt \
	PIP_DISABLE_PIP_VERSION_CHECK=1
PIP := $(PIP_ENV) $(BIN)/python -m pip install --quiet
SETUP_FAILED := setting up $(VENV) failed: pip says why above. It needs a package index; \
	behind a mirror or a proxy set PIP_INDEX_URL or https_proxy.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help run test check image e2e chaos storms replays fuzz differ floods wheel lock sbom audit lint format bench outage clean

help: ## this list
	@echo "dnsguard: a DNS caching proxy that keeps answering when cluster DNS does not"
	@echo
	@sed -n 's/^\([a-z0-9]*\):.*## \(.*\)/  make \1@\2/p' Makefile | \
		while IFS=@ read -r word meaning; do printf '%-14s %s\n' "$$word" "$$meaning"; done
	@echo
	@echo "  PYTHON=/path/to/python3 chooses the interpreter that .venv is made from."

run: $(RUN) ## the demo: an outage, with and without dnsguard (ARGS=--once ends after it)
	@$(BIN)/dnsguard demo $(ARGS)

# Core's tests know no clock and no socket, so they share the processors; the others wait for real
# things, which have them to themselves.
test: $(DEV) ## all tests; core also by itself, every branch covered by its own tests
	@echo "core, from its own tests, every branch:"
	@$(BIN)/python -m pytest -q -n auto tests/core --cov --cov-fail-under=100
	@echo
	@echo "everything else:"
	@$(BIN)/python -m pytest -q --ignore=tests/core

check: lint test ## what CI runs: lint, then test

image: $(DEV) ## the container image, on a Debian made here, asked a question (root, buildah, podman)
	@PYTHON=$(BIN)/python tests/e2e/image.sh

e2e: $(DEV) ## a real API server and CoreDNS through an outage, an injected pod (root, Go; builds once)
	@$(BIN)/python -m tests.e2e.parts || echo "what needs these parts fails below" >&2
	@$(BIN)/python -m pytest -s -v -m e2e -o faulthandler_timeout=1800 tests/e2e $(ARGS)
	@$(BIN)/python -m pytest -s -v -m "chaos or not chaos" -o faulthandler_timeout=600 tests/kube/test_node.py

chaos: $(DEV) ## broken disks, networks, nodes, clocks, system calls (root, strace, ip, nft, iptables, libfaketime)
	@$(BIN)/python -m pytest -q -m chaos -o faulthandler_timeout=1200

storms: $(DEV) ## seeded storms around the engine (ARGS="--seeds 0-1000", or --seed N to replay)
	@$(BIN)/python -m tests.core.storms $(ARGS)

replays: $(DEV) ## the library of outages, every promise watched (ARGS="--seeds 50")
	@$(BIN)/python -m tests.sim.replays $(ARGS)

differ: $(DEV) ## what clients are answered, beside Unbound and BIND (needs unbound and named)
	@$(BIN)/python -m tests.fuzz.differ $(ARGS)

fuzz: $(DEV) ## every parser, guided by coverage (ARGS="--seconds 600 --target answer")
	@$(BIN)/python -c 'import atheris' 2>/dev/null || $(PIP) --editable '.[dev,fuzz]' || \
		echo "atheris cannot be had here: the mutations are not guided by coverage"
	@$(BIN)/python -m tests.fuzz.run $(ARGS)

floods: $(DEV) ## floods and limits, on a real process (ARGS="--quick" or "--only NAME")
	@$(BIN)/python benchmarks/floods.py $(ARGS)

wheel: $(DEV) ## the wheel into dist/, built twice and compared octet by octet
	@rm -rf dist build/again
	@for to in dist build/again; do \
		SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct 2>/dev/null || echo 1600000000) \
			$(PIP_ENV) $(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir $$to . || exit 1; done
	@cmp dist/*.whl build/again/*.whl && sha256sum dist/*.whl && echo "built twice: the same octets"

lock: $(DEV) ## requirements.lock anew: what runs, with hashes (from constraints.txt)
	@$(BIN)/python -m venv build/lock && build/lock/bin/python -m pip install --quiet pip-tools
	@build/lock/bin/pip-compile --quiet --generate-hashes --strip-extras --no-emit-index-url \
		--no-emit-trusted-host --no-emit-find-links --no-header --constraint constraints.txt \
		--output-file build/lock/lock pyproject.toml
	@build/lock/bin/pip-compile --quiet --generate-hashes --strip-extras --no-emit-index-url \
		--no-emit-trusted-host --no-emit-find-links --no-header --constraint constraints.txt \
		--extra kube --extra shared --output-file build/lock/image pyproject.toml
	@{ echo "# What the image runs on: \`dnsguard serve\` and the extras kube and shared, with hashes; written by" \
		"\`make lock\`."; cat build/lock/image; } > requirements-image.lock
	@{ echo "# What \`dnsguard serve\` runs on, each package with its hashes; written by \`make lock\`."; \
		echo "#   pip install --require-hashes -r requirements.lock"; cat build/lock/lock; } > requirements.lock

sbom: $(DEV) ## dist/dnsguard.cdx.json: what runs, in CycloneDX
	@$(BIN)/python -m venv build/sbom && build/sbom/bin/python -m pip install --quiet cyclonedx-bom
	@mkdir -p dist && build/sbom/bin/cyclonedx-py requirements --pyproject pyproject.toml \
		--output-reproducible --validate --output-file dist/dnsguard.cdx.json requirements.lock
	@$(BIN)/python -m tests.deploy.sbom dist/dnsguard.cdx.json requirements.lock && \
		echo "written: dist/dnsguard.cdx.json"

audit: $(DEV) ## known weaknesses in what runs (asks a public data base)
	@$(BIN)/python -m venv build/audit && build/audit/bin/python -m pip install --quiet pip-audit
	@build/audit/bin/pip-audit --strict --require-hashes --disable-pip --requirement requirements.lock

.PHONY: alerts
alerts: $(DEV) ## the alert rules, and a real Prometheus that fires some (promtool: Debian's prometheus)
	@command -v promtool >/dev/null || { \
		echo "promtool was not found (Debian: apt-get install prometheus)" >&2; exit 1; }
	@promtool check rules deploy/alerts/dnsguard.yaml
	@cd deploy/alerts && promtool test rules dnsguard_test.yaml
	@$(BIN)/python -m pytest -q -m alerts tests/deploy

.PHONY: browser
browser: $(DEV) ## the status page in headless Chromium; pictures in build/pictures (chromium, chromedriver)
	@$(BIN)/python -m tests.admin.browser
	@DNSGUARD_PICTURES=build/pictures $(BIN)/python -m pytest -q -m "browser or not browser" \
		-o faulthandler_timeout=300 tests/admin/test_browser.py tests/admin/test_page_seen.py $(ARGS)

.PHONY: pictures
pictures: $(DEV) ## the pictures of the README anew, ten minutes of real runs (chromium; ARGS=demo for one)
	@$(BIN)/python -m benchmarks.pictures $(ARGS)

.PHONY: shared soak
shared: $(DEV) ## the store that a fleet shares, with a real redis-server (which it needs)
	@$(BIN)/python -m pytest -q -m shared -o faulthandler_timeout=600

soak: $(DEV) ## 30 minutes of load, kills and outages, all answers checked (ARGS="--minutes 60 --rate 300")
	@$(BIN)/python benchmarks/soak.py $(ARGS)

lint: $(DEV) ## ruff, its formatter and mypy --strict; changes nothing
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(DEV) ## put the code into the one format
	@$(BIN)/ruff check --select I --fix --quiet .
	@$(BIN)/ruff format .

bench: $(DEV) ## beside every server that can be had: half an hour (ARGS=--quick or --full)
	@$(BIN)/python benchmarks/compare.py $(ARGS)

outage: $(DEV) ## under load through an outage, every answer watched (ARGS=--system unbound)
	@$(BIN)/python benchmarks/compare.py --install-only --servers dnsguard
	@$(BIN)/python benchmarks/survival.py $(ARGS)

clean: ## remove .venv, caches and build products
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage build dist
	find dnsguard tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# An environment knows its own place, and the interpreter that it was made from: one that was moved
# or copied here, or whose interpreter is gone, is made anew.
ifneq ($(shell $(BIN)/python -c 'import pip' 2>/dev/null && cat $(MADE) 2>/dev/null),$(CURDIR))
.PHONY: $(MADE)
endif

$(MADE):
	@command -v $(firstword $(PYTHON)) >/dev/null || { \
		echo "$(PYTHON) was not found. Install Python 3.11 or newer" \
			"(Debian: apt-get install python3 python3-venv)." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "$(PYTHON) is $$($(PYTHON) --version 2>&1); dnsguard needs Python 3.11 or newer." \
			"Choose one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) cannot make virtual environments: venv is missing" \
			"(Debian: apt-get install python3-venv)." >&2; exit 1; }
	@echo "setting up $(VENV): a virtual environment for $$($(PYTHON) --version)"
	@rm -rf $(VENV) && $(PYTHON) -m venv $(VENV)
	@pwd -P > $@

$(RUN): $(MADE) pyproject.toml constraints.txt
	@echo "setting up $(VENV): dnsguard and what it runs on (less than a minute, as a rule)"
	@$(PIP) --editable . || { echo "$(SETUP_FAILED)" >&2; exit 1; }
	@touch $@

$(DEV): $(MADE) pyproject.toml constraints.txt
	@echo "setting up $(VENV): dnsguard and the tools for testing (about a minute)"
	@$(PIP) --editable '.[dev]' || { echo "$(SETUP_FAILED)" >&2; exit 1; }
	@touch $(RUN) $@
