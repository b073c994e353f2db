# SPDX-License-Identifier: MIT
#
# firmware.mk - builds and tests the demo for the boards of QEMU, and tells the sizes. Part of the
# Makefile, which has SQLite's source and the tests on simulated flash.
#
# Core, flash log and demo for the boards of QEMU; SQLite in the same build. Start-up and linker scripts
# are ours, of the C library only string.h and the compiler's helpers are used.

ARM      := arm-none-eabi-
BOARDS   := mps2_an500 mps2_an385
CORE_OF_mps2_an500 := -mcpu=cortex-m7 -mthumb -mfpu=fpv5-d16 -mfloat-abi=hard -DDEMO_HEAP=26624
CORE_OF_mps2_an385 := -mcpu=cortex-m3 -mthumb -DDEMO_HEAP=26624
# What src/without stands in for is left out.
FIRMWARE_CORE := $(filter-out $(addprefix src/,capture%.c change.c drift.c snapshot.c),$(CORE)) $(WITHOUT)
FIRMWARE_SOURCES := $(FIRMWARE_CORE) $(FLASH) $(BOARD)
# LIBC=picolibc makes images of their own with that C library.
LIBC     ?= newlib
IMAGES   := $(BUILD)/firmware$(if $(filter picolibc,$(LIBC)),/picolibc)
SPECS    := $(if $(filter picolibc,$(LIBC)),picolibc,nano).specs
FIRMWARE_FLAGS = -Os -g -fconserve-stack -ffunction-sections -fdata-sections -fno-common -fstack-usage --specs=$(SPECS)
# newlib's headers declare what -Wundef and -Wconversion would complain of.
FIRMWARE_WARNINGS := $(filter-out -Wundef -Wconversion -Wsign-conversion,$(WARNINGS))

define board_rules
$(IMAGES)/$(1)/sqlite3.o: $(FLASH_SQLITE)/sqlite3.c ports/cortex_m/sqlite/options | deps-firmware
	@mkdir -p $$(@D)
	@echo '  ARM   $$@'
	$$(Q)$(ARM)gcc $$(CORE_OF_$(1)) $$(FIRMWARE_FLAGS) -w $$(SQLITE_OPTIONS) -c -o $$@ $$<

$(IMAGES)/$(1)/%.o: %.c $(FLASH_SQLITE)/sqlite3.c Makefile ports/cortex_m/firmware.mk | deps-firmware
	@mkdir -p $$(@D)
	@echo '  ARM   $$@'
	$$(Q)$(ARM)gcc $$(CORE_OF_$(1)) $$(FIRMWARE_FLAGS) -std=c11 -DNDEBUG $$(FIRMWARE_WARNINGS) -MMD -MP \
	  -Iinclude -Isrc -isystem $(FLASH_SQLITE) -c -o $$@ $$<

$(IMAGES)/$(1).elf: $$(patsubst %.c,$(IMAGES)/$(1)/%.o,$$(FIRMWARE_SOURCES)) \
                    $(IMAGES)/$(1)/sqlite3.o $(wildcard ports/cortex_m/boards/*.ld)
	@echo '  LINK  $$@'
	$$(Q)$(ARM)gcc $$(CORE_OF_$(1)) $$(FIRMWARE_FLAGS) -nostartfiles -Lports/cortex_m/boards \
	  -Tports/cortex_m/boards/$(1).ld -Wl,--gc-sections -Wl,-Map,$$@.map -o $$@ $$(filter %.o,$$^)
endef
$(foreach board,$(BOARDS),$(eval $(call board_rules,$(board))))

.PHONY: firmware firmware-demo firmware-test size
firmware: $(BOARDS:%=$(IMAGES)/%.elf) ## build the demo for Cortex-M7 and for a Cortex-M3; also LIBC=picolibc
	@bash tests/firmware/size.sh images $(ARM) $^

firmware-demo: firmware ## run it in QEMU
	@for board in $(BOARDS); do bash tests/firmware/run_qemu.sh $(IMAGES)/$$board.elf events=300 || exit; done

# Where the compiler or QEMU is not to be had, the script says so.
firmware-test: ## the demo in QEMU against a real mosquitto: killed 20 times, broker killed, long offline
	@BUILD=$(BUILD) IMAGES=$(IMAGES) bash tests/firmware/stages.sh $(MAKE)

# ---- Sizes -----------------------------------------------------------------------------------------
# Core and stream link as objects, file by file and as one file, for two kinds of each family.

TARGETS := cortex-m3 cortex-m7 armhf arm64
GCC_OF_cortex-m3 := $(ARM)gcc $(CORE_OF_mps2_an385) --specs=nano.specs
GCC_OF_cortex-m7 := $(ARM)gcc $(CORE_OF_mps2_an500) --specs=nano.specs
GCC_OF_armhf     := arm-linux-gnueabihf-gcc
GCC_OF_arm64     := aarch64-linux-gnu-gcc
SIZE_FLAGS       := -std=c11 -Os -fconserve-stack -DNDEBUG -ffunction-sections -fdata-sections -fstack-usage -fcallgraph-info=su
SIZES            := $(BUILD)/size

define target_rules
$(SIZES)/$(1)/%.o: %.c $(FLASH_SQLITE)/sqlite3.c Makefile ports/cortex_m/firmware.mk | deps-size
	@mkdir -p $$(@D)
	@echo '  CC    $$@'
	$$(Q)$(GCC_OF_$(1)) $(SIZE_FLAGS) -MMD -MP -Iinclude -Isrc -isystem $(FLASH_SQLITE) -c -o $$@ $$<

$(SIZES)/$(1)/outbox.o $(SIZES)/$(1)/without.o: $(AMALGAMATION)/outbox.c $(FLASH_SQLITE)/sqlite3.c | deps-size
	@mkdir -p $$(@D)
	@echo '  CC    $$@'
	$$(Q)$(GCC_OF_$(1)) $(SIZE_FLAGS) $$(FIRMWARE_WARNINGS) -I$(AMALGAMATION) -isystem $(FLASH_SQLITE) \
	  $$(if $$(filter %/without.o,$$@),-DOUTBOX_WITHOUT_CAPTURE) -c -o $$@ $$<
endef
$(foreach target,$(TARGETS),$(eval $(call target_rules,$(target))))

SIZED = $(patsubst %.c,$(SIZES)/$(1)/%.o,$(CORE) $(WITHOUT)) $(SIZES)/$(1)/outbox.o $(SIZES)/$(1)/without.o
size_line = @bash tests/firmware/size.sh objects $(firstword $(subst gcc, ,$(GCC_OF_$(1)))) '$(1), $(2)' \
  $(patsubst %,$(SIZES)/$(1)/%.o,$(3))
define size_lines
$(call size_line,$(1),file by file,$(CORE:.c=))
$(call size_line,$(1),file by file$(comma) no captures,$(FIRMWARE_CORE:.c=))
$(call size_line,$(1),one file,outbox)
$(call size_line,$(1),one file$(comma) no captures,without)

endef
comma := ,

size: $(foreach target,$(TARGETS),$(call SIZED,$(target))) $(BOARDS:%=$(IMAGES)/%.elf) ## code, data and stack on M3, M7, armhf and arm64
	@bash tests/firmware/size.sh heading
	$(foreach target,$(TARGETS),$(call size_lines,$(target)))
	@bash tests/firmware/size.sh images $(ARM) $(BOARDS:%=$(IMAGES)/%.elf)
	@bash tests/firmware/size.sh stack $(BOARDS:%=$(IMAGES)/%.elf)
