# The experiment, end to end. `make help` lists what there is; every stage skips what is up to date.

DATASETS      := ml-100k ml-1m ml-20m steam beauty
ARCHITECTURES := bert
DEFENSES      := none random reverse gro

CARGO    ?= cargo
FEATURES ?=
FLAGS    ?=
OUT      ?= out
RAW      ?= data/raw
BIN      := target/release

.DEFAULT_GOAL := help
.PHONY: help build test lint doc bench demo clean

help: ## This list
	@printf 'The experiment:\n'
	@printf '  %-20s %s\n' 'DATASET-ARCHITECTURE' 'fetch, preprocess, train, defend, attack, evaluate, report; for example make ml-100k-bert'
	@printf '  %-20s %s\n' '' 'datasets: $(DATASETS); architectures: $(ARCHITECTURES)'
	@printf '  %-20s %s\n' '' 'INPUT=PATH takes ratings from there; FLAGS="--set train.epochs=50" goes to every stage'
	@printf 'And:\n'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-20s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## The five binaries, in target/release
	@$(CARGO) build --release --locked --quiet $(if $(FEATURES),--features $(FEATURES)) -p preprocess -p train -p defend -p attack -p evaluate

test: lint ## Everything CI checks: format, lints, tests, documentation
	$(CARGO) test --release --locked --workspace
	$(MAKE) --no-print-directory doc

lint: ## Format and lints
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --locked --workspace --all-targets -- -D warnings

doc: ## The documentation of all crates, in target/doc
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --release --locked --workspace --no-deps --document-private-items

bench: ## The benchmarks
	$(CARGO) bench --locked --workspace

clean: ## Remove results; fetched data and builds stay
	rm -rf $(OUT)

# $(call experiment,NAME,DATASET,SETTINGS): every stage in order. SETTINGS are the --config flags.
define experiment
$(BIN)/gro-preprocess run $(3) $(FLAGS) --input $(INPUT) --out $(OUT)/$(2)/data
$(BIN)/gro-train $(3) $(FLAGS) --data $(OUT)/$(2)/data --out $(OUT)/$(1)/target
for defense in $(DEFENSES); do \
  $(BIN)/gro-defend $(3) $(FLAGS) --data $(OUT)/$(2)/data --target $(OUT)/$(1)/target --method $$defense --out $(OUT)/$(1)/protected-$$defense && \
  $(BIN)/gro-attack generate $(3) $(FLAGS) --target $(OUT)/$(1)/protected-$$defense --out $(OUT)/$(1)/queries-$$defense && \
  $(BIN)/gro-attack distill $(3) $(FLAGS) --queries $(OUT)/$(1)/queries-$$defense --surrogate $(4) --out $(OUT)/$(1)/surrogate-$$defense-$(4) && \
  $(BIN)/gro-evaluate run $(3) $(FLAGS) --data $(OUT)/$(2)/data --target $(OUT)/$(1)/protected-$$defense --surrogate $(OUT)/$(1)/surrogate-$$defense-$(4) --out $(OUT)/$(1)/eval-$$defense-$(4) || exit; \
done
$(BIN)/gro-evaluate report $(FLAGS) --runs $(foreach defense,$(DEFENSES),$(OUT)/$(1)/eval-$(defense)-$(4)) --out $(OUT)/$(1)/report
endef

# Layers of settings, later ones win: the dataset's, the architecture's, and those of the pair where it has any.
define pipeline
.PHONY: $(1)-$(2)
$(1)-$(2): INPUT ?= $(RAW)/$(1)
$(1)-$(2): build
	@$$(if $$(filter $(RAW)/%,$$(INPUT)),$(BIN)/gro-preprocess fetch $(1) --to $(RAW))
	@$$(call experiment,$(1)-$(2),$(1),$(foreach file,$(wildcard pipelines/$(1).yaml pipelines/$(2).yaml pipelines/$(1)-$(2).yaml),--config $(file)),$(2))
endef
$(foreach dataset,$(DATASETS),$(foreach architecture,$(ARCHITECTURES),$(eval $(call pipeline,$(dataset),$(architecture)))))

demo: INPUT := $(OUT)/demo/ratings
demo: build ## The whole chain on synthetic ratings, in under two minutes and without a network
	@$(BIN)/gro-preprocess synth --users 600 --items 200 --interactions 24000 --seed 1 --out $(OUT)/demo/ratings
	@$(call experiment,demo,demo,--config pipelines/demo.yaml --config pipelines/bert.yaml,bert)
