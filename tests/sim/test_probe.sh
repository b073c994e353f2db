#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# test_probe.sh - on the simulated disk SQLite keeps and loses what it is known to keep and lose.
cd "$(dirname "$0")/../.." && exec "${BUILD:-build}/sim" --probe=400
