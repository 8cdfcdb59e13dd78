# `make run` and `make test` need nothing but Debian 12: they install what is missing. The rest of this file only
# spells out what cmake, ninja and ctest are asked to do.

SEEDS        ?= 1..1000# seeds of the simulator, for `make sim`
FUZZ_SECONDS ?= 30#      how long each fuzzer runs
LINT_TIDY    ?=#         1: `make lint` runs clang-tidy too (minutes)
ARGS         ?=#         more arguments for parleyd, for `make run`, or for bench/run.py

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help run build package test dev fuzzers fuzz sim chaos deploy-proof attack-proof soak bench bench-quick bench-page bench-tools bench-packages format lint clean run-packages test-packages npm

help: ## this list
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

run: build ## start parleyd with the demo page on http://127.0.0.1:8888 (ARGS='--set ...' for more)
	@exec build/parleyd --dev $(ARGS)

build: run-packages ## build/parleyd and build/parley, optimised
	@cmake --preset release -DBUILD_TESTING=OFF >/dev/null
	@cmake --build build/release
	@ln -sfn release/parleyd build/parleyd
	@ln -sfn release/parley build/parley

package: build ## build/parley_VERSION_ARCH.deb
	@command -v dpkg-shlibdeps >/dev/null || { echo "dpkg-dev is missing"; exit 1; }
	@cd build/release && cpack -B "$(CURDIR)/build" >/dev/null && rm -rf "$(CURDIR)/build/_CPack_Packages"
	@ls build/parley_*.deb

test: build dev fuzzers npm ## every test, under ASan and UBSan; each fuzzer for FUZZ_SECONDS=30
	@ctest --test-dir build/dev --output-on-failure -j2

fuzz: fuzzers ## only the fuzzers; what they find stays in build/fuzz
	@ctest --test-dir build/fuzz -L fuzz --output-on-failure -j2

sim: test-packages ## the simulator on SEEDS=1..1000, optimised
	@cmake --preset release -B build/sim -DBUILD_TESTING=ON >/dev/null
	@cmake --build build/sim --target sim
	@$$(find build/sim -type f -name sim) --seeds $(SEEDS)

chaos: build dev ## 100 000 events handed from node to node, then ten minutes of faults (PL_SEED=… to repeat)
	@cd tests/integration && export PARLEYD=$(CURDIR)/build/dev/parleyd && \
	  PL_EVENTS=$${PL_EVENTS:-100000} PL_RATE=$${PL_RATE:-500} PARLEYD=$(CURDIR)/build/release/parleyd \
	    /usr/bin/python3 test_redis_alternation.py && \
	  PL_SECONDS=$${PL_SECONDS:-600} PL_HANDS=2 PL_FAILOVERS=6 /usr/bin/python3 test_redis_chaos.py

bench: bench-tools ## Parley beside Nchan, Socket.IO, ws, Tornado and a bare loop, medians of five (some 40 minutes; ARGS=...)
	@bench/run.py $(ARGS)

bench-quick: bench-tools ## the short version, about a minute
	@bench/run.py --quick $(ARGS)

bench-page: ## docs/performance.md anew from the last `make bench`
	@bench/run.py --page

deploy-proof: build test-packages ## deploys, and Redis away, under 10 000 clients (PL_CLIENTS, PL_DRAIN, PL_RATE, PL_OUTAGE change it)
	@cmake --preset release -B build/sim -DBUILD_TESTING=ON >/dev/null
	@cmake --build build/sim --target crowd
	@cd tests/integration && PARLEYD=$(CURDIR)/build/release/parleyd CROWD=$(CURDIR)/build/sim/tests/integration/crowd \
	  PL_CLIENTS=$${PL_CLIENTS:-10000} PL_DRAIN=$${PL_DRAIN:-30} PL_RATE=$${PL_RATE:-1} PL_OUTAGE=$${PL_OUTAGE:-90} \
	    /usr/bin/python3 test_deploy_crowd.py

attack-proof: build test-packages ## clients that misbehave, and 1 000 others that must not notice (PL_GOOD, PL_SCALE, PL_SECONDS, PL_ROUNDS, PL_RATIO)
	@cmake --build build/release --target load
	@cd tests/integration && export PARLEYD=$(CURDIR)/build/release/parleyd PARLEYD_RELEASE=$(CURDIR)/build/release/parleyd && \
	  PL_GOOD=$${PL_GOOD:-1000} PL_SCALE=$${PL_SCALE:-1} PL_SECONDS=$${PL_SECONDS:-5} PL_ROUNDS=$${PL_ROUNDS:-3} PL_RATIO=$${PL_RATIO:-2} \
	    /usr/bin/python3 test_misbehaving.py

soak: build dev ## ten minutes of everything at once, with sanitizers and, beside that, in release for memory (SOAK_SECONDS)
	@cd tests/integration && export SOAK_SECONDS=$${SOAK_SECONDS:-600} && \
	  { PARLEYD=$(CURDIR)/build/dev/parleyd /usr/bin/python3 test_soak.py & } && \
	  PARLEYD=$(CURDIR)/build/release/parleyd /usr/bin/python3 test_soak.py; released=$$?; wait $$! && exit $$released

format: test-packages ## clang-format in place
	@tests/lint/format.sh --fix

lint: dev ## the lints alone; LINT_TIDY=1 for clang-tidy besides
	@ctest --test-dir build/dev -L lint --output-on-failure -j2
ifneq ($(LINT_TIDY),)
	@tests/lint/tidy.sh build/dev
endif

clean: ## remove build/
	rm -rf build

# ---- what the above stand on ----

bench-tools: build bench-packages bench/peers/node_modules/.package-lock.json
	@cmake --build build/release --target bench

bench/peers/node_modules/.package-lock.json: bench/peers/package-lock.json | bench-packages
	@cd bench/peers && npm ci --no-audit --no-fund

bench-packages:
	@cmake/packages.sh run bench

run-packages:
	@cmake/packages.sh run

test-packages:
	@cmake/packages.sh run test

dev: test-packages
	@cmake --preset dev -DPL_FUZZ_TREE=$(CURDIR)/build/fuzz -DPL_RELEASE_PARLEYD=$(CURDIR)/build/release/parleyd >/dev/null
	@cmake --build build/dev

fuzzers: test-packages
	@cmake --preset fuzz -DPL_FUZZ_SECONDS=$(FUZZ_SECONDS) >/dev/null
	@cmake --build build/fuzz --target fuzzers

npm: test-packages client-js/node_modules/.package-lock.json tests/integration/node_modules/.package-lock.json

# npm writes that file last, so it is newer than the lock file it was made from.
%/node_modules/.package-lock.json: %/package-lock.json | test-packages
	@cd $* && npm ci --no-audit --no-fund
