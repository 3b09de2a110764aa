# Everything that a person repeats. Each target makes .venv, installs what it needs and builds, where that is not
# done yet.
#   PYTHON=python3.14   another interpreter, with a virtual environment of its own (.venv-3.14)
#   ARGS="…"            passed on to what the target runs

ARGS ?=
PYTHON ?=
export PYTHON

develop = @bash tools/develop
# A ring is charged to its user: more processes than these could exhaust an ordinary user's locked memory.
workers = -n auto --maxprocesses 4 --max-worker-restart 1 --dist worksteal

.PHONY: build run test loop-suites debug-test denied-test test-all integration bench lint format clean distclean help

build: ## build the extension modules in place (RINGLOOP_DEBUG=1: with all internal checks)
	$(develop)

run: ## compare asyncio, uvloop and ringloop under real applications, and work on files; tables and pictures
	$(develop) bench -- -m bench.run $(ARGS)

test: ## run the tests
	$(develop) test -- -m pytest $(workers) $(ARGS)

loop-suites: ## run CPython's own tests of asyncio and uvloop's own, on ringloop
	$(develop) test -- -m pytest $(workers) --loop-suites $(ARGS)

debug-test: ## run the tests on a debug build
	@RINGLOOP_DEBUG=1 $(MAKE) --no-print-directory test

denied-test: ## run the tests with io_uring denied, as most containers deny it
	$(develop) test -- tests/unavailable/denial.py $(addsuffix =EPERM,io_uring_setup io_uring_enter io_uring_register) \
		-- $(MAKE) --no-print-directory test

test-all: ## run the tests on every Python from 3.11 on that is found
	@bash tools/test-all $(ARGS)

integration: ## run unmodified libraries against real servers (ARGS="--integration-minutes 60": for an hour of work)
	$(develop) --servers test integration -- -m pytest --integration -n 2 --max-worker-restart 1 --dist worksteal $(ARGS)

bench: ## measure every workload against asyncio and uvloop, work on files against blocking code and aiofiles
	$(develop) bench -- -m bench.compare $(ARGS)

lint: ## check style and types
	$(develop) --no-build bench lint test -- tools/lint.py $(ARGS)

format: ## put the sources into the form that lint asks for
	$(develop) --no-build bench lint test -- tools/lint.py --fix $(ARGS)

clean: ## remove what was built
	rm -rf build dist ringloop/*.so ringloop/*.so.new ringloop.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find ringloop tests bench examples tools -name __pycache__ -type d -exec rm -rf {} +

distclean: clean ## remove what was built and the virtual environments
	rm -rf .venv .venv-*

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' Makefile
