# `make report` is all that a fresh clone needs. Python 3.11 or newer with pip and venv must be there.

STUDY  ?= laptop
CORES  ?= all
PYTHON ?= python3
CONFIG  = config/$(if $(filter laptop,$(STUDY)),config,$(STUDY)).yaml
BIN     = .venv/bin
# The build of torch: auto (for CPUs where there is no NVIDIA GPU), pypi (on Linux for CUDA), cpu, cu126, ...
TORCH  ?= auto
# Further arguments of pip and uv, such as --index-url.
PIP_ARGS ?=

# Two workers. Each begins with half of the tests and takes over some of the other's at the end; a worker that dies is
# replaced, and the test that ended it is named (with `loadfile` or `loadscope`, pytest-xdist 3.8 waits for ever then).
# The slowest tests are listed at the end.
PYTEST    = PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest --durations 25 --durations-min 1
PARALLEL  = -n 2 --dist worksteal

SNAKEMAKE = PATH="$(CURDIR)/$(BIN):$$PATH" snakemake --cores $(CORES) $(if $(filter full,$(STUDY)),--sdm conda) --configfile $(CONFIG) --

INSTALL   = $(PYTHON) workflow/scripts/install_packages.py --pip-args="$(PIP_ARGS)"
# Caches, of Snakemake and others, are in the home folder; where that cannot be written, here.
ifneq ($(shell cache="$${XDG_CACHE_HOME:-$${HOME:?}/.cache}"; mkdir -p "$$cache" 2>/dev/null && test -w "$$cache" && echo yes),yes)
export XDG_CACHE_HOME := $(CURDIR)/.snakemake/cache
endif

# PyTorch's libraries held to AVX2, as on most laptops.
AVX2      = ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2

.PHONY: help new-study export-data report search recipe cached-report partial-report adopt status preflight plan claims mlflow test avx2-smoke \
	slurm-test chaos sanitize repeat fuzz test-unsloth-versions test-trackers audit lint format lock schema docs rehearse \
	workflow-picture container bench bench-data bench-amazon bench-recsys bench-llm clean

help: ## these lines
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 24

# Not from the environment: some systems set NAME.
NAME := $(if $(findstring environment,$(origin NAME)),,$(NAME))
new-study: .venv/ready ## config/NAME.yaml for your own data: NAME=shop KIND=recommendation DATA=ratings.csv
	@$(BIN)/python workflow/scripts/new_study.py --name="$(NAME)" --kind="$(KIND)" --data="$(DATA)" --fields $(FIELDS)

EXPORT = $(BIN)/python workflow/scripts/export_data.py --configfile $(CONFIG) --data="$(DATA)" --format="$(FORMAT)" --run="$(RUN)"
export-data: .venv/ready ## a study's split for other libraries: STUDY=laptop DATA=movielens-100k FORMAT=recbole, rectools or sasrec
	@$(EXPORT) --check
	@$(SNAKEMAKE) data/prepared/$(DATA)/interactions.parquet
	@$(EXPORT)

report: .venv/ready ## run the study (STUDY=laptop, workstation, full or smoke) and write its report
	@$(SNAKEMAKE) all
	@echo "results/$(STUDY)/report/report.html"

cached-report: .venv/ready ## the report from the DVC remote's results (STUDY=laptop): nothing is trained
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python workflow/scripts/run_stage.py report --pull --study $(STUDY) --configfile $(CONFIG) --cores $(CORES)
	@echo "results/$(STUDY)/report/report.html"

adopt: .venv/ready ## after a change of code that changes no result: mark the results (STUDY=laptop) as up to date
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python workflow/scripts/adopt_results.py --configfile $(CONFIG) --cores $(CORES)

status: .venv/ready ## where each run is (STUDY=laptop), also while Snakemake runs
	@$(BIN)/python workflow/scripts/show_status.py --configfile $(CONFIG)

preflight: .venv/ready ## whether the study (STUDY=full, for example) can run on this machine
	@$(SNAKEMAKE) preflight

search: .venv/ready ## better settings, found on validation data (STUDY=shop EXPERIMENT=recommender VARIANT=sasrec)
	@$(if $(and $(EXPERIMENT),$(VARIANT)),,$(if $(EXPERIMENT)$(VARIANT),$(error give both EXPERIMENT and VARIANT, or neither)))
	@$(SNAKEMAKE) $(if $(EXPERIMENT),results/$(STUDY)/$(EXPERIMENT)/$(VARIANT)/search/best.yaml,search)

recipe: .venv/ready ## keep what that search has found as config/recipes/NAME.yaml, for studies to use
	@$(BIN)/python workflow/scripts/write_recipe.py --search="results/$(STUDY)/$(EXPERIMENT)/$(VARIANT)/search" --name="$(NAME)"

rehearse: .venv/ready ## the study (STUDY=full, for example) from download to report in minutes, with small stand-ins
	@$(BIN)/python workflow/scripts/rehearse_study.py --configfile $(CONFIG) --cores $(CORES)

.venv-mlflow/ready: envs/peers/mlflow.txt
	$(PYTHON) -m venv .venv-mlflow
	.venv-mlflow/bin/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -r envs/peers/mlflow.txt
	@touch $@

mlflow: .venv-mlflow/ready ## all finished runs (STUDY=laptop) in MLflow, on http://127.0.0.1:5000
	.venv-mlflow/bin/python workflow/scripts/log_runs.py --results results/$(STUDY)
	.venv-mlflow/bin/mlflow ui --backend-store-uri sqlite:///mlruns/mlflow.db

.venv/ready: envs/requirements.txt
	@$(INSTALL) --study=$(STUDY) --torch=$(TORCH)
	@touch $@

.venv/test-ready: .venv/ready envs/requirements-test.txt
	@$(INSTALL) envs/requirements-test.txt
	@touch $@

test: .venv/test-ready lint ## everything that CI checks
	$(PYTEST) tests/unit tests/hostile $(PARALLEL)
	$(AVX2) $(PYTEST) tests/unit/llm tests/unit/recsys tests/unit/run $(PARALLEL) -k "not two_processes"
	$(PYTEST) tests/workflow --ignore tests/workflow/test_interruption.py -n 2
	$(PYTEST) tests/workflow/test_interruption.py

avx2-smoke: .venv/ready ## the smoke study with PyTorch held to AVX2
	@$(AVX2) PATH="$(CURDIR)/$(BIN):$$PATH" snakemake --cores $(CORES) --configfile config/smoke.yaml --forceall -- all

slurm-test: .venv/test-ready ## the smoke study on a private SLURM of two nodes, on this machine
	$(PYTEST) tests/slurm --needed

chaos: .venv/test-ready ## the smoke study killed, cut off and damaged, and continued each time
	@$(SNAKEMAKE) data/raw/movielens-100k
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python tests/chaos --output results/bench/chaos.json

N ?= 100
repeat: STUDY = smoke
repeat: .venv/ready ## each training and evaluation of the smoke study N=100 times: are all results the same?
	@$(SNAKEMAKE) all
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python tests/repeat -n $(N)

fuzz: N = 10000
fuzz: .venv/test-ready ## both readers of interactions on N=10000 generated files: are they of one mind?
	$(BIN)/python tests/fuzz -n $(N)

sanitize: .venv/test-ready ## fused.c under the address, undefined-behaviour and thread sanitizers (needs clang)
	$(BIN)/python tests/sanitize

.venv-unsloth-versions/ready: tests/unsloth_versions.py envs/llm.yaml envs/unsloth.yaml envs/requirements.txt envs/requirements-test.txt .venv/ready
	$(PYTHON) -m venv .venv-unsloth-versions
	$(BIN)/python tests/unsloth_versions.py > .venv-unsloth-versions/pins.txt
	.venv-unsloth-versions/bin/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -r .venv-unsloth-versions/pins.txt
	@touch $@

test-unsloth-versions: .venv-unsloth-versions/ready ## language-model tests under unsloth's versions, without unsloth
	.venv-unsloth-versions/bin/python -m pytest tests/unit/llm $(PARALLEL) --needed

.venv/trackers: .venv/ready envs/trackers.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) --no-deps -r envs/trackers.txt
	@touch $@

test-trackers: .venv/test-ready .venv/trackers .venv-mlflow/ready ## the trackers, with MLflow, TensorBoard and Weights & Biases
	$(BIN)/python -m pytest tests/unit/test_tracking.py --needed

audit: .venv/test-ready ## known weaknesses of the packages, but for those in envs/audit.txt (asks PyPI)
	sed -n 's/^      - //p' envs/unsloth.yaml > .venv/unsloth.txt
	for files in "-r envs/requirements.txt -r envs/requirements-test.txt" "-r .venv/unsloth.txt"; do \
		$(BIN)/pip-audit --strict --no-deps --disable-pip --progress-spinner off $$(awk '/^GHSA/ {print "--ignore-vuln", $$1}' envs/audit.txt) $$files || exit; \
	done

lint: .venv/test-ready ## style of the Python code and of the workflow
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check --compact-diff Snakefile workflow/Snakefile rules
	PATH="$(CURDIR)/$(BIN):$$PATH" snakemake --lint

format: .venv/test-ready ## put the code into that style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile workflow/Snakefile rules

schema: .venv/ready ## config/schema.json, from the configuration models
	$(BIN)/python workflow/scripts/write_schema.py --output config/schema.json

.venv-docs/ready: envs/docs.txt
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) --require-hashes -r envs/docs.txt
	@touch $@

docs: .venv-docs/ready ## the pages of docs/ as a site, into site/
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict --quiet
	@echo "site/index.html"

workflow-picture: .venv/ready ## docs/workflow.svg, from the rule graph of the smoke study
	PATH="$(CURDIR)/$(BIN):$$PATH" snakemake --configfile config/smoke.yaml --forceall --rulegraph dot -- all | \
		$(BIN)/python workflow/scripts/draw_workflow.py --output docs/workflow.svg

container: .venv/ready ## Dockerfile, from envs/
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python workflow/scripts/write_dockerfile.py --output Dockerfile

lock: .venv/test-ready ## the locks and sizes in envs/, from the .in files (LOCK_ARGS=--upgrade: the newest versions)
	$(BIN)/python workflow/scripts/lock_packages.py --pip-args="$(PIP_ARGS)" $(LOCK_ARGS)

plan: STUDY = full
plan: .venv/ready ## memory, hours, energy and cost (STUDY=full DEVICE=h100 GPUS=2 PRICE=2.50), before any download
	@$(BIN)/python workflow/scripts/plan_study.py --configfile $(CONFIG) --device="$(DEVICE)" --gpus="$(or $(GPUS),1)" \
		--cores="$(CORES)" --price="$(PRICE)" --power="$(POWER)" $(if $(JSON),--json="$(JSON)")

partial-report: .venv/ready ## the report of the results that are there (STUDY=laptop); it names those that are missing
	@$(SNAKEMAKE) results/$(STUDY)/study.yaml
	@$(BIN)/python workflow/scripts/make_tables.py --study results/$(STUDY)/study.yaml --output results/$(STUDY)/report/tables
	@$(BIN)/python workflow/scripts/plot_figures.py --study results/$(STUDY)/study.yaml --output results/$(STUDY)/report/figures
	@$(BIN)/python workflow/scripts/write_report.py --study results/$(STUDY)/study.yaml --report results/$(STUDY)/report
	@echo "results/$(STUDY)/report/report.html"

claims: .venv/ready ## every number that the originals state, and what answers it here (STUDY=laptop)
	@$(SNAKEMAKE) results/$(STUDY)/study.yaml
	@$(BIN)/python workflow/scripts/check_claims.py --study results/$(STUDY)/study.yaml

bench: bench-data bench-amazon bench-recsys bench-llm ## all measurements of speed and memory, into results/bench/

bench-data: .venv/ready ## preparing 20 million ratings, beside pandas
	$(BIN)/python -m bench.data --output results/bench/data.json

bench-amazon: .venv/ready ## preparing 7 million Amazon reviews
	$(BIN)/python -m bench.amazon --output results/bench/amazon.json

bench-recsys: .venv/ready ## training SASRec, beside RecTools; 25 minutes on two cores
	@$(SNAKEMAKE) data/prepared/movielens-100k/interactions.parquet
	$(BIN)/python -m bench.recsys --pip-args="$(PIP_ARGS)" --output results/bench/recsys.json

bench-llm: .venv/ready ## training SmolLM2, beside TRL; perplexity beside lm-eval; 25 minutes on two cores
	@$(SNAKEMAKE) data/prepared/wikipedia-sample/documents.parquet data/models/smollm2-135m-instruct data/models/tiny-random-llama
	$(BIN)/python -m bench.llm --pip-args="$(PIP_ARGS)" --output results/bench/llm.json

clean: ## remove what the workflow made; downloads, models and .venv stay
	rm -rf results checkpoints logs data/pairs data/blocks data/prepared .snakemake
