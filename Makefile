# The commands of a newcomer. Each does its own set-up; see README.md.

.PHONY: setup demo test test-upgrade bench build fuzz clean

setup: ## Install the distribution packages that are missing
	@scripts/setup

build: setup
	cargo build --release --locked

demo: build ## Show it: idle stop, cold request, suspend, kill -9
	@scripts/demo

test: setup ## Format, lints, and all tests with real VMs
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	@scripts/run-tests --workspace --locked

test-upgrade: setup ## Take over machines that an earlier version started (needs the git history)
	@scripts/test-upgrade

bench: build ## Measure starts, requests and the API beside bare QEMU, skopeo, umoci, nginx and SQLite
	cargo build --release --locked -p oci --example flatten
	cargo build --release --locked -p testkit --example api
	@bench/run

fuzz: ## Let libFuzzer look for inputs that break a parser, FUZZ_TIME (60s) each; see CONTRIBUTING.md
	@scripts/fuzz

clean: ## Remove what was built
	cargo clean
