# The commands for working on this project. Needs Python 3.11 or newer, git, gnupg and make.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/.run
READY := $(VENV)/.ready
COMPILE := $(VENV)/bin/uv pip compile --quiet --universal --generate-hashes --no-header
# All but ldap, which has to be built.
EXTRAS := bench build check demo docs fleet release sql test
PIP := $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile
UNFINISHED := { echo "The installation failed: fix the error above and run make again; it continues from there."; \
	echo "It needs 200 MB of disk space here, write access, and a package index (PIP_INDEX_URL)."; exit 1; }

unexport PYTHONDONTWRITEBYTECODE # without bytecode, each of a thousand processes compiles every module again

.PHONY: help run test check bench docs release lock clean
help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(RUN) ## a demo on this machine: sample repository, sample services, daemon
	$(VENV)/bin/reconcile demo

test: $(READY) ## every test; with COVERAGE=1 a minimum branch coverage too, which takes a third longer
	$(VENV)/bin/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder $(if $(COVERAGE),--cov --cov-report=term:skip-covered)

check: $(READY) ## the quick checks: lint, format, types, layers, dead code
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-logo
	$(VENV)/bin/vulture

bench: $(READY) ## benchmarks, each a ratio to a baseline of the same run
	$(VENV)/bin/python -m bench

docs: $(READY) ## the documentation as a site, site/index.html
	$(VENV)/bin/python -m website.reference
	$(VENV)/bin/python -m website.gallery
	$(VENV)/bin/python -m website.pictures
	$(VENV)/bin/python -m mkdocs build --quiet --strict

release: export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 315532800)
release: $(READY) ## wheel, source archive, lock and a bill of materials in dist/, the same bytes each time
	@rm -rf dist build
	umask 022 && $(VENV)/bin/python -m build --no-isolation
	$(VENV)/bin/twine check --strict dist/*
	@# The bill names the version, which is in the package itself.
	@version=$$($(VENV)/bin/python -c 'import reconciler; print(reconciler.__version__)') && mkdir -p build && \
	sed "s/^dynamic = .*/version = \"$$version\"/" pyproject.toml > build/pyproject.toml && \
	$(VENV)/bin/python -W ignore -m cyclonedx_py requirements --output-reproducible --pyproject build/pyproject.toml \
		--output-file "dist/access_reconciler-$$version.cdx.json" requirements.lock && \
	hash=$$($(VENV)/bin/python -m pip hash "dist/access_reconciler-$$version-py3-none-any.whl" | tail -n 1) && \
	{ cat requirements.lock && printf 'access-reconciler==%s \\\n    %s\n' "$$version" "$$hash"; } > "dist/access_reconciler-$$version.lock"
	cp reconciler/review/verify.py dist && cd dist && sha256sum verify.py > verify.py.sha256
	@rm -rf build

lock: $(READY) ## update the dependencies' versions, within pyproject.toml
	$(PIP) uv
	$(COMPILE) $(addprefix --extra ,$(EXTRAS)) --upgrade --output-file requirements-dev.lock pyproject.toml
	$(COMPILE) --extra demo --extra fleet --extra build --extra sql --constraint requirements-dev.lock --output-file requirements.lock pyproject.toml
	sed -n 's/^ldap = \["\(.*\)"\]$$/\1/p' pyproject.toml | $(COMPILE) --upgrade --output-file requirements-ldap.lock -
	echo zizmor | $(COMPILE) --upgrade --output-file requirements-ci.lock -

clean: ## remove everything that these commands created, except .reconciler/
	rm -rf $(VENV) site build dist *.egg-info .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache .hypothesis \
		.import_linter_cache

# A lock names every package, those that build the project too: nothing is left to resolve, which older versions of pip
# fail at where a newer release of a package with extras is out.
$(RUN): requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) was not found: install Python 3.11 or newer."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "$(PYTHON) is Python %d.%d, and 3.11 or newer is needed: \
	install one and name it, as `make run PYTHON=python3.12`." % sys.version_info[:2])'
	@echo "Installing the program and its demo into $(VENV), once. It takes a minute or two."
	@test -e $(VENV)/bin/pip || $(PYTHON) -m venv --clear $(VENV) || $(UNFINISHED)
	@$(PIP) --no-deps --require-hashes --requirement requirements.lock || $(UNFINISHED)
	@$(PIP) --no-deps --no-build-isolation --editable . || $(UNFINISHED)
	@touch $(RUN)

$(READY): $(RUN) requirements-dev.lock
	@echo "Installing the tools for tests, checks and documentation into $(VENV), once. It takes a minute or two."
	@$(PIP) --no-deps --require-hashes --requirement requirements-dev.lock || $(UNFINISHED)
	@touch $(READY)
