#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# profiles.sh SEEDS [PROFILE...] - runs so many seeds of each profile on two cores.
set -euo pipefail
cd "$(dirname "$0")/../.."
seeds=$1
shift
[ $# -gt 0 ] || set -- lite swarm crash net full busy wrap tiny-port
for profile; do
    "${BUILD:-build}/sim" --profile="$profile" --seeds="1..$seeds" --jobs=2
done
