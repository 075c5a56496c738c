PYTHON ?= python3
BIN := .venv/bin

# The miniature with its three processes sharing one GPU, where the GPU stack is installed: its vLLM has no CPU engine.
ON_ONE_GPU := learner.ranks=1 learner.gpus_per_rank=0.4 limits.logprob_gap_max=0.01 limits.logprob_gap_mean=0.001 \
	rollout.fleet.gpus_per_server=0.3 rollout.fleet.gpu_memory_share=0.2 \
	judge.fleet.gpus_per_server=0.3 judge.fleet.gpu_memory_share=0.2

# What starts Ray, vLLM or DeepSpeed takes both cores by itself; the rest goes two files at a time.
FAST := $(BIN)/pytest -n 2 --dist loadfile -m "not stack and not long and not cluster and not serving"

.PHONY: install demo test test-long test-cluster test-serving objectives lint clean

install:
	@$(PYTHON) constraints/install.py

demo: install
	@$(BIN)/orchestrate train rlvr $(if $(filter gpu,$(shell cat .venv/stack)),$(ON_ONE_GPU))

lint: install
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

test: lint
	@$(FAST)
	@$(BIN)/pytest -m "stack and not long and not cluster and not serving"

# A whole run that is interrupted, resumed and compared bit by bit with an undisturbed one, and what else takes minutes.
test-long: install
	@$(BIN)/pytest -m long

# A Ray cluster of several hosts in network namespaces; a run on it that loses one of them. Needs root and iproute2.
test-cluster: install
	@$(BIN)/pytest -m cluster -rs

# A policy that rolls over under streams, its judge, LoRA adapters and a reward model behind Ray Serve LLM; about twenty minutes.
test-serving: install
	@$(BIN)/pytest -m serving

# The miniature with every objective, 25 steps each; about two minutes an objective on two cores.
objectives: install
	@$(BIN)/python tests/benchmarks/objectives.py

# Leaves runs/, which holds results.
clean:
	rm -rf .venv build *.egg-info
