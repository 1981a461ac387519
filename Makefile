# The experiment, end to end. `make help` lists what there is; every stage skips what is up to date.

DATASETS      := demo ml-100k ml-1m ml-20m steam beauty
ARCHITECTURES := bert sas narm
DEFENSES      := none random reverse gro

CARGO    ?= cargo
FEATURES ?=
FLAGS    ?=
RESUME   ?=
OUT      ?= out
RAW      ?= data/raw
FILTER   ?=
BIN      := target/release
STAGES   := -p preprocess -p train -p defend -p attack -p evaluate

comma := ,
space := $() $()

.DEFAULT_GOAL := help
.PHONY: help build test lint doc cuda cuda-check cuda-cargo sanitize bench bench-operations demo clean

help: ## This list
	@printf 'The experiment:\n'
	@printf '  %-20s %s\n' 'DATASET-ARCHITECTURE' 'fetch, preprocess, train, defend, attack, evaluate, report; for example make ml-100k-bert'
	@printf '  %-20s %s\n' 'grid-DATASET' 'all targets x all surrogates x all defences, and one report'
	@printf '  %-20s %s\n' '' 'datasets: $(DATASETS); architectures: $(ARCHITECTURES)'
	@printf '  %-20s %s\n' '' 'INPUT=PATH takes ratings from there; FLAGS="--set train.epochs=50" goes to every stage'
	@printf '  %-20s %s\n' '' 'RESUME=--resume goes on where an interrupted make was'
	@printf '  %-20s %s\n' '' 'FLAGS="--set seeds=[1,2,3] --set surrogates=[bert,sas]" repeats it and widens its table'
	@printf 'And:\n'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-20s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## The five binaries, in target/release; FEATURES=cuda for NVIDIA GPUs
	@$(if $(filter cuda,$(FEATURES)),$(MAKE) --no-print-directory cuda,$(CARGO) build --release --locked --quiet $(STAGES))

test: lint ## Everything CI checks: format, lints, tests, documentation
	$(CARGO) test --release --locked --workspace
	GRO_KERNELS=plain $(CARGO) test --release --locked --workspace --test parity
	$(MAKE) --no-print-directory doc

lint: ## Format and lints
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --locked --workspace --all-targets -- -D warnings

doc: ## The documentation of all crates, in target/doc
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --release --locked --workspace --no-deps --document-private-items

# A command of cargo with a CUDA toolkit: the machine's, or the compiler of the Python registry. Link-time optimisation leaves out
# the kernels of candle that nothing here calls, most of the binary. Built for this machine's GPU, or 9.0 (H100) where there is none;
# what is built for one compute capability runs on later ones.
with_cuda = home=$$(bench/cuda-toolkit.sh) && \
  here=$$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2> /dev/null | head -n 1 | tr -d .) && \
  CUDA_HOME=$$home CUDA_PATH=$$home CUDA_COMPUTE_CAP=$${CUDA_COMPUTE_CAP:-$${here:-90}} PATH=$$home/bin:$$PATH \
  CARGO_PROFILE_RELEASE_LTO=thin CARGO_PROFILE_RELEASE_STRIP=true CARGO_PROFILE_RELEASE_DEBUG=false $(CARGO)

cuda: ## The five binaries, for NVIDIA GPUs; fetches NVIDIA's compiler where there is none, and takes a quarter of an hour
	@$(with_cuda) build --release --locked --features train/cuda,defend/cuda,attack/cuda,evaluate/cuda $(STAGES)

cuda-check: ## Type-check of the same, and of its tests and benchmarks
	@$(with_cuda) check --release --locked --features train/cuda,defend/cuda,attack/cuda,evaluate/cuda $(STAGES)
	@$(with_cuda) clippy --release --locked --features kernels/cuda,benchmarks/cuda -p kernels -p benchmarks --all-targets -- -D warnings

# For bench/cuda.sh: ARGUMENTS is a command of cargo's with its own.
cuda-cargo:
	@$(with_cuda) $(firstword $(ARGUMENTS)) $(if $(filter test,$(firstword $(ARGUMENTS))),--release) --locked $(wordlist 2,99,$(ARGUMENTS))

SANITIZED := target/sanitized

sanitize: ## The kernels, where the unsafe code is, under AddressSanitizer and Miri; takes nightly Rust with miri and rust-src
	RUSTFLAGS=-Zsanitizer=address CARGO_TARGET_DIR=$(SANITIZED) \
	  $(CARGO) +nightly test --release --locked -p kernels --lib --target $$(rustc --print host-tuple)
	CANDLE_NUM_THREADS=1 MIRIFLAGS='-Zmiri-tree-borrows -Zmiri-ignore-leaks -Zmiri-disable-isolation -Zmiri-deterministic-floats' \
	  CARGO_TARGET_DIR=$(SANITIZED) $(CARGO) +nightly miri test --locked -p kernels --lib -- chunks activation::tests::gradients

bench: ## Time and memory of the stages, to target/bench.json; FILTER=gro/ for a part, FILTER=--quick for a first look
	$(CARGO) bench --locked --workspace $(if $(FEATURES),--features $(FEATURES)) --bench suite -- $(if $(FILTER),'$(FILTER)')

bench-operations: ## Time of each tensor operation, fused and plain; FILTER=attention for a part
	$(CARGO) bench --locked --workspace --bench operations -- $(if $(FILTER),'$(FILTER)')

clean: ## Remove results; fetched data and builds stay
	rm -rf $(OUT)

# $(call data,DATASET,SETTINGS): ratings to dataset, shared by all that follows. SETTINGS are the --config flags.
data = $(BIN)/gro-preprocess run $(2) $(FLAGS) --input $(INPUT) --out $(OUT)/$(1)/data

# $(call chain,NAME,DATASET,SETTINGS,ARCHITECTURE): train to evaluate, for every seed and surrogate that the settings
# name; adds the evaluated runs to the shell's $$runs. One shell command, for the lists are known only when it runs.
define chain
seeds=$$($(BIN)/gro-evaluate settings $(3) $(FLAGS) --get seeds) && \
surrogates=$$($(BIN)/gro-evaluate settings $(3) $(FLAGS) --get surrogates) && \
share=$$($(BIN)/gro-evaluate settings $(3) $(FLAGS) --get generate.seed_sequences) || exit; \
case $$share in 0|0.0) owned= ;; *) owned="--seeds $(OUT)/$(2)/data" ;; esac; \
for seed in $${seeds:-one}; do \
  case $$seed in \
    one) out=$(OUT)/$(1) seeded= ;; \
    *) out=$(OUT)/$(1)/seed-$$seed seeded="--seed $$seed" ;; \
  esac; \
  $(BIN)/gro-train $(3) $(FLAGS) $(RESUME) $$seeded --data $(OUT)/$(2)/data --out $$out/target || exit; \
  for defense in $(DEFENSES); do \
    $(BIN)/gro-defend $(3) $(FLAGS) $(RESUME) $$seeded --data $(OUT)/$(2)/data --target $$out/target --method $$defense --out $$out/protected-$$defense && \
    $(BIN)/gro-attack generate $(3) $(FLAGS) $(RESUME) $$seeded $$owned --target $$out/protected-$$defense --out $$out/queries-$$defense || exit; \
    for surrogate in $${surrogates:-$(4)}; do \
      $(BIN)/gro-attack distill $(3) $(FLAGS) $(RESUME) $$seeded --queries $$out/queries-$$defense --surrogate $$surrogate --out $$out/surrogate-$$defense-$$surrogate && \
      $(BIN)/gro-evaluate run $(3) $(FLAGS) $$seeded --data $(OUT)/$(2)/data --target $$out/protected-$$defense --surrogate $$out/surrogate-$$defense-$$surrogate --out $$out/eval-$$defense-$$surrogate || exit; \
      runs="$$runs $$out/eval-$$defense-$$surrogate"; \
    done; \
  done; \
done
endef

# $(call experiment,NAME,DATASET,SETTINGS,ARCHITECTURE): every stage in order, and the report.
define experiment
$(call data,$(2),$(3))
runs=; $(call chain,$(1),$(2),$(3),$(4)); \
$(BIN)/gro-evaluate report $(FLAGS) --runs $$runs --out $(OUT)/$(1)/report
endef

# $(call layers,DATASET,ARCHITECTURE): later ones win: the dataset's, the architecture's, those of the pair if it has any.
layers = $(foreach file,$(wildcard pipelines/$(1).yaml pipelines/$(2).yaml pipelines/$(1)-$(2).yaml),--config $(file))

# $(call fetch,DATASET): only where INPUT was left at what fetch makes. The ratings of the demo are made up.
fetch = $(if $(filter $(RAW)/%,$(INPUT)),$(if $(filter demo,$(1)),$(synth),$(BIN)/gro-preprocess fetch $(1) --to $(RAW)))
synth = $(BIN)/gro-preprocess synth --users 600 --items 200 --interactions 24000 --seed 1 --out $(RAW)/demo

define pipeline
.PHONY: $(1)-$(2)
$(1)-$(2): INPUT ?= $(RAW)/$(1)
$(1)-$(2): build pipelines/$(2).yaml
	@$$(call fetch,$(1))
	@$$(call experiment,$(1)-$(2),$(1),$$(call layers,$(1),$(2)),$(2))
endef
$(foreach dataset,$(DATASETS),$(foreach architecture,$(ARCHITECTURES),$(eval $(call pipeline,$(dataset),$(architecture)))))

# All surrogates, unless the command line names some; a surrogates list in a file gives way.
every := --set surrogates=[$(subst $(space),$(comma),$(ARCHITECTURES))]

define grid
.PHONY: grid-$(1)
grid-$(1): INPUT ?= $(RAW)/$(1)
grid-$(1): build $(ARCHITECTURES:%=pipelines/%.yaml)
	@$$(call fetch,$(1))
	@$$(call data,$(1),$$(call layers,$(1)))
	@runs=; $(foreach architecture,$(ARCHITECTURES),$$(call chain,$(1)-$(architecture),$(1),$$(call layers,$(1),$(architecture)) $$(every),$(architecture));) \
	$(BIN)/gro-evaluate report $(FLAGS) --runs $$$$runs --out $(OUT)/$(1)-grid/report
endef
$(foreach dataset,$(DATASETS),$(eval $(call grid,$(dataset))))

demo: demo-bert ## The whole chain on synthetic ratings, in under two minutes and without a network
