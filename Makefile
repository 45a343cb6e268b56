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

.PHONY: help report test lint format lock schema plan claims bench bench-data bench-amazon bench-recsys bench-llm clean

help: ## these lines
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

report: .venv/ready ## run the study (STUDY=laptop, smoke or full) and write its report
	@$(SNAKEMAKE) all
	@echo "results/$(STUDY)/report/report.html"

.venv/ready: envs/requirements.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is %s" % sys.version.split()[0])'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -r envs/requirements.txt
	@touch $@

test: .venv/ready lint ## everything that CI checks
	$(BIN)/python -m pytest tests/unit -n 2 --dist loadfile
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest tests/workflow

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
