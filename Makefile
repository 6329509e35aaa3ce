# Two commands are the whole set-up: make demo, make test.
# SEMFACEDIFF_PYTHON=/path/to/python uses an interpreter that already has the dependencies, instead of a new .venv.

BASE_PYTHON ?= python3
ifdef SEMFACEDIFF_PYTHON
PYTHON := $(SEMFACEDIFF_PYTHON)
READY :=
else
PYTHON := .venv/bin/python
READY := .venv/ready
endif
export PYTHONPATH := src$(if $(PYTHONPATH),:$(PYTHONPATH))

.PHONY: demo test test-more test-slow coverage docs portability setup lock audit lint pictures browser bench gpu-check slurm-check optuna-check

setup: $(READY)

# Every package in a version and with a hash that the lock names; the project itself last, since an editable has no hash.
INSTALL = -m pip install --quiet --disable-pip-version-check --no-compile --require-hashes --no-deps -r
.venv/ready: pyproject.toml requirements.lock
	@$(BASE_PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; set BASE_PYTHON=...") if sys.version_info < (3, 11) else 0'
	$(BASE_PYTHON) -m venv .venv
	.venv/bin/python $(INSTALL) requirements.lock
	.venv/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

# requirements.lock holds core and dev, requirements-extras.lock all extras too, in the same versions; for Python 3.11 to
# 3.13. Versions stay as they are where they can: make lock UPGRADE=--upgrade takes the newest.
LOCK = .tools/bin/uv pip compile pyproject.toml --quiet --universal --fork-strategy fewest --python-version 3.11 --generate-hashes --no-annotate --custom-compile-command 'make lock' $(UPGRADE)
lock: .tools/ready
	$(LOCK) --all-extras -o requirements-extras.lock
	$(LOCK) --extra dev -c requirements-extras.lock -o requirements.lock

# Licences of what is installed, and known vulnerabilities of what is locked.
audit: $(READY) .tools/ready
	$(PYTHON) tests/audit.py .tools/bin/pip-audit

# Programs that need no hashes: they make and check the lock, in an environment of their own.
.tools/ready:
	$(BASE_PYTHON) -m venv .tools
	.tools/bin/python -m pip install --quiet uv pip-audit
	touch $@

# Train a small parser on drawn faces, edit five regions with it, measure, print the table and the report's path.
demo: $(READY)
	$(PYTHON) train_parser.py experiment=demo/parser hydra.run.dir=outputs/demo/parser
	$(PYTHON) evaluate.py experiment=demo/editing parser.checkpoint=outputs/demo/parser hydra.run.dir=outputs/demo/editing
	@$(PYTHON) -m semfacediff.cli report outputs/demo/editing outputs/demo/parser --with-photos --out outputs/demo/report
	@printf '%s\n' '' 'Made on drawn faces: a parser (outputs/demo/parser), its benchmark of edits (outputs/demo/editing),' \
	  'and a page of both (outputs/demo/report/index.html: open it in a browser). Try next:' \
	  '  source .venv/bin/activate' \
	  '  semfacediff tables outputs/demo/editing                   the table, also as LaTeX (--format tex)' \
	  '  semfacediff parse me.jpg                                  label map of your own photo' \
	  '  semfacediff edit me.jpg hair "red hair" --editor recolor  an edit without downloads' \
	  '  semfacediff list experiments                              what else can be run'

# What tests/browser needs: Gradio, Playwright, and a Chromium from the system's packages. Without them those are skipped.
browser: $(READY)
	$(PYTHON) $(INSTALL) requirements-extras.lock
	command -v chromium || command -v chromium-browser || command -v google-chrome || \
	  { timeout 120 apt-get update -qq && DEBIAN_FRONTEND=noninteractive timeout 300 apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core; }

test: $(READY)
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m pytest -n 2

# What make test leaves out: the wheel, the notebook, the site and the commands of the docs; metrics and parsers without torch's AVX kernels.
test-more: $(READY)
	$(PYTHON) -m pytest -n 2 --more -m more
	ATEN_CPU_CAPABILITY=default $(PYTHON) -m pytest -n 2 tests/metrics tests/parsing
	$(PYTHON) -m mypy

# Tests marked slow.
test-slow: $(READY)
	$(PYTHON) -m pytest -n 2 --slow -m slow

# Lines of src/ that the suite runs, in commands that it starts too; under 90 % it fails.
coverage: $(READY)
	$(PYTHON) -m pytest -n 2 --cov --cov-report=term --cov-fail-under=90

# The documentation as a site: site/index.html. Searching it needs a server: $(PYTHON) -m mkdocs serve.
docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs build --strict

# The suite with the instructions of other processors and other numbers of threads, one line each; not quick.
portability: $(READY)
	$(PYTHON) tests/portability.py

# Ours beside the plain way of doing the same, ratios printed; results/benchmarks.json. About ten minutes on two idle cores.
bench: $(READY)
	$(PYTHON) benchmarks/all.py

# The chain at real sizes on an accelerator, under ten minutes; writes outputs/gpu_check. `make gpu-check ARGS=--toy` rehearses it.
gpu-check: $(READY)
	$(PYTHON) -m semfacediff.cli gpu-check $(ARGS)

# Sweeps, shards, lost jobs and training on a Slurm of one node in a temporary folder; a few minutes.
slurm-check: $(READY)
	command -v slurmd && command -v slurmctld && command -v munged && command -v sbatch || \
	  { timeout 120 apt-get update -qq && DEBIAN_FRONTEND=noninteractive timeout 300 apt-get install -y -qq --no-install-recommends munge slurmctld slurmd slurm-client; }
	$(PYTHON) tests/cluster/slurm_check.py

# A search by hydra-optuna-sweeper, which wants older packages, in an environment of its own.
optuna-check: $(READY)
	$(PYTHON) tests/optuna_check.py

lint: $(READY)
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .
	$(PYTHON) -m mypy

# The README's pictures, from the demo's drawn faces and a photo in the public domain; needs what `make browser` installs.
pictures: demo
	$(PYTHON) docs/pictures/draw.py
