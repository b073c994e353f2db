#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# test_mutants.sh - each mutant still applies to the core, and compiles. That each dies shows `make mutants`,
# in half an hour; one that has gone stale would be a tooth lost until then.
set -u
cd "$(dirname "$0")/../.." || exit
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
stale=0
for patch in tests/sim/mutants/*.patch; do
    rm -rf "$folder/src"
    cp -r src "$folder"
    # shellcheck disable=SC2046 # file names, in words
    patch -s -p1 -F0 -d "$folder" <"$patch" &&
        "${CC:-gcc}" -std=c11 -D_GNU_SOURCE -fsyntax-only -Iinclude \
            $(sed -n "s:^+++ b/:$folder/:p" "$patch") && continue
    echo "stale: $patch"
    stale=$((stale + 1))
done
[ "$stale" -eq 0 ]
