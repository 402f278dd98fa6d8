# make demo      train one model on pictures, clips and RGB-D, evaluate it, write a report
#                (about 10 minutes on 2 quiet cores, 17 on busy ones)
# make demo STEPS=500   the same with so many updates, the schedule as long; time goes with STEPS;
#                in a folder of its own, runs/demo-500
# make compare   the same model on each modality alone and with mixed batches; adds the comparison to the report
# make test      the fast tests        make test-all   also the slow ones        make lint   style, types, import rules
# make torch     PyTorch too: its files, and the tests that compare with it

PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin/python
JOBS ?= 2
# A module stays with one worker, so that what it compiles and shares is made once.
SHARE := --dist loadfile --no-loadscope-reorder
STEPS ?=
DEMO := $(if $(STEPS),--config.train.steps=$(STEPS) --workdir=runs/demo-$(STEPS))

.PHONY: env torch demo compare test test-slow test-all lint clean

env: $(VENV)/.ready

$(VENV)/.ready: requirements.txt requirements-dev.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install -q --disable-pip-version-check -r requirements-dev.txt
	touch $@

torch: env requirements-torch.txt
	$(VENV)/bin/pip install -q --disable-pip-version-check -r requirements-torch.txt

demo: env
	$(RUN) -m omnivore_jax.main --config=configs/demo.py $(DEMO)

compare: demo
	$(RUN) -m omnivore_jax.main --config=configs/demo.py:image
	$(RUN) -m omnivore_jax.main --config=configs/demo.py:video
	$(RUN) -m omnivore_jax.main --config=configs/demo.py:rgbd
	$(RUN) -m omnivore_jax.main --config=configs/demo.py:mixed
	$(RUN) -m omnivore_jax.report runs/demo

test: env
	$(RUN) -m pytest -n $(JOBS) $(SHARE) tests

test-slow: env
	$(RUN) -m pytest -n $(JOBS) $(SHARE) -m slow tests

test-all: test test-slow

lint: env
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/pyright
	$(VENV)/bin/lint-imports

clean:
	rm -rf $(VENV) .cache runs
