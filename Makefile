# Everything is built below the user's cache, so that a fresh clone reuses what is there.
export CARGO_TARGET_DIR ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/sawlog/target
SAWLOG = $(CARGO_TARGET_DIR)/debug/sawlog
RUST_MIN = $(shell sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)

.PHONY: help demo demo-clean test test-long bench build wheel

help:
	@echo "make demo        build, load real logs, show the page; Ctrl-C stops"
	@echo "make demo-clean  remove what the demo stored"
	@echo "make test        every check: format, lints, Rust, web and end-to-end tests"
	@echo "make test-long   the same with long crash and property campaigns, and the parsers fuzzed; takes hours"
	@echo "make bench       our figures and those of ClickHouse and DuckDB, measured in one run"
	@echo "make build       an optimized binary: $(CARGO_TARGET_DIR)/release/sawlog"
	@echo "make wheel       the Python package for Beam and Spark: python/dist"

# What must be there before cargo can build even the program that checks for the rest: cc links it.
tools:
	@missing=; \
	command -v cc >/dev/null || { missing=1; echo "missing: cc — apt-get install build-essential"; }; \
	install="install Rust with rustup: curl https://sh.rustup.rs -sSf | sh"; \
	command -v cargo >/dev/null || { missing=1; echo "missing: cargo — $$install"; }; \
	found=$$(rustc --version 2>/dev/null | cut -d ' ' -f 2); \
	if [ -n "$$found" ] && [ "$$(printf '%s\n' $(RUST_MIN) "$$found" | sort -V | head -n 1)" != "$(RUST_MIN)" ]; then \
		missing=1; echo "too old: Rust $$found, $(RUST_MIN) is needed — rustup update stable"; \
	fi; \
	[ -z "$$missing" ]

demo: tools
	@cargo xtask demo-tools
	@echo "building (a first build takes about 20 minutes on 2 cores, later ones seconds) …"
	@cargo xtask web
	@cargo build --workspace --bins
	@$(SAWLOG) demo --data sawlog-data/demo

demo-clean:
	rm -rf sawlog-data/demo

test: tools
	@cargo xtask test

test-long: tools
	@cargo xtask test-long

# BENCH="--only file --runs 3" measures a part.
bench: tools
	@cargo xtask bench $(BENCH)

build: tools
	@cargo xtask web
	@cargo build --release --workspace --bins

wheel: tools
	@cargo xtask wheel
