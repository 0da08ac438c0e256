# `make` alone says what there is.
PREFIX ?= $(HOME)/.local

help: ## say what there is
	@sed -n 's/^\([a-z-]*\):.*## /  make \1|/p' Makefile | column -t -s '|'

demo: ## build the program, build a .NET image with it, run it, fetch its page
	scripts/demo

test: fixtures ## all tests, as an ordinary user also when root
	scripts/need test && cargo test --workspace --no-fail-fast

test-environments: fixtures ## only those in simulated containers, pods and logins; needs root. PLACES='k8s-restricted ...'
	scripts/need test && cargo test --no-fail-fast --test environments --test same_bytes_everywhere --test security --test acid --test verbs_anywhere

check: ## format, lints, documentation
	scripts/check

bench: ## measure against buildah and BuildKit; make bench ARGS='--write' renews docs/benchmarks.md
	scripts/bench $(ARGS)

bench-registry: ## measure push and pull against skopeo and buildah
	scripts/bench-registry $(ARGS)

bench-modes: ## measure what emulated owners cost
	scripts/bench-modes $(ARGS)

bench-floor: ## measure the least that a RUN and a stat can take on this machine
	scripts/bench-floor $(ARGS)

bench-plan: build ## measure the planning of 10,000 instructions
	scripts/bench-plan $(ARGS)

build: ## target/coracle: one static file
	scripts/build

install: build ## PREFIX/bin/coracle; PREFIX is ~/.local
	install -D -m 755 target/coracle "$(DESTDIR)$(PREFIX)/bin/coracle"

fixtures: ## .fixtures: base images for tests and demo
	scripts/need fixtures && tests/fixtures/make-base-images.sh .fixtures && tests/fixtures/make-dotnet-images.sh .fixtures && tests/fixtures/make-foreign-programs.sh .fixtures

doc: ## the manual of the code
	cargo doc --workspace --no-deps --document-private-items

clean: ## all that is made here
	cargo clean && rm -rf .fixtures target

.PHONY: help demo test test-environments check bench bench-registry bench-modes bench-floor bench-plan build install fixtures doc clean
