#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# check_amalgamation.sh - the core as one file gives what its parts give, and nothing else.
#
#   usage: [BUILD=build] tests/check_amalgamation.sh
#
# It must define each public function that the objects of src/ define and nothing besides, need nothing
# that they do not need, and without captures have all of that but captures.
set -euo pipefail
cd "$(dirname "$0")/.."
build=${BUILD:-build}
whole=$build/amalgamation/outbox.o without=$build/amalgamation/without.o

objects=()
for source in src/*.c; do objects+=("$build/${source%.c}.o"); done
for object in "$whole" "$without" "${objects[@]}"; do
    [ -e "$object" ] || { echo "there is no $object: run make test-amalgamation"; exit 1; }
done

defined() { nm -g --defined-only "$@" | awk 'NF == 3 && $3 !~ /^_/ { print $3 }' | sort -u; }
# Not what a sanitizer makes of large frames.
needed() { nm -u "$@" | awk 'NF == 2 && $2 !~ /^__(a|t|ub)san_/ { print $2 }' | sort -u; }

compare() { # what expected found
    local difference
    difference=$(comm -3 <(echo "$2") <(echo "$3") |
        sed -E 's/^\t(.*)/    \1 is too many/; t; s/^(.*)/    \1 is missing/')
    [ -z "$difference" ] || { printf '%s:\n%s\n' "$1" "$difference"; exit 1; }
}

public=$(defined "${objects[@]}" | grep -v '^ob_')
compare 'The amalgamation defines other functions than src/' "$public" "$(defined "$whole")"
compare 'Without captures it defines others' \
    "$(grep -vxF "$(nm -g --defined-only "$build"/src/{capture*,change,drift,snapshot}.o |
        awk 'NF == 3 { print $3 }')" <<<"$public")" "$(defined "$without")"

foreign=$(comm -13 <(needed "${objects[@]}") <(needed "$whole" "$without"))
if [ -n "$foreign" ]; then
    echo 'The amalgamation needs what src/ does not need:'
    sed 's/^/    /' <<<"$foreign"
    exit 1
fi
for header in include/outbox/*.h; do
    cmp "$header" "$build/amalgamation/outbox/${header##*/}"
done
echo "one file defines $(defined "$whole" | wc -l) functions, $(defined "$without" | wc -l) without captures"
