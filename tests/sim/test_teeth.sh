#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# test_teeth.sh - deleting before the PUBACK loses events (I1, or I4 as a later one arrives first), sending without the barrier sends
# phantoms (I2), and the simulator says so, also where it does not compare the ledger, which notices sooner. All other mutants: `make mutants`.
cd "$(dirname "$0")/../.." || exit 2
found=$(SIM_FLAGS=--no-ledger SEEDS=500 bash tests/sim/mutants.sh delete-before-ack no-barrier)
echo "$found"
grep -q '^delete-before-ack  *dies of I[14] ' <<<"$found" && grep -q '^no-barrier  *dies of I2 ' <<<"$found"
