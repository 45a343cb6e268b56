# `make report` is all that a fresh clone needs. Python 3.11 or newer with pip and venv must be there.

STUDY  ?= laptop
CORES  ?= all
PYTHON ?= python3
CONFIG  = config/$(if $(filter laptop,$(STUDY)),config,$(STUDY)).yaml
BIN     = .venv/bin
# The packages are on PyPI; torch's smaller CPU build, for example, is had by
#   make report PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu"
PIP_ARGS ?=

SNAKEMAKE = PATH="$(CURDIR)/$(BIN):$$PATH" snakemake --cores $(CORES) $(if $(filter full,$(STUDY)),--sdm conda) --configfile $(CONFIG) --

.PHONY: help report cached-report status preflight plan claims mlflow test slurm-test chaos test-unsloth-versions \
	test-trackers audit lint format lock schema container bench bench-data bench-amazon bench-recsys bench-llm clean

help: ## these lines
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 24

report: .venv/ready ## run the study (STUDY=laptop, smoke or full) and write its report
	@$(SNAKEMAKE) all
	@echo "results/$(STUDY)/report/report.html"

cached-report: .venv/ready ## the report from the DVC remote's results (STUDY=laptop): nothing is trained
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python workflow/scripts/run_stage.py report --pull --study $(STUDY) --configfile $(CONFIG) --cores $(CORES)
	@echo "results/$(STUDY)/report/report.html"

status: .venv/ready ## where each run is (STUDY=laptop), also while Snakemake runs
	@$(BIN)/python workflow/scripts/show_status.py --configfile $(CONFIG)

preflight: .venv/ready ## whether the study (STUDY=full, for example) can run on this machine
	@$(SNAKEMAKE) preflight

.venv-mlflow/ready: envs/peers/mlflow.txt
	$(PYTHON) -m venv .venv-mlflow
	.venv-mlflow/bin/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -r envs/peers/mlflow.txt
	@touch $@

mlflow: .venv-mlflow/ready ## all finished runs (STUDY=laptop) in MLflow, on http://127.0.0.1:5000
	.venv-mlflow/bin/python workflow/scripts/log_runs.py --results results/$(STUDY)
	.venv-mlflow/bin/mlflow ui --backend-store-uri sqlite:///mlruns/mlflow.db

.venv/ready: envs/requirements.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is %s" % sys.version.split()[0])'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -r envs/requirements.txt
	@touch $@

test: .venv/ready lint ## everything that CI checks
	$(BIN)/python -m pytest tests/unit tests/hostile -n 2 --dist loadfile
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest tests/workflow --timeout 1200

slurm-test: .venv/ready ## the smoke study on a private SLURM of two nodes, on this machine
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest tests/slurm -rs

chaos: .venv/ready ## the smoke study killed, cut off and damaged, and continued each time
	@$(SNAKEMAKE) data/raw/movielens-100k
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python tests/chaos --output results/bench/chaos.json

.venv-unsloth-versions/ready: tests/unsloth_versions.py envs/llm.yaml envs/unsloth.yaml envs/requirements.txt .venv/ready
	$(PYTHON) -m venv .venv-unsloth-versions
	$(BIN)/python tests/unsloth_versions.py > .venv-unsloth-versions/pins.txt
	.venv-unsloth-versions/bin/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -r .venv-unsloth-versions/pins.txt
	@touch $@

test-unsloth-versions: .venv-unsloth-versions/ready ## language-model tests under unsloth's versions, without unsloth
	.venv-unsloth-versions/bin/python -m pytest tests/unit/llm -n 2 --dist loadfile

.venv/trackers: .venv/ready envs/trackers.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -r envs/trackers.txt -c envs/requirements.txt
	@touch $@

test-trackers: .venv/trackers .venv-mlflow/ready ## the trackers, with MLflow, TensorBoard and Weights & Biases
	$(BIN)/python -m pytest tests/unit/test_tracking.py

audit: .venv/ready ## known weaknesses of the packages, but for those in envs/audit.txt (asks PyPI)
	sed -n 's/^      - //p' envs/unsloth.yaml > .venv/unsloth.txt
	$(BIN)/pip-audit --strict --no-deps --disable-pip --progress-spinner off $$(awk '/^GHSA/ {print "--ignore-vuln", $$1}' envs/audit.txt) -r envs/requirements.txt -r .venv/unsloth.txt

lint: .venv/ready ## style of the Python code and of the workflow
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check --compact-diff Snakefile workflow/Snakefile rules
	PATH="$(CURDIR)/$(BIN):$$PATH" snakemake --lint

format: .venv/ready ## put the code into that style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile workflow/Snakefile rules

schema: .venv/ready ## config/schema.json, from the configuration models
	$(BIN)/python workflow/scripts/write_schema.py --output config/schema.json

container: .venv/ready ## Dockerfile, from envs/
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python workflow/scripts/write_dockerfile.py --output Dockerfile

lock: ## envs/requirements.txt, the exact versions, from envs/requirements.in
	rm -rf .venv-lock && $(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -r envs/requirements.in
	@echo '# Made by `make lock` from requirements.in: the exact versions that are tested. Do not edit.' > envs/requirements.txt
	.venv-lock/bin/python -m pip freeze | sed 's/+cpu$$//' >> envs/requirements.txt
	rm -rf .venv-lock

plan: STUDY = full
plan: .venv/ready ## what each language-model run needs of a GPU (STUDY=full), before anything is downloaded
	@$(BIN)/python workflow/scripts/plan_memory.py --configfile $(CONFIG)

claims: .venv/ready ## every number that the originals state, and what answers it here (STUDY=laptop)
	@$(BIN)/python workflow/scripts/check_claims.py --results results/$(STUDY)

bench: bench-data bench-amazon bench-recsys bench-llm ## all measurements of speed and memory, into results/bench/

bench-data: .venv/ready ## preparing 20 million ratings, beside pandas
	$(BIN)/python workflow/scripts/bench_data.py --output results/bench/data.json

bench-amazon: .venv/ready ## preparing 7 million Amazon reviews
	$(BIN)/python workflow/scripts/bench_amazon.py --output results/bench/amazon.json

bench-recsys: .venv/ready ## training SASRec, beside RecTools; 25 minutes on two cores
	@$(SNAKEMAKE) data/prepared/movielens-100k/interactions.parquet
	$(BIN)/python workflow/scripts/bench_recsys.py --pip-args="$(PIP_ARGS)" --output results/bench/recsys.json

bench-llm: .venv/ready ## training SmolLM2, beside TRL; perplexity beside lm-eval; 25 minutes on two cores
	@$(SNAKEMAKE) data/prepared/wikipedia-sample/documents.parquet data/models/smollm2-135m-instruct data/models/tiny-random-llama
	$(BIN)/python workflow/scripts/bench_llm.py --pip-args="$(PIP_ARGS)" --output results/bench/llm.json

clean: ## remove what the workflow made; downloads, models and .venv stay
	rm -rf results checkpoints logs data/pairs data/blocks data/prepared .snakemake
