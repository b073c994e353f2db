#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# test_profiles.sh - some seeds of each profile break no invariant. [P1] [P2] [P3] [P4] [P5] [P6]
cd "$(dirname "$0")/../.." && exec bash tests/sim/profiles.sh "${SEEDS:-100}"
