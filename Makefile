# What people and CI run. `make help` lists it.

SHELL := /bin/bash
.DEFAULT_GOAL := help

PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
MANDIR ?= $(PREFIX)/share/man
DESTDIR ?=
# release, or debug: what `make build` makes and `make install` installs.
PROFILE ?= release
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
VENV := target/venv

# STORES=flock,memory builds a library with these stores alone.
empty :=
space := $(empty) $(empty)
comma := ,
CARGO_STORES := $(if $(STORES),--no-default-features --features "$(subst $(comma),$(space),$(STORES))")
CARGO_OFFLINE := $(if $(filter 1,$(OFFLINE)),--offline)

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | sed -E 's/:.*## /\t/' | expand -t 16

.PHONY: prereqs
prereqs: ## check what is needed; as root install the Debian packages that are missing
	@tests/tools/prereqs

.PHONY: build
build: ## libsynlock.so and .a (STORES=flock,memory for a slim one; OFFLINE=1 from vendored crates)
	$(if $(shell command -v cargo),,$(error synlock is built from source and needs cargo (Rust 1.89 or newer): https://rustup.rs))
	cargo build --profile $(PROFILE:debug=dev) $(CARGO_OFFLINE) -p synlock-ffi $(CARGO_STORES)

.PHONY: vendor
vendor: ## fetch every crate into vendor/, for OFFLINE=1
	mkdir -p .cargo
	cargo vendor --locked --versioned-dirs vendor > .cargo/config.toml

.PHONY: install
install: ## install what `make build` made (PREFIX, LIBDIR, INCLUDEDIR, DESTDIR); builds nothing
	@PREFIX="$(PREFIX)" LIBDIR="$(LIBDIR)" INCLUDEDIR="$(INCLUDEDIR)" MANDIR="$(MANDIR)" DESTDIR="$(DESTDIR)" \
		VERSION="$(VERSION)" PROFILE="$(PROFILE)" tests/tools/install

.PHONY: header
header: ## write include/synlock.h and its twin from the source
	SYNLOCK_ACCEPT=1 cargo test -q -p synlock-header

.PHONY: tables
tables: ## write the tables of the documents from the code
	SYNLOCK_ACCEPT=1 cargo test -q -p synlock-tests --test tables

.PHONY: check
check: prereqs ## formatting, lints, freshness of generated files, licences
	@tests/tools/check

.PHONY: test
test: prereqs ## every suite, every store, every language
	@tests/tools/run-suites all

.PHONY: test-local
test-local: ## what needs no server and no root
	@tests/tools/run-suites local

.PHONY: test-rust test-c test-python test-node test-php
test-rust test-c test-python test-node test-php: ## the suites of one language
	@tests/tools/run-suites $(@:test-%=%)

.PHONY: chaos
chaos: ## the bar at full load; ROW=n for one row
	@tests/chaos/run $(ROW)

.PHONY: canary
canary: ## show that rows of the bar can fail, by builds broken on purpose; ROW=n for one row
	@tests/chaos/canary $(ROW)

.PHONY: bench
bench: ## speed beside the raw limit, into tests/bench/REPORT.md; QUICK=1 for five minutes
	@QUICK=$(QUICK) tests/bench/run

.PHONY: demo
demo: ## eight processes of four languages share one counter
	@tests/tools/prereqs demo
	@tests/demo/run

.PHONY: clean
clean: ## remove what was built
	rm -rf target vendor
