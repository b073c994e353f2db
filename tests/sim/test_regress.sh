#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# test_regress.sh - the tapes of bugs that were found and mended break nothing any more.
set -e
cd "$(dirname "$0")/../.."
for tape in tests/sim/regress/*.tape; do
    "${BUILD:-build}/sim" --replay="$tape"
done
