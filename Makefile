# Everything runs in .venv, made on first use; later runs skip what is done.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
DEMO_DATA := .venv/.demo-data
NATIVE := $(wildcard kernels/cpp/*.cpp kernels/cpp/*.h)

.PHONY: test lint demo format clean

test: $(INSTALLED) $(DEMO_DATA)
	$(BIN)/python -m pytest

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

demo: $(INSTALLED) $(DEMO_DATA)
	$(BIN)/letter-fast demo

$(INSTALLED): pyproject.toml setup.py constraints.txt $(NATIVE)
	@$(PYTHON) -c 'import sys; sys.exit("letter-fast needs Python 3.10 or newer, this is " + sys.version.split()[0] if sys.version_info < (3, 10) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

# MovieLens-100k travels in the recbole wheel; only its data files are read, so its dependencies are not installed.
$(DEMO_DATA): $(INSTALLED)
	$(BIN)/python -m pip install --quiet --no-deps recbole==1.2.1
	@touch $@

clean:
	rm -rf .venv build *.egg-info kernels/cpp/*.so demo-output
