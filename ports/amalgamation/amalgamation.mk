# SPDX-License-Identifier: MIT
#
# amalgamation.mk - writes the core as one C file, compiles it, and runs tests against that file: those
# that reach the core by its public functions. Part of the Makefile.

AMALGAMATION := $(BUILD)/amalgamation
AMALGAMATED_TESTS := $(addprefix $(AMALGAMATION)/tests/unit/test_,announce bounds dead epoch fire \
    forwarder front full hole inbox inbox_memory keep_last lanes limits link_time look moved \
    mqtt_stream poison store sync upgrade verify writer) \
  $(addprefix $(AMALGAMATION)/tests/integration/test_,capture_real delivery restart)

.PHONY: amalgamation test-amalgamation
amalgamation: $(AMALGAMATION)/outbox.c ## write all of the core as one C file

$(AMALGAMATION)/outbox.c: ports/amalgamation/amalgamate.sh $(CORE) $(WITHOUT) $(HEADERS) $(wildcard src/*.h)
	@echo '  CAT   $@'
	$(Q)bash $< $(@D)

$(AMALGAMATION)/outbox.o $(AMALGAMATION)/without.o: $(AMALGAMATION)/outbox.c | deps-build
	@echo '  CC    $< $(if $(filter %/without.o,$@),(without captures))'
	$(Q)$(CC) $(ALL_CFLAGS) $(if $(filter %/without.o,$@),-DOUTBOX_WITHOUT_CAPTURE) -I$(@D) $(CPPFLAGS) \
	  -c -o $@ $<

$(AMALGAMATED_TESTS): $(AMALGAMATION)/%: $(BUILD)/%.o $(AMALGAMATION)/outbox.o $(call objects,$(PORT)) \
                      $(BUILD)/tests/unit/libhelpers.a $(BUILD)/tests/integration/libhelpers.a
	@echo '  LINK  $@'
	@mkdir -p $(@D)
	$(Q)$(LINK) -o $@ $< $(BUILD)/$(dir $*)libhelpers.a $(filter %.o,$(filter-out $<,$^)) -lcmocka $(LIBS)

test: $(AMALGAMATION)/outbox.o $(AMALGAMATION)/without.o # which CHECKS looks at
test-amalgamation: deps all $(AMALGAMATED_TESTS) $(AMALGAMATION)/without.o ## run tests against this file
	$(RUN) tests/check_amalgamation.sh $(AMALGAMATED_TESTS) $(filter %test_delivery %test_restart, \
	  $(AMALGAMATED_TESTS:%=%@stream))
