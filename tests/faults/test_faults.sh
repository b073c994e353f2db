#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# test_faults.sh - whatever call fails, nothing is lost, invented, half done or wedged. [P1] [P9]
cd "$(dirname "$0")/../.." && exec "${BUILD:-build}/faults" quick
