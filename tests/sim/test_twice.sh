#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# test_twice.sh - a seed runs the same way twice.
set -e
cd "$(dirname "$0")/../.."
for profile in swarm tiny-port; do
    "${BUILD:-build}/sim" --profile=$profile --seeds=5000..5019 --jobs=2 --twice
done
