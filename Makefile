# make help lists the targets. Everything runs in .venv, made from a hashed lock.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
# What TensorFlow is for: GPU=1 or GPU=0 says so, once; later runs of make keep it.
INSTALLED := $(shell cat $(VENV)/.installed 2>/dev/null)
FLAVOUR := $(if $(filter 1,$(GPU)),gpu,$(if $(filter 0,$(GPU)),cpu,$(or $(INSTALLED),cpu)))
# The scripts in .venv hold its path: after the checkout was moved or copied it is made again.
MOVED := $(shell [ -e $(VENV)/bin/activate ] && ! grep -qF "$(CURDIR)/$(VENV)" $(VENV)/bin/activate && echo moved)
ANEW := $(if $(MOVED)$(filter-out $(FLAVOUR),$(INSTALLED)),--clear)
LOCK := $(if $(filter gpu,$(FLAVOUR)),requirements-gpu.lock,requirements.lock)
BIN := $(CURDIR)/$(VENV)/bin
export PATH := $(BIN):$(PATH)
export DO_NOT_TRACK := 1
export MLFLOW_DISABLE_TELEMETRY := true

.PHONY: help install extras repro tune seeds dashboard ui experiments scores report serve demo team-up team-down lint test test-slow docs sample bench bench-sample bench-recipes bench-export lock gc clean

help:  ## this list
	@awk -F ':.*##' '/^[a-z-]+:.*##/ {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(VENV)/.installed  ## make .venv with the locked packages (for an NVIDIA GPU: make install GPU=1)

$(VENV)/.installed: $(LOCK) pyproject.toml $(if $(ANEW),make-anew)
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || { echo "Python 3.11 to 3.13 is needed: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -m venv $(ANEW) $(VENV) || { echo "On Debian: apt install python3-venv"; exit 1; }
	@echo "Installing the locked packages into $(VENV) ..."
	@# uv is in the lock, too; pip fetches it, checks its hash, and uv does the rest three times as fast.
	@awk '/^uv==/ {on=1} on {print; if ($$0 !~ /\\$$/) exit}' $(LOCK) > $(VENV)/uv.lock
	@pip install --quiet --require-hashes --no-deps -r $(VENV)/uv.lock
	@uv pip install --quiet --require-hashes --compile-bytecode -r $(LOCK)
	@uv pip install --quiet --no-deps --no-build-isolation -e .
	@echo $(FLAVOUR) > $@

make-anew:

extras: $(VENV)/.extras  ## add OpenVINO, PySpark and what the slow tests need to .venv

$(VENV)/.extras: requirements-extras.lock $(VENV)/.installed
	@echo "Installing the export formats, PySpark, the drivers of a team and Playwright into $(VENV) ..."
	@uv pip install --quiet --require-hashes --no-deps --compile-bytecode -r requirements-extras.lock
	@touch $@

# DVC needs git, and its experiments and the verdict need a commit. The source archive of a hosting service has neither.
git-commit:
	@git rev-parse --quiet --verify HEAD > /dev/null || { echo "No git commit here. Type: git init && git add --all && git commit --message start" >&2; exit 1; }

ui: PORT := 5000
serve demo: PORT := 8000
dashboard: PORT := 8080

repro: git-commit $(VENV)/.installed  ## install, pull the data, run the pipeline, print the scores, compare them with the commit
	@[ -d data ] || dvc pull data.dvc  # --quiet would hide its errors
	@dvc repro
	@flowers scores
	@echo
	@echo "Next: make demo          a web page that names the flower on a photo"
	@echo "      make ui            compare runs in MLflow"
	@echo "      dvc plots show     curves, confusion matrix, scores by class"
	@echo "      dvc exp run -S head.dropout=0.3 && make experiments"
	@echo "      open build/evaluation/report.html, the result on one page"
	@echo "(with .venv active: source .venv/bin/activate)"
	@echo "DVC's hint of \`dvc push\` needs no action: stage outputs go nowhere until you set up a remote (docs/data-quality.md)"
	@echo
	@flowers verify  # its status, 1 for another result than the committed one, is that of make repro

tune: git-commit $(VENV)/.installed  ## search for better parameters with Optuna (make tune OPTIONS="--n-trials 50")
	@[ -d data ] || dvc pull data.dvc
	@dvc repro split
	@flowers tune $(OPTIONS)

seeds: git-commit $(VENV)/.installed  ## mean score and spread of params.yaml over seeds (make seeds N=5)
	@[ -d data ] || dvc pull data.dvc
	@dvc repro split
	@flowers seeds --number $(or $(N),5) $(OPTIONS)

dashboard: $(VENV)/.installed  ## open Optuna's pages on the studies (make dashboard STORAGE=postgresql://...)
	@[ -n "$(STORAGE)" ] || [ -f tracking/studies.journal ] || { echo "no study yet: make tune"; exit 1; }
	@optuna-dashboard --port $(PORT) "$(or $(STORAGE),tracking/studies.journal)"

experiments: git-commit $(VENV)/.installed  ## compare DVC experiments: scores and the parameters that differ
	@dvc exp show --no-pager --md --only-changed --drop '^(src|build|data\.yaml|pyproject|Created|State|Executor)'

scores: $(VENV)/.installed  ## print the test scores of the last evaluation
	@flowers scores

report: $(VENV)/.installed  ## write build/report.md for a pull request (make report AGAINST=origin/main)
	@flowers report $(if $(AGAINST),--against "$(AGAINST)")

ui: $(VENV)/.installed  ## open the MLflow UI on the local store (make ui PORT=5001)
	@flowers ui --port $(PORT)

serve: $(VENV)/.installed  ## serve predictions over HTTP (make serve MODEL=champion PORT=8001)
	@flowers serve $(if $(MODEL),--model "$(MODEL)") --port $(PORT)

demo: $(VENV)/.installed  ## a web page that names the flower on a photo (make demo MODEL=champion PORT=8001)
	@flowers serve --examples build/images $(if $(MODEL),--model "$(MODEL)") --port $(PORT)

team-up: $(VENV)/.extras  ## start PostgreSQL, an S3 server and MLflow's with passwords, to try a team's set-up (docs/team.md)
	@PYTHONPATH=tools python -m team up $(TEAM)

team-down:  ## end them, and remove their data
	@PYTHONPATH=tools python -m team down $(TEAM)

lint: $(VENV)/.installed  ## style and types
	@ruff check --quiet
	@ruff format --quiet --check
	@mypy --no-error-summary

docs: $(VENV)/.installed  ## build the documentation site into build/docs
	@NO_MKDOCS_2_WARNING=1 mkdocs build --strict --quiet --site-dir build/docs
	@echo "build/docs/index.html"

# Tests of one file share what it set up, so files are dealt to the processes whole.
PARALLEL := --numprocesses auto --maxprocesses 4 --dist loadfile

test: lint  ## lint, types and tests
	@pytest $(PARALLEL)

test-slow: $(VENV)/.extras  ## tests that take longer
	@pytest -m slow -W default $(PARALLEL)  # other packages warn there

bench: git-commit $(VENV)/.installed  ## measure against the usual way with Keras (make bench PHOTOS=/photos/oxford102 OPTIONS=--quick)
	@[ -d data ] || dvc pull data.dvc
	@python benchmarks/bench.py $(if $(PHOTOS),--photos "$(PHOTOS)") $(OPTIONS)
	@python benchmarks/work.py $(if $(PHOTOS),--photos "$(PHOTOS)") $(filter --quick,$(OPTIONS))

bench-sample: git-commit $(VENV)/.installed  ## measure the drawn sample: a ladder of models, ten seeds (make bench-sample OPTIONS=--processors)
	@dvc repro download
	@python benchmarks/sample.py $(OPTIONS)

bench-recipes: $(VENV)/.installed  ## measure recipes on real photos (make bench-recipes OXFORD=/photos/a FIVE=/photos/b RECIPES=fast,linear)
	@python benchmarks/recipes.py $(if $(OXFORD),--oxford "$(OXFORD)") $(if $(FIVE),--five "$(FIVE)") $(if $(RECIPES),--recipes "$(RECIPES)")
	@python benchmarks/results_page.py

bench-export: $(VENV)/.extras  ## measure every export format of build/model (make bench-export TITLE="The sample")
	@python benchmarks/export.py "$(or $(TITLE),build/model)" $(OPTIONS)

COMPILE := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header

lock: $(VENV)/.installed  ## resolve pyproject.toml into the locks again
	@# nncf, one of the extras, takes no newer networkx.
	@$(COMPILE) --upgrade --constraint <(echo "networkx<3.7") --extra dev pyproject.toml -o requirements.lock
	@# The extras are those packages that the first lock lacks.
	@$(COMPILE) --extra dev --extra slow --constraint requirements.lock pyproject.toml \
	  | awk 'NR==FNR {known[$$1]; next} /^[a-z]/ {keep = !($$1 in known)} keep' requirements.lock - > requirements-extras.lock
	@# The CPU build must not come along: an override takes it out, and all else is as in the first lock.
	@$(COMPILE) --extra dev --extra gpu --constraint requirements.lock --override <(echo "tensorflow-cpu; sys_platform == 'never'") pyproject.toml -o requirements-gpu.lock

sample: $(VENV)/.installed  ## draw a data set like the sample (make sample FOLDER=drawn OPTIONS="--test 60 --seed 1")
	@PYTHONPATH=tools python -m draw_sample "$(or $(FOLDER),drawn)" $(OPTIONS)

# `dvc gc` does not know what queued experiments and a git stash refer to: see docs/disk.md.
gc: git-commit $(VENV)/.installed  ## list unreferenced files in DVC's cache (make gc YES=1: delete them, and purge deleted runs of the local MLflow store)
	@dvc gc --workspace --all-commits --all-experiments $(if $(YES),--force,--dry) 2> >(grep -v "missing version info" >&2)
	@$(if $(YES),mlflow gc --backend-store-uri "$$MLFLOW_TRACKING_URI",echo "make gc YES=1 deletes it, and what the MLflow store keeps of deleted runs")

gc: export MLFLOW_TRACKING_URI ?= sqlite:///mlflow.db

clean: git-commit  ## remove what the pipeline made (not the data, the cache or the tracking store)
	@git clean -fdXq build dvc_plots
