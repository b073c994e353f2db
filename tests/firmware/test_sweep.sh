#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# test_sweep.sh - no power cut at any operation of the flash loses, invents or damages anything. [P1] [P2]
cd "$(dirname "$0")/../.." && exec "${BUILD:-build}/tests/firmware/sweep" quick
