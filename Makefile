# `make` alone lists what there is. Every target does its own set-up.
.DEFAULT_GOAL := help
.NOTPARALLEL:
SHELL := /bin/bash

export FLOTILLA_TOOLS ?= $(CURDIR)/.tools
# Last comes where rustup puts cargo, for shells that have not read its settings yet.
export PATH := $(FLOTILLA_TOOLS)/bin:$(PATH):$(HOME)/.cargo/bin

export CARGO ?= cargo
# Integration tests start servers, agents, restic and browsers: more at once than this starves their deadlines. So many tests of one program ...
TEST_THREADS ?= 2
# ... and so many programs: most of them wait most of the time.
TEST_LANES ?= 2
# For instance: make demo ARGS='--listen 0.0.0.0:8080'
ARGS ?=

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) |\
		awk -F ':.*## ' '{ printf "  make %-12s %s\n", $$1, $$2 }'

.PHONY: setup
setup: ## make everything ready that building, testing and the demo need
	@scripts/setup-tools test

.PHONY: demo
demo: ## control plane, agent, repository and a first backup on this machine; stays up
	@scripts/setup-tools demo
	$(CARGO) build --release --locked --bin flotilla
	target/release/flotilla demo $(ARGS)

.PHONY: demo-once
demo-once: ## the same unattended, with a restore that is compared byte by byte
	@scripts/setup-tools demo
	$(CARGO) build --release --locked --bin flotilla
	target/release/flotilla demo --once $(ARGS)

.PHONY: test
test: setup fmt lint unit doctest integration ## all checks and all tests

.PHONY: fmt
fmt: ## check the formatting (cargo fmt mends it)
	$(CARGO) fmt --all --check

.PHONY: lint
lint: ## clippy, warnings are errors
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

.PHONY: unit
unit: ## the tests beside the code
	$(CARGO) test --workspace --locked --lib --bins

.PHONY: doctest
doctest: ## the examples in the documentation
	$(CARGO) test --workspace --locked --doc

# Not `--tests`: that would run the unit tests again.
.PHONY: integration
integration: ## black-box tests: real restic, real repository server, real browser
	scripts/run-tests $(TEST_LANES) --workspace --locked --test '*' -- --test-threads $(TEST_THREADS)

.PHONY: test-restics
test-restics: setup ## the agent's tests with all generations of restic, not only the newest
	FLOTILLA_ALL_RESTICS=1 scripts/run-tests $(TEST_LANES) -p flotilla-agent --locked --test '*' -- --test-threads $(TEST_THREADS)

.PHONY: browser
browser: ## only the browser's tests
	$(CARGO) test --locked --test browser -- --test-threads 1

# For instance: make chaos ARGS=100 (so many scripts), or FLOTILLA_CHAOS_SEED=n make chaos (one script again)
.PHONY: chaos
chaos: setup ## real parts, 30 faults and 200,000 lines a run; ARGS=100 for so many runs
	FLOTILLA_CHAOS_SEEDS=$(or $(ARGS),5) $(CARGO) test --locked --test chaos -- --nocapture

.PHONY: bench
bench: ## measure, beside the floors of the same run (bench/RESULTS.md)
	@scripts/setup-tools bench
	$(CARGO) run --release --locked -p flotilla-bench -- $(ARGS)

.PHONY: release
release: ## target/release/flotilla and flotilla-agent
	$(CARGO) build --release --locked -p flotilla -p flotilla-agent

.PHONY: screenshots
screenshots: ## make docs/*.png anew from the running program
	FLOTILLA_SCREENSHOTS=$(CURDIR)/docs $(CARGO) test --locked --test browser -- --test-threads 1 screenshots
