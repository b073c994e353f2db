#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# test_lying_sync.sh - where a sync does nothing, committed events are lost (I1), and the simulator
# says so.
cd "$(dirname "$0")/../.." || exit 2
for seed in {1..60}; do
    found=$("${BUILD:-build}/sim" --profile=crash --seed="$seed" --sync-lies \
        --tape-out="${BUILD:-build}/lies.tape" | sed -n 's/^BROKEN  \(I[0-9]*\):.*/\1/p')
    echo "seed $seed: ${found:-nothing}"
    [ "$found" != I1 ] || exit 0
done
exit 1
