#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# test_teeth.sh - deleting before the PUBACK loses events (I1), sending without the barrier sends
# phantoms (I2), and the simulator says so. All other mutants: `make mutants`.
cd "$(dirname "$0")/../.." || exit 2
found=$(SEEDS=500 bash tests/sim/mutants.sh delete-before-ack no-barrier)
echo "$found"
grep -q '^delete-before-ack  *dies of I1 ' <<<"$found" && grep -q '^no-barrier  *dies of I2 ' <<<"$found"
