#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# test_lying_sync.sh - where a sync does nothing, events are lost, and the simulator says so.
cd "$(dirname "$0")/../.." || exit 2
"${BUILD:-build}/sim" --profile=crash --seeds=1..50 --sync-lies --tape-out="${BUILD:-build}/lies.tape"
[ $? -eq 1 ]
