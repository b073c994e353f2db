#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# test_teeth.sh - deleting before the PUBACK loses events (I1), sending without the barrier sends phantoms (I2), and the
# simulator says so, also where it does not compare the ledger, which can notice sooner. That the core as it is passes these
# seeds, test_profiles.sh shows. All other mutants: `make mutants`.
cd "$(dirname "$0")/../.." || exit 2
found=$(CLEAN=known SIM_FLAGS=--no-ledger SEEDS=100 bash tests/sim/mutants.sh delete-before-ack no-barrier)
echo "$found"
grep -q '^delete-before-ack  *dies of I1 ' <<<"$found" && grep -q '^no-barrier  *dies of I2 ' <<<"$found"
