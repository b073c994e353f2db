# SPDX-License-Identifier: MIT
#
# cross.mk - builds for ARM boards and runs the tests there. Part of the Makefile.
#
# Debian's cross compiler, a sysroot of its own, QEMU to run it with this machine's mosquitto. With
# CROSS_COMPILE, SYSROOT and EMULATOR in hand the Makefile's targets do the same for any board.

CROSS_ARCHES := arm64 armel armhf
TRIPLET_arm64 := aarch64-linux-gnu
TRIPLET_armel := arm-linux-gnueabi
TRIPLET_armhf := arm-linux-gnueabihf
QEMU_OF = $(if $(filter arm64,$(1)),qemu-aarch64,qemu-arm)
CROSS_LIBRARIES := libc6-dev libsqlite3-dev libpaho-mqtt-dev libssl-dev libcmocka-dev
CROSS_BUILD = $(BUILD)/cross/$(ARCH)
CROSS_MAKE = $(MAKE) --no-print-directory NO_DEPS=1 BUILD=$(CROSS_BUILD) \
  CC=$(TRIPLET_$(ARCH))-gcc CROSS_COMPILE=$(TRIPLET_$(ARCH))- SYSROOT=$(abspath $(CROSS_BUILD)/sysroot) \
  EMULATOR='$(call QEMU_OF,$(ARCH)) -L $(abspath $(CROSS_BUILD)/sysroot)'

ifneq ($(filter cross cross-build cross-sysroot,$(MAKECMDGOALS)),)
$(if $(filter $(ARCH),$(CROSS_ARCHES)),,$(error Say for which machine: ARCH=, one of: $(CROSS_ARCHES)))
endif

.PHONY: cross cross-build cross-sysroot cross-programs cross-run
cross: cross-build ## build for ARCH=arm64, armhf or armel, and run the tests under QEMU
	+$(Q)$(CROSS_MAKE) cross-run

cross-build: cross-sysroot ## build for it: libraries, extension, command, examples, tests
	+$(Q)$(CROSS_MAKE) cross-programs

cross-sysroot: deps-cross
	@bash ports/linux/cross/sysroot.sh $(ARCH) $(CROSS_BUILD)/sysroot $(CROSS_LIBRARIES)

cross-programs: all examples $(UNIT_TESTS) $(INTEGRATION_TESTS)

# Lines of NAME WHEN REASON.
CROSS_LEFT_OUT := sed -nE 's/^([a-z]+\/[a-z_.]+) +($(if $(CROSS_ALL),,long|)never) +(.*)/\1: \3/p' \
  ports/linux/cross/left_out
cross-run: cross-programs
	@$(CROSS_LEFT_OUT) | sed 's/^/skipped: /'
	$(RUN) tests/check_symbols.sh tests/cross/test_toolchain.sh \
	  $(filter-out $(addprefix $(BUILD)/tests/,$(shell $(CROSS_LEFT_OUT) | cut -d: -f1)), \
	    $(UNIT_TESTS) $(INTEGRATION_TESTS)) $(filter %/test_link@stream %/test_wire@stream,$(OTHER_LINK))
