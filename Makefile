PYTHON ?= python3
SEED ?= 0
# Of `make kills`, `make soak` and `make fuzz`.
N ?= 1000
STEPS ?= 20000
MINUTES ?= 10
# `accelerate launch` gives each process one thread unless it is told otherwise.
THREADS ?= $(or $(OMP_NUM_THREADS),$(shell getconf _NPROCESSORS_ONLN))

BIN := .venv/bin
INSTALLED := .venv/.installed
LAUNCH := $(BIN)/accelerate launch --quiet --num_processes 1 --num_machines 1 --mixed_precision no \
	--dynamo_backend no --num_cpu_threads_per_process $(THREADS)
CONFIGS := recipes/configs/distill
# Of `make sizes`: four of five steps see the student's own size.
SIZES := [24, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 40, 48]
ENGINES := tests/invariants/test_engines.py tests/invariants/test_llava_engines.py
BENCHES := $(sort $(wildcard tests/bench/bench_*.py))

.DEFAULT_GOAL := help
.PHONY: help install demo teachers sizes ablation test test-slow test-engines test-peers test-all check style bench fuzz kills soak clean

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "make %-12s %s\n", $$1, $$2}'

install: $(INSTALLED) ## Create .venv with the tested versions (the other targets do it when needed)

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(INSTALLED) ## Train a teacher, a student alone and a distilled student, and compare them (SEED=0 of the students)
	$(LAUNCH) recipes/distill.py --config $(CONFIGS)/demo_teacher.yaml
	$(LAUNCH) recipes/distill.py --config $(CONFIGS)/demo_baseline.yaml --seed $(SEED)
	$(LAUNCH) recipes/distill.py --config $(CONFIGS)/demo.yaml --seed $(SEED)
	$(BIN)/python recipes/compare.py outputs/demo

teachers: $(INSTALLED) ## Train students alone, from a like teacher, an unlike one and both, on shapes and digits, several seeds (25 minutes)
	$(BIN)/python recipes/write_digits.py
	set -e; for world in shapes digits; do \
		first=demo; seeds="0 1 2"; test $$world = shapes || { first=digits; seeds="0 1 2 3 4 5"; }; \
		for seed in $$seeds; do \
			run="--seed $$seed --output_dir outputs/teachers/$$world"; \
			$(LAUNCH) recipes/distill.py --config $(CONFIGS)/$$first.yaml $$run/alone-$$seed \
				--teacher_model_name_or_path null --losses '{"clip": 1}'; \
			$(LAUNCH) recipes/distill.py --config $(CONFIGS)/$$first.yaml $$run/like-$$seed; \
			$(LAUNCH) recipes/distill.py --config $(CONFIGS)/$${world}_from_48.yaml $$run/unlike-$$seed; \
			$(LAUNCH) recipes/distill.py --config $(CONFIGS)/$${world}_ensemble.yaml $$run/both-$$seed; \
		done; \
		$(BIN)/python recipes/compare.py outputs/teachers/$$world; \
	done

sizes: $(INSTALLED) ## Train students at one image size and at sizes drawn for each step, and score them at four, three seeds (40 minutes)
	set -e; for seed in 0 1 2; do \
		run="--config $(CONFIGS)/demo_large_pictures.yaml --seed $$seed --output_dir outputs/sizes/students"; \
		$(LAUNCH) recipes/distill.py $$run/plain-$$seed; \
		$(LAUNCH) recipes/distill.py $$run/drawn-$$seed --image_sizes '$(SIZES)'; \
	done; \
	for size in 24 32 40 48; do \
		for name in plain-0 plain-1 plain-2 drawn-0 drawn-1 drawn-2; do \
			$(LAUNCH) recipes/evaluate.py --config recipes/configs/evaluate/demo_large_pictures.yaml \
				--model_name_or_path outputs/sizes/students/$$name --image_size $$size \
				--output_dir outputs/sizes/$$size/$$name/results; \
		done; \
		$(BIN)/python recipes/compare.py outputs/sizes/$$size; \
	done

ablation: $(INSTALLED) ## Train a student under every objective and write the table of their scores (one to two hours)
	$(BIN)/python recipes/study.py --config recipes/configs/study/ablation.yaml
	$(BIN)/python recipes/maintenance/ablation_table.py --write
	$(BIN)/python recipes/maintenance/model_cards.py --report outputs/study/ablation

test: $(INSTALLED) ## Run the fast tests, without the network
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile

test-slow: $(INSTALLED) ## Run the slow tests, or one of N parts of them: PART=1/20
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -m slow $(addprefix --part=,$(PART))

test-engines: $(INSTALLED) ## Run the slow tests of DDP, ZeRO 1 to 3 and FSDP 2 on several processes
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -m slow -n 2 --dist loadfile $(ENGINES)

test-peers: $(INSTALLED) ## Run the slow tests against transformers, open_clip, lmms-eval and CLIP_benchmark (pip fetches theirs once)
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -m '' -n 2 tests/peers

test-all: $(INSTALLED) ## Run every test, the slow ones too
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -m ''

fuzz: $(INSTALLED) ## Damage files of every kind by chance and read them (MINUTES=10 SEED=0)
	$(BIN)/python tests/fuzz/fuzz.py --minutes $(MINUTES) --seed $(SEED)

check: $(INSTALLED) ## Check style and formatting, change nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

style: $(INSTALLED) ## Fix style and formatting
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(INSTALLED) ## Run every benchmark, also after one that fails, and print the table of those with a peer
	@failed=; for script in $(BENCHES) recipes/maintenance/speed_table.py; do \
		$(BIN)/python $$script || failed="$$failed $$script"; \
	done; test -z "$$failed" || { echo "These failed:$$failed"; exit 1; }

kills: $(INSTALLED) ## Kill trainings and recipes N=1000 times, and compare what comes of them (an hour on two cores)
	PYTHONPATH=.:tests/helpers $(BIN)/python tests/survival/kills.py --kills $(N)

soak: $(INSTALLED) ## Train STEPS=20000 steps, and watch memory, files and time of a step (half an hour)
	PYTHONPATH=.:tests/helpers OMP_NUM_THREADS=1 $(BIN)/python tests/survival/soak.py --steps $(STEPS)

clean: ## Remove .venv, caches and build products; outputs/ stays
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache
	find hf_clip_kd recipes tests -name __pycache__ -type d -prune -exec rm -rf {} +
