#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# test_enumerate.sh - no schedule of the small scope breaks an invariant.
set -e
cd "$(dirname "$0")/../.."
"${BUILD:-build}/sim" --enumerate=wal
"${BUILD:-build}/sim" --enumerate=truncate
