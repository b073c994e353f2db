# SPDX-License-Identifier: MIT
#
# Builds outbox, tests it and checks it. `make help` lists the targets; needs GNU make 4.3.
#
#   make CC=clang BUILD=build/clang       another compiler, a folder of its own
#   make SANITIZE=thread                  another build of everything, in build/tsan
#   make SQLITE_LIBS='-L/x -lsqlite3'        another SQLite than the system's
#   make NO_DEPS=1                        installs nothing; the libraries come from elsewhere
#   make CROSS_COMPILE=arm-linux-gnueabihf- SYSROOT=/x BUILD=build/board     for another machine
#   make V=1                              shows each command in full
#
# Everything that is made goes to $(BUILD), whose object folders mirror the source folders.

SHELL := /bin/bash
.DELETE_ON_ERROR:
.SUFFIXES:

CROSS_COMPILE ?=
SYSROOT ?=
ifeq ($(origin CC),default)
CC := $(CROSS_COMPILE)gcc
endif
ifeq ($(origin AR),default)
AR := $(CROSS_COMPILE)ar
endif
NM ?= $(CROSS_COMPILE)nm
CFLAGS ?= -O2 -g
SANITIZE ?=
Q := $(if $(V),,@)
BUILD ?= build$(if $(SANITIZE),/$(if $(findstring thread,$(SANITIZE)),tsan,asan))

# ---- Flags ---------------------------------------------------------------------------------------

WARNINGS := -Wall -Wextra -Werror -Wpedantic -Wshadow -Wconversion -Wsign-conversion \
            -Wstrict-prototypes -Wmissing-prototypes -Wcast-qual -Wwrite-strings -Wundef \
            -Wformat=2 -Wvla
IN_SYSROOT := $(addprefix --sysroot=,$(SYSROOT))
# Times behind 2038 and large files on 32-bit machines, too.
WIDE := -D_FILE_OFFSET_BITS=64 -D_TIME_BITS=64
ALL_CFLAGS = -std=c11 -fPIC $(WIDE) $(WARNINGS) $(IN_SYSROOT) $(CFLAGS) $(SANITIZER)
LINK = $(CC) $(IN_SYSROOT) $(CFLAGS) $(SANITIZER) $(LDFLAGS)
# Another SQLite, to build and test with: SQLITE_LIBS='-L/where/it/is -Wl,-rpath,/where/it/is -lsqlite3'.
SQLITE_LIBS ?= -lsqlite3
LIBS := -lpaho-mqtt3as -lssl -lcrypto $(SQLITE_LIBS) -pthread

ifneq ($(SANITIZE),)
SANITIZER := -fsanitize=$(SANITIZE) -fno-sanitize-recover=all -fno-omit-frame-pointer
else
NO_UNDEFINED := -Wl,-z,defs # a sanitizer's own symbols stay open in a shared library
endif

# ---- Sources -------------------------------------------------------------------------------------
# The core knows SQLite and C only. Ports, command and examples know the core by its public headers.

HEADERS   := $(wildcard include/outbox/*.h)
CORE      := $(wildcard src/*.c)
WITHOUT   := $(wildcard src/without/*.c)
PORT      := $(wildcard ports/linux/*.c)
FLASH     := $(wildcard ports/cortex_m/flash_*.c) ports/cortex_m/heap.c
BOARD     := $(filter-out $(FLASH),$(wildcard ports/cortex_m/*.c))
CLI       := $(wildcard src/cli/*.c)
EXTENSION := $(wildcard src/extension/*.c)
EXAMPLES  := $(wildcard examples/*.c)
TESTS     := $(wildcard tests/unit/test_*.c tests/integration/test_*.c)
HELPERS   := $(filter-out $(TESTS),$(wildcard tests/unit/*.c tests/integration/*.c))
BENCHES   := $(wildcard tests/bench/*.c)
SIM       := $(wildcard tests/sim/*.c)
FAULTS    := $(wildcard tests/faults/*.c)
FUZZERS   := $(wildcard tests/fuzz/fuzz_*.c)
FIRMWARE  := $(wildcard tests/firmware/*.c)
CONFORMANCE := $(wildcard tests/conformance/*.c)
PRODUCT   := $(CORE) $(WITHOUT) $(PORT) $(FLASH) $(CLI) $(EXTENSION) $(EXAMPLES)
TESTING   := $(TESTS) $(HELPERS) $(BENCHES) $(SIM) $(FAULTS) $(FUZZERS) $(FIRMWARE) $(CONFORMANCE) \
             tests/fuzz/fuzz.c
FORMATTED := $(PRODUCT) $(BOARD) $(TESTING) $(HEADERS) $(wildcard tests/cross/*.c) \
             $(wildcard $(foreach d,src src/cli src/extension ports/* examples tests tests/*,$(d)/*.h))

objects = $(patsubst %.c,$(BUILD)/%.o,$(1))
programs = $(patsubst %.c,$(BUILD)/%,$(1))

flags_of = -Iinclude $(if $(filter $(CORE) $(WITHOUT) $(EXTENSION),$(1)),-Isrc,-D_GNU_SOURCE -pthread) \
           $(if $(filter tests/%,$(1)),-Isrc -Iports/linux -Iports -Itests)

# ---- Libraries, command, examples ----------------------------------------------------------------

.PHONY: all
all: $(BUILD)/liboutbox.a $(BUILD)/liboutbox.so $(BUILD)/outbox.so $(if $(CLI),$(BUILD)/outbox) ## build the libraries and the command (default)

$(BUILD)/%.o: %.c Makefile | deps-build
	@mkdir -p $(@D)
	@echo '  CC    $<'
	$(Q)$(CC) $(ALL_CFLAGS) $(call flags_of,$<) $(CPPFLAGS) -MMD -MP -c -o $@ $<

$(BUILD)/liboutbox.a: $(call objects,$(CORE) $(PORT)) | deps-build
	@echo '  AR    $@'
	@mkdir -p $(@D); rm -f $@
	$(Q)$(AR) qcs $@ $(filter %.o,$^) # q: two folders may have a file of the same name

# What the public headers declare is exported, and nothing else.
$(BUILD)/exports.map: $(HEADERS) Makefile | deps-build
	@mkdir -p $(@D)
	@names=$$(cat $(HEADERS) | $(CC) $(IN_SYSROOT) -Iinclude -E -P -x c - | \
	  grep -oE '\<(in|out)box_[a-z0-9_]+ ?\([^*]' | sed -E 's/ ?\(.*/;/' | sort -u); \
	printf '{ global:\n%s\nlocal: *; };\n' "$$names" > $@

$(BUILD)/liboutbox.so: $(call objects,$(CORE) $(PORT)) $(BUILD)/exports.map
	@echo '  LINK  $@'
	$(Q)$(LINK) -shared -Wl,-soname,$(@F).0 -Wl,--version-script=$(BUILD)/exports.map $(NO_UNDEFINED) \
	  -o $@ $(filter %.o,$^) $(LIBS)
	@ln -sf $(@F) $@.0

# The loadable extension is the core compiled once more: it reaches the SQLite that loads it through
# the table that this hands over, and links none.
$(BUILD)/loadable/%.o: %.c Makefile | deps-build
	@mkdir -p $(@D)
	@echo '  CC    $< (loadable)'
	$(Q)$(CC) $(ALL_CFLAGS) -fvisibility=hidden -include src/extension/loadable.h $(call flags_of,$<) \
	  $(CPPFLAGS) -MMD -MP -c -o $@ $<

$(BUILD)/outbox.so: $(patsubst %.c,$(BUILD)/loadable/%.o,$(CORE) $(EXTENSION))
	@echo '  LINK  $@'
	$(Q)$(LINK) -shared $(NO_UNDEFINED) -o $@ $^

$(BUILD)/outbox: $(call objects,$(CLI)) $(BUILD)/liboutbox.a
	@echo '  LINK  $@'
	$(Q)$(LINK) -o $@ $^ $(LIBS)

.PHONY: examples
examples: $(call programs,$(EXAMPLES)) ## build the examples

$(call programs,$(EXAMPLES)): %: %.o $(BUILD)/liboutbox.a
	@echo '  LINK  $@'
	$(Q)$(LINK) -o $@ $^ $(LIBS)

.PHONY: demo
demo: deps all examples ## a sensor, a broker that dies, a kill -9: watch that nothing is lost
	@BUILD=$(BUILD) bash examples/demo.sh

# ---- Tests ---------------------------------------------------------------------------------------

# What has one thread has nothing for TSan to see.
UNIT_TESTS        := $(call programs,$(if $(findstring thread,$(SANITIZE)), \
                       $(shell grep -l pthread tests/unit/test_*.c),$(filter tests/unit/%,$(TESTS))))
INTEGRATION_TESTS := $(filter $(BUILD)/tests/integration/%,$(call programs,$(TESTS)))
UNIT_SCRIPTS        := $(wildcard tests/unit/test_*.sh)
INTEGRATION_SCRIPTS := $(wildcard tests/integration/test_*.sh)
# Every schedule once more under ASan is the same code for a quarter of an hour.
SIM_SCRIPTS := $(if $(findstring thread,$(SANITIZE)),,$(filter-out $(if $(SANITIZE),%/test_enumerate.sh), \
                 $(wildcard tests/sim/test_*.sh tests/faults/test_*.sh)))
SEEDS       ?= 500
CHECKS            := tests/check_symbols.sh tests/check_promises.sh tests/check_amalgamation.sh

# Helpers go through an archive, so that a test takes only those that it uses.
$(BUILD)/tests/unit/libhelpers.a: $(call objects,$(filter tests/unit/%,$(HELPERS)) $(CONFORMANCE) \
                                                 tests/firmware/nor_sim.c)
$(BUILD)/tests/integration/libhelpers.a: $(call objects,$(filter tests/integration/%,$(HELPERS)) $(CONFORMANCE))
$(BUILD)/tests/%/libhelpers.a: | deps
	@mkdir -p $(@D); rm -f $@
	$(Q)$(AR) qcs $@ $(filter %.o,$^)

$(call objects,$(TESTING)): | deps
$(UNIT_TESTS): $(BUILD)/tests/unit/libhelpers.a
$(INTEGRATION_TESTS) $(call programs,$(BENCHES)): $(BUILD)/tests/integration/libhelpers.a
$(call programs,$(TESTS) $(BENCHES)): %: %.o $(BUILD)/liboutbox.a
	@echo '  LINK  $@'
	$(Q)$(LINK) -o $@ $< $(filter %/libhelpers.a,$^) $(BUILD)/liboutbox.a -lcmocka $(LIBS)

# ---- The core as one file --------------------------------------------------------------------------

include ports/amalgamation/amalgamation.mk

# ---- Tests on simulated flash --------------------------------------------------------------------
# They need SQLite as the firmware has it, so it is built for this machine in the same way.

FLASH_TESTS := $(call programs,$(wildcard tests/firmware/test_*.c) tests/firmware/sweep.c)
FLASH_RUNS  := $(if $(findstring thread,$(SANITIZE)),,$(filter-out %/sweep,$(FLASH_TESTS)) \
               $(wildcard tests/firmware/test_*.sh))
FLASH_SQLITE := $(BUILD)/firmware/sqlite
SQLITE_OPTIONS := $(addprefix -D,$(shell sed -n '/^SQLITE_/p' ports/cortex_m/sqlite/options))

# The lock file pins the package, the sums pin the two files that are taken from it. Nothing of the
# package is run.
$(FLASH_SQLITE)/sqlite3.c: $(addprefix ports/cortex_m/sqlite/,package.json package-lock.json sha256) | deps-npm
	@mkdir -p $(@D)
	@echo '  NPM   $@'
	$(Q)cp $^ $(@D) && cd $(@D) && \
	  npm ci --ignore-scripts --no-audit --no-fund --no-update-notifier --loglevel=error >/dev/null && \
	  cp node_modules/better-sqlite3/deps/sqlite3/sqlite3.h node_modules/better-sqlite3/deps/sqlite3/sqlite3.c . && \
	  sha256sum --quiet --check sha256 && rm -rf node_modules
	@touch $@

$(FLASH_SQLITE)/sqlite3.o: $(FLASH_SQLITE)/sqlite3.c ports/cortex_m/sqlite/options
	@echo '  CC    $<'
	$(Q)$(CC) -O1 -g -w -fPIC $(SQLITE_OPTIONS) -c -o $@ $<

$(FLASH_TESTS): %: %.o $(call objects,$(FLASH) tests/firmware/device.c tests/firmware/nor_sim.c) \
                $(FLASH_SQLITE)/sqlite3.o $(BUILD)/liboutbox.a
	@echo '  LINK  $@'
	$(Q)$(LINK) -o $@ $(filter %.o,$^) $(BUILD)/liboutbox.a -lcmocka -lm

.PHONY: flash-sweep
flash-sweep: deps $(BUILD)/tests/firmware/sweep ## cut the power at every operation of the flash, twice each
	@$(BUILD)/tests/firmware/sweep

# TSan of gcc 12 and clang 14 cannot live with the address randomisation of newer kernels.
FIXED_ADDRESSES = $(if $(findstring thread,$(SANITIZE)),$(shell setarch -R true 2>&- && echo setarch -R))
RUN = @BUILD=$(BUILD) CC='$(CC)' NM='$(NM)' $(if $(EMULATOR),EMULATOR='$(EMULATOR)' SYSROOT='$(SYSROOT)' CROSS_COMPILE='$(CROSS_COMPILE)') FLAGS='$(CFLAGS) $(SANITIZER)' \
  ASAN_OPTIONS=detect_leaks=1:detect_stack_use_after_return=1 UBSAN_OPTIONS=print_stacktrace=1 \
  $(addprefix LSAN_OPTIONS=print_suppressions=0:suppressions=$(CURDIR)/,$(wildcard tests/lsan.supp)) \
  TSAN_OPTIONS=second_deadlock_stack=1$(addprefix :suppressions=$(CURDIR)/,$(wildcard tests/tsan.supp)) \
  $(FIXED_ADDRESSES) bash tests/run.sh

# Over the stream link all over again what is about the link, and what a broker may do to it; under a
# sanitizer only the former. `make test-stream` runs everything over it.
OVER_STREAM := link link_end link_peer link_process wire tls delivery \
               $(if $(SANITIZE),,refusals restart start poison_real polite)
OTHER_LINK := $(addsuffix @stream,$(filter $(addprefix $(BUILD)/tests/integration/test_,$(OVER_STREAM)), \
                                           $(INTEGRATION_TESTS)))

.PHONY: test test-unit test-integration test-stream test-flash
test: deps all examples $(UNIT_TESTS) $(INTEGRATION_TESTS) $(FLASH_TESTS) $(BUILD)/sim $(BUILD)/faults ## run all tests
	$(RUN) $(UNIT_TESTS) $(UNIT_SCRIPTS) $(CHECKS) $(FLASH_RUNS) $(SIM_SCRIPTS) $(INTEGRATION_TESTS) \
	  $(OTHER_LINK) $(INTEGRATION_SCRIPTS)

test-flash: deps all $(FLASH_TESTS) ## run the tests on simulated flash: power cuts, wear, failures
	$(RUN) $(FLASH_RUNS)

test-unit: deps all $(UNIT_TESTS) ## run the unit tests: no broker, no clock, seconds
	$(RUN) $(UNIT_TESTS) $(UNIT_SCRIPTS)

test-integration: deps all examples $(INTEGRATION_TESTS) ## run the tests against real brokers
	$(RUN) $(INTEGRATION_TESTS) $(OTHER_LINK) $(INTEGRATION_SCRIPTS)

test-stream: deps all examples $(INTEGRATION_TESTS) ## run all of these over the stream link
	$(RUN) $(addsuffix @stream,$(INTEGRATION_TESTS))

# ---- For other machines ----------------------------------------------------------------------------

include ports/linux/cross/cross.mk

# ---- Node and a current SQLite ---------------------------------------------------------------------

# The npm package better-sqlite3 brings the source of a current SQLite. Nothing else needs it; where it
# is not compiled, the test of the loadable extension leaves Node out.
NPM_SQLITE := $(BUILD)/node/node_modules/better-sqlite3/deps/sqlite3/sqlite3.c
CURRENT    := $(BUILD)/sqlite/libsqlite3.so.0

.PHONY: npm test-current
npm: ## compile better-sqlite3 for the tests from Node
	bash tests/integration/node/install.sh $(BUILD)/node addon

$(NPM_SQLITE): tests/integration/node/package-lock.json
	bash tests/integration/node/install.sh $(BUILD)/node
	@touch $@

$(CURRENT): $(NPM_SQLITE)
	@mkdir -p $(@D)
	$(Q)$(CC) -O2 -fPIC -shared -Wl,-soname,$(@F) -DSQLITE_ENABLE_FTS5 -DSQLITE_ENABLE_COLUMN_METADATA \
	  -o $@ $< -lm -ldl -pthread

test-current: deps $(UNIT_TESTS) $(CURRENT) ## run the tests of captures on a current SQLite
	@for test in $(filter %test_capture %test_capture_traps,$(UNIT_TESTS)); do \
	  LD_LIBRARY_PATH=$(dir $(CURRENT)) $$test || exit; done

# ---- Firmware --------------------------------------------------------------------------------------

include ports/cortex_m/firmware.mk

# ---- Fuzzing -------------------------------------------------------------------------------------

FUZZ_SECONDS ?= 60
.PHONY: fuzz fuzz-run
fuzz: deps-lint ## run each fuzz target for FUZZ_SECONDS=60; always with clang
	$(Q)$(MAKE) --no-print-directory CC=clang BUILD=$(BUILD)/fuzz SANITIZE=address,undefined \
	  CFLAGS='-O1 -g -fsanitize=fuzzer-no-link' fuzz-run

fuzz-run: $(call programs,$(FUZZERS))
	@FUZZ_SECONDS=$(FUZZ_SECONDS) bash tests/fuzz/run.sh $^

$(call programs,$(FUZZERS)): %: %.o $(BUILD)/tests/fuzz/fuzz.o $(BUILD)/tests/unit/damage.o \
                             $(BUILD)/liboutbox.a
	@echo '  LINK  $@'
	$(Q)$(LINK) -fsanitize=fuzzer -o $@ $^ $(LIBS)

# ---- Fault loops ----------------------------------------------------------------------------------

$(BUILD)/faults: $(call objects,$(FAULTS) $(addprefix tests/sim/,vfs.c disk.c choose.c tape.c)) \
                 $(BUILD)/liboutbox.a
	@echo '  LINK  $@'
	$(Q)$(LINK) -o $@ $^ $(SQLITE_LIBS) -pthread

.PHONY: faults
faults: $(BUILD)/faults ## let every call fail once and for good, and every one in a recovery
	@$(BUILD)/faults

# ---- The simulator --------------------------------------------------------------------------------

$(BUILD)/sim: $(call objects,$(SIM)) $(BUILD)/liboutbox.a
	@echo '  LINK  $@'
	$(Q)$(LINK) -o $@ $^ $(SQLITE_LIBS) -pthread

.PHONY: sim sim-soak sim-probe sim-enumerate sim-same mutants
sim: $(BUILD)/sim ## run SEEDS=500 simulated devices of each profile
	@BUILD=$(BUILD) bash tests/sim/profiles.sh $(SEEDS)

sim-soak: $(BUILD)/sim ## one simulated device with a million operations
	@$(BUILD)/sim --profile=soak --seed=1

sim-probe: $(BUILD)/sim ## what a naive store loses on the simulated disk, as a table
	@$(BUILD)/sim --probe

sim-enumerate: $(BUILD)/sim ## every schedule of the small scope
	@$(BUILD)/sim --enumerate=wal && $(BUILD)/sim --enumerate=truncate

sim-same: deps-lint ## the same seeds must run alike however they are compiled
	@BUILD=$(BUILD) bash tests/sim/same.sh

mutants: $(BUILD)/sim ## break the core in many ways; the simulator must notice each
	@BUILD=$(BUILD) CC='$(CC)' FLAGS='$(CFLAGS) $(SANITIZER)' bash tests/sim/mutants.sh

.PHONY: bench
bench: deps all $(call programs,$(BENCHES)) ## measure latency and idle wake-ups on this machine
	@for program in $(call programs,$(BENCHES)); do $$program || exit; done

.PHONY: asan tsan
asan: ## run all tests under AddressSanitizer and UndefinedBehaviorSanitizer
	$(Q)$(MAKE) --no-print-directory BUILD=$(BUILD)/asan SANITIZE=address,undefined test

tsan: ## run all tests under ThreadSanitizer
	$(Q)$(MAKE) --no-print-directory BUILD=$(BUILD)/tsan SANITIZE=thread test

.PHONY: coverage
coverage: ## run the tests and print which branches of src/ they take
	$(Q)$(MAKE) --no-print-directory CC=gcc BUILD=$(BUILD)/coverage \
	  CFLAGS='-O0 -g --coverage -DNDEBUG -DOB_MEASURE_BRANCHES -Wno-unused' coverage-programs
	@bash tests/coverage.sh $(BUILD)/coverage

.PHONY: coverage-programs
coverage-programs: all examples $(UNIT_TESTS) $(INTEGRATION_TESTS) $(BUILD)/sim $(BUILD)/faults

.PHONY: symbols promises
symbols: all ## check which symbols the core needs and the library exports
	@BUILD=$(BUILD) bash tests/check_symbols.sh

promises: ## list promises of the headers that no test names
	@bash tests/check_promises.sh

# ---- Form and analysis ---------------------------------------------------------------------------

CLANG_FORMAT ?= clang-format
CLANG_TIDY   ?= clang-tidy
CPPCHECK     := cppcheck --quiet --std=c11 --enable=warning,performance,portability \
                --inline-suppr --suppress=missingIncludeSystem --error-exitcode=1 -Iinclude -Isrc

.PHONY: lint lint-format lint-tidy lint-cppcheck lint-analyzer lint-functions format
lint: lint-format lint-functions lint-cppcheck lint-tidy lint-analyzer ## check the form, and analyse the code with four tools

lint-format: deps-lint
	$(Q)$(CLANG_FORMAT) --dry-run -Werror $(FORMATTED)

lint-functions: deps-lint
	@bash tests/check_functions.sh

# These two look at the product only: to them a failed assertion of cmocka goes on.
lint-cppcheck: deps-lint
	$(Q)$(if $(PRODUCT),$(CPPCHECK) $(PRODUCT))

lint-analyzer: deps-lint
	$(Q)$(MAKE) --no-print-directory CC=gcc BUILD=$(BUILD)/analyzer CFLAGS='-O1 -g -fanalyzer' objects

lint-tidy: $(patsubst %.c,$(BUILD)/%.tidy,$(PRODUCT) $(TESTING))

$(BUILD)/%.tidy: %.c $(filter %.h,$(FORMATTED)) .clang-tidy | deps-lint
	@mkdir -p $(@D)
	@echo '  TIDY  $<'
	$(Q)$(CLANG_TIDY) --quiet --warnings-as-errors='*' $< -- -std=c11 $(call flags_of,$<) 2>&1 | \
	  { grep -vE '^[0-9]+ warnings? (and [0-9]+ errors? )?generated\.$$' || true; }; exit $${PIPESTATUS[0]}
	@touch $@

.PHONY: objects
objects: $(call objects,$(filter-out $(EXTENSION),$(PRODUCT)))

format: deps-lint ## bring all C files into form
	$(Q)$(CLANG_FORMAT) -i $(FORMATTED)

# ---- What must be installed ----------------------------------------------------------------------

# A cross compiler and its sysroot are brought along.
BUILD_PACKAGES := $(if $(CROSS_COMPILE),make,gcc libc6-dev make libsqlite3-dev libpaho-mqtt-dev libssl-dev \
                  $(if $(findstring clang,$(CC)),clang))
TEST_PACKAGES  := libcmocka-dev mosquitto mosquitto-clients sqlite3 python3 openssl \
                  $(shell command -v npm >/dev/null || echo nodejs npm)
FIRMWARE_PACKAGES := gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm \
                     $(if $(filter picolibc,$(LIBC)),picolibc-arm-none-eabi)
SIZE_PACKAGES  := gcc-arm-linux-gnueabihf libc6-dev-armhf-cross gcc-aarch64-linux-gnu libc6-dev-arm64-cross
CROSS_PACKAGES := qemu-user cmake $(foreach arch,$(or $(ARCH),$(CROSS_ARCHES)), \
                    gcc-$(TRIPLET_$(arch)) libc6-dev-$(arch)-cross)
LINT_PACKAGES  := clang clang-format clang-tidy cppcheck universal-ctags

# $(call need,PACKAGES): installs those that are missing; silent when none is.
define need
@if [ -n '$(NO_DEPS)' ]; then exit 0; fi; \
if ! command -v dpkg-query >/dev/null; then \
  echo 'No Debian here; what is needed, by its Debian names: $(strip $(1))'; exit 0; fi; \
missing=$$(comm -23 <(printf '%s\n' $(1) | sort -u) \
  <(dpkg-query -W -f='$${Package} $${db:Status-Status}\n' $(1) 2>/dev/null | sed -n 's/ installed$$//p' | sort -u)); \
if [ -z "$$missing" ]; then exit 0; fi; \
echo 'Installing:' $$missing; \
if [ "$$(id -u)" = 0 ]; then sudo=; elif command -v sudo >/dev/null; then sudo=sudo; else \
  echo 'This needs root or sudo. Install them yourself, or call make NO_DEPS=1.' >&2; exit 1; fi; \
apt="$$sudo env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0"; \
$$apt update && $$apt install -y --no-install-recommends $$missing >/dev/null || \
  { echo 'apt-get failed. Install them yourself, or call make NO_DEPS=1.' >&2; exit 1; }
endef

.PHONY: deps deps-build deps-lint deps-npm deps-firmware deps-size deps-cross
deps-build:
	$(call need,$(BUILD_PACKAGES))

deps: deps-build ## install through apt what build, tests and demo need; silent if nothing is missing
	$(call need,$(TEST_PACKAGES))

deps-npm: # another npm than Debian's will do
	$(if $(shell command -v npm),,$(call need,npm))

deps-firmware: ## install through apt the compiler for Cortex-M and QEMU
	$(call need,$(FIRMWARE_PACKAGES))

deps-size: deps-firmware # and for armhf and arm64
	$(call need,$(SIZE_PACKAGES))

deps-cross: deps ## install through apt the compilers for arm64, armhf and armel, and QEMU
	$(call need,$(CROSS_PACKAGES))

deps-lint: deps ## install through apt what lint needs as well
	$(call need,$(LINT_PACKAGES))

# ---- The rest ------------------------------------------------------------------------------------

.PHONY: clean help
clean: ## remove what was built
	rm -rf $(BUILD)

help: ## list the targets
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/\1\t\2/p' $(filter Makefile %.mk,$(MAKEFILE_LIST)) | while IFS=$$'\t' read -r target text; do \
	  printf '  make %-18s %s\n' "$$target" "$$text"; done

.SECONDARY:
-include $(patsubst %.c,$(BUILD)/%.d,$(PRODUCT) $(TESTING)) \
  $(patsubst %.c,$(BUILD)/loadable/%.d,$(CORE) $(EXTENSION)) \
  $(foreach board,$(BOARDS),$(patsubst %.c,$(BUILD)/firmware/$(board)/%.d,$(FIRMWARE_SOURCES)))
