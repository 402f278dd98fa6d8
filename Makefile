# make demo      train one model on pictures, clips and RGB-D, evaluate it, write a report
#                (about 10 minutes on 2 quiet cores, 17 on busy ones)
# make demo STEPS=500   the same with so many updates, the schedule as long; time goes with STEPS;
#                in a folder of its own, runs/demo-500
# make compare   the same model on each modality alone and with mixed batches; adds the comparison to the report
# make ablate    the paper's Table 8, small: from other weights, ratios, mixed batches, one convolution for RGB-D, no
#                RGB drop, each 1,500 steps (STEPS=...); runs/ablate/report.html lays them over one another
# make test      the fast tests        make test-all   also the slow ones        make lint   style, types, import rules
# make torch     PyTorch too: its files, and the tests that compare with it
# make cloud     what speaks to buckets (gs://, s3://) too, and servers of this machine for their tests
# make scenes    trimesh and VTK too: meshes and point clouds, and their tests

PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin/python
JOBS ?= 2
# A module stays with one worker, so that what it compiles and shares is made once.
SHARE := --dist loadfile --no-loadscope-reorder
STEPS ?=
DEMO := $(if $(STEPS),--config.train.steps=$(STEPS) --workdir=runs/demo-$(STEPS))

ABLATE := --workdir=runs/ablate
ABLATE_STEPS := --config.train.steps=$(or $(STEPS),1500) --config.eval.retrieval=0

.PHONY: env torch cloud scenes demo ablate compare test test-slow test-all lint clean

env: $(VENV)/.ready

$(VENV)/.ready: requirements.txt requirements-dev.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install -q --disable-pip-version-check -r requirements-dev.txt
	touch $@

torch: env requirements-torch.txt
	$(VENV)/bin/pip install -q --disable-pip-version-check -r requirements-torch.txt

cloud: env requirements-cloud.txt requirements-cloud-dev.txt
	$(VENV)/bin/pip install -q --disable-pip-version-check -r requirements-cloud-dev.txt

scenes: env requirements-scenes.txt
	$(VENV)/bin/pip install -q --disable-pip-version-check -r requirements-scenes.txt

demo: env
	$(RUN) -m omnivore_jax.main --config=configs/demo.py $(DEMO)

ablate: env
	$(RUN) -m omnivore_jax.main --config=configs/demo.py:image $(ABLATE_STEPS) $(ABLATE)-start --config.name=start
	$(RUN) -m omnivore_jax.main --config=configs/demo.py $(ABLATE_STEPS) $(ABLATE) --config.name=scratch
	$(RUN) -m omnivore_jax.main --config=configs/demo.py $(ABLATE_STEPS) $(ABLATE)-finetuned --config.name=finetuned \
		--config.init_from=runs/ablate-start
	$(RUN) -m omnivore_jax.main --config=configs/demo.py $(ABLATE_STEPS) $(ABLATE)-ratio_third --config.name=ratio_third \
		--config.data.demo_rgbd.ratio=0.33
	$(RUN) -m omnivore_jax.main --config=configs/demo.py $(ABLATE_STEPS) $(ABLATE)-ratio_triple --config.name=ratio_triple \
		--config.data.demo_rgbd.ratio=3.0
	$(RUN) -m omnivore_jax.main --config=configs/demo.py:mixed $(ABLATE_STEPS) $(ABLATE)-mixed --config.name=mixed
	$(RUN) -m omnivore_jax.main --config=configs/demo.py $(ABLATE_STEPS) $(ABLATE)-rgbd_conv --config.name=rgbd_conv \
		--config.model.depth_embed=separate
	$(RUN) -m omnivore_jax.main --config=configs/demo.py $(ABLATE_STEPS) $(ABLATE)-no_rgb_drop --config.name=no_rgb_drop \
		--config.data.demo_rgbd.rgb_drop=0.0
	$(RUN) -m omnivore_jax.report runs/ablate

compare: demo
	$(RUN) -m omnivore_jax.main --config=configs/demo.py:image
	$(RUN) -m omnivore_jax.main --config=configs/demo.py:video
	$(RUN) -m omnivore_jax.main --config=configs/demo.py:rgbd
	$(RUN) -m omnivore_jax.main --config=configs/demo.py:mixed
	$(RUN) -m omnivore_jax.report runs/demo

test: env
	$(RUN) -m pytest -n $(JOBS) $(SHARE) tests

test-slow: env
	$(RUN) -m pytest -n $(JOBS) $(SHARE) -m slow -rs --durations=25 tests

test-all: test test-slow

lint: env
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/pyright
	$(VENV)/bin/lint-imports

clean:
	rm -rf $(VENV) .cache runs
