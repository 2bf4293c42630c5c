# The work is done by `python3 -m tools`; this file only gives it short names.
PYTHON ?= python3
STACK ?= local
TOOLS = $(PYTHON) -m tools

.DEFAULT_GOAL := help
.PHONY: help up down test lint bench lock

help: ## print these targets
	@sed -n 's/^\([a-z]*\): .*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 14

up: ## install what is missing, stand the stack up, replicate one object
	@$(TOOLS) up --stack $(STACK)

down: ## take the stack down
	@$(TOOLS) down --stack $(STACK)

test: ## install what is missing, check style and types, run every test
	@$(TOOLS) test

lint: ## check style and types only
	@$(TOOLS) lint

bench: ## measure the lag, beside MinIO's own replication
	@$(TOOLS) bench

lock: ## pin the requirement files anew from pyproject.toml
	@$(TOOLS) lock
