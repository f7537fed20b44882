# The README's commands. Each prepares what it needs; nothing is installed outside this checkout.
.DEFAULT_GOAL := help
.PHONY: help setup run test test-slow bench-retrieval bench-ranking bench-serving bench-data bench-index bench-merge lint lock clean
BIN := .venv/bin

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /\1\t/' | expand -t 14

setup: ## Make .venv from the lock (skipped when done)
	@bash .ci/setup

run: setup ## The whole pipeline on the built-in sample, then one user's recommendations over gRPC
	@$(BIN)/movierec run --demo

test: setup ## Lint and every test CI runs
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/pytest -m "not slow" --numprocesses 2 --dist loadfile --no-loadscope-reorder

test-slow: setup ## The tests that are too long for CI
	@$(BIN)/pytest -m slow

bench-retrieval: setup ## What every retrieval family reaches on ml-100k, both splits, three seeds (half an hour)
	@$(BIN)/python tests/benchmarks/bench_retrieval.py

bench-serving: setup ## What a Predict costs beside a minimal server, and two calls beside one
	@$(BIN)/python tests/benchmarks/bench_serving.py
	@$(BIN)/python tests/benchmarks/bench_one_call.py

bench-ranking: setup ## Every ranking family on ml-100k's five folds and by time, beside its peers (half an hour)
	@$(BIN)/python tests/benchmarks/bench_ranking.py

bench-data: setup ## What ingest, statistics and Transform cost at 100k, 1M and 5M rows (half an hour)
	@$(BIN)/python tests/benchmarks/bench_data.py

bench-index: setup ## Recall and CPU time of the approximate indexes at 10k, 100k and 1M candidates (half an hour)
	@$(BIN)/python tests/benchmarks/bench_index.py

bench-merge: setup ## Whether an order by score and stars beats retrieval's, on runs/ml-100k-leave_last_out (three seeds)
	@$(BIN)/python tests/benchmarks/bench_merge.py

lint: setup ## ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/mypy

lock: setup ## Write requirements.lock anew from pyproject.toml
	@.uv/bin/uv pip compile -q --universal --python-version 3.10 --generate-hashes --no-emit-index-url --no-header \
	  --extra dev --extra kubeflow --extra annoy --extra scann pyproject.toml -o requirements.lock

clean: ## Remove runs, caches and environments
	rm -rf runs .cache .venv .uv build *.egg-info
