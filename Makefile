# `make run` shows it at work, `make test` runs every test. Both bring up what they need themselves.
.PHONY: run build release test test-rust test-python test-clients clients docs wheel lint format e2e e2e-open-webui e2e-smoke bench fuzz kills nightly previous clean help

CARGO ?= cargo
PYTHON ?= python3
VENV := target/python
BINARY := target/debug/owui-token-tracking

help: ## what there is to make
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

run: ## build, and run the demonstration: a gateway, a simulated model server, users who reach their limits
	$(CARGO) run --locked --bin owui-token-tracking -- demo

build: ## the debug build
	$(CARGO) build --locked --workspace --all-targets

release: ## the optimised executable, target/release/owui-token-tracking
	$(CARGO) build --locked --release --bin owui-token-tracking

test: test-rust test-python test-clients ## all tests, on SQLite and PostgreSQL

test-rust: ## the tests of the crates
	scripts/with-postgres scripts/run-rust-tests

test-python: $(VENV)/ready ## the Python package, the documentation, the official clients against the gateway
	$(CARGO) build --locked --bin owui-token-tracking --bin simulated-provider
	scripts/with-postgres $(VENV)/bin/python -m pytest python/tests -q -n auto --dist loadscope

test-clients: $(VENV)/ready ## the SDKs of OpenAI, Anthropic, Vercel and LiteLLM as they are installed, against the gateway; installs them first, about 650 MB
	$(CARGO) build --locked --bin owui-token-tracking --bin simulated-provider
	scripts/client-environments sdks litellm node-sdks >/dev/null
	$(VENV)/bin/python -m pytest tests/clients -q -n auto -m quick

clients: $(VENV)/ready ## all clients, coding agents and frameworks too: prints what each can do; installs them first, about 3 GB
	$(CARGO) build --locked --bin owui-token-tracking --bin simulated-provider
	scripts/client-environments >/dev/null
	$(VENV)/bin/python -m pytest tests/clients -q -n auto

e2e: ## the parts of `make test` that run the real executable: crashes, pauses, several gateways, clients
	scripts/with-postgres scripts/run-rust-tests -E 'binary(/end_to_end/)'
	$(MAKE) test-python

kills: ## kill -9 in mid-stream, a hundred times on each database: what is charged of what the clients had received
	OWUI_TEST_KILLS=100 scripts/with-postgres scripts/run-rust-tests --profile nightly --no-capture -E 'binary(/end_to_end/) and test(/^kills::/)'

e2e-open-webui: ## a real Open WebUI, driven over HTTP and in a browser; installs it first, about 2 GB
	$(CARGO) build --locked --bin owui-token-tracking --bin simulated-provider
	environment="$$(scripts/open-webui-environment)" && \
		scripts/with-postgres "$$environment/bin/python" -m pytest tests/e2e $(E2E_ARGUMENTS)

e2e-smoke: ## the small set of that: one Open WebUI for each database
	$(MAKE) e2e-open-webui E2E_ARGUMENTS="-m smoke"

docs: $(VENV)/ready ## the documentation, in docs/build/html
	$(VENV)/bin/python -m sphinx -W --keep-going -b html docs/source docs/build/html

wheel: $(VENV)/ready ## the Python package with the optimised executable, in target/wheels; checks that it installs and runs
	rm -rf target/wheels
	$(VENV)/bin/maturin build --release --locked
	scripts/check-wheel target/wheels/*.whl

lint: $(VENV)/ready ## formats, lints, types, dependency rules
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(VENV)/bin/mypy
	scripts/check-dependencies

format: ## put everything into its format
	$(CARGO) fmt --all

bench: ## chunks of each provider; the ledger and the gateway, side by side with their engines' own limits; prints tables
	OWUI_TEST_POSTGRES_DURABLE=1 scripts/with-postgres scripts/bench

fuzz: ## ten minutes of fuzzing for each parser and converter (FUZZ_SECONDS to change that)
	scripts/fuzz

nightly: previous kills clients ## what takes too long for each change: all clients; 46,000 mutated bodies; streams of 800 MiB; the previous release; kills; outages of 18 s
	MUTATED_BODIES=46000 scripts/with-postgres scripts/run-rust-tests -E 'test(mutations::)' --no-capture
	STREAMED_MIB=800 scripts/with-postgres scripts/run-rust-tests --profile nightly -E 'binary(/end_to_end/) and test(/long_streams/)'
	OWUI_TEST_OUTAGES=30 OWUI_TEST_OUTAGE_SECONDS=18 scripts/with-postgres scripts/run-rust-tests --profile nightly \
		-E 'binary(/end_to_end/) and test(/^outages::/)'

previous: $(VENV)/ready ## the previous release, built from the history, and this one on one database; both with the other's package
	$(CARGO) build --locked --bin owui-token-tracking --bin simulated-provider
	scripts/with-postgres scripts/check-upgrade
	scripts/with-postgres scripts/check-versions-of-python $(CURDIR)/$(VENV)/bin/python

clean: ## remove what was built
	$(CARGO) clean

$(VENV)/ready: python/tests/requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --requirement python/tests/requirements.txt
	touch $@
