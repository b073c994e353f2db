#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# mutants.sh [NAME...] - breaks the core in one way after another and runs the simulator over each,
# profile by profile, until one seed notices. A mutant that no seed of any profile notices is a hole
# in the simulator. Prints which invariant it broke and how many seeds that took.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 2
build=${BUILD:-build} compiler=${CC:-gcc}
seeds=${SEEDS:-2000}
folder=$build/mutants
mkdir -p "$folder"

hunt() { # name: prints one line; fails if the mutant survives
    local name=$1 here=$folder/$1 profile seen status
    rm -rf "$here"
    mkdir -p "$here/build"
    cp -r src include "$here"
    if ! patch -s -p1 -d "$here" <"tests/sim/mutants/$name.patch"; then
        printf '%-45s DOES NOT APPLY any more\n' "$name"
        return 1
    fi
    # shellcheck disable=SC2086 # flags, in words
    "$compiler" -std=c11 ${FLAGS:--O1} -I"$here/include" -o "$here/sim" "$here"/src/*.c "$build"/tests/sim/*.o \
        -lsqlite3 -pthread || return 1
    for profile in tiny-port crash swarm net full busy wrap lite; do
        seen=$(cd "$here" && timeout 300 ./sim --profile=$profile --seeds="1..$seeds" ${SIM_FLAGS:-} 2>&1)
        status=$?
        [ $status -ne 0 ] || continue
        local invariant runs
        invariant=$(sed -n 's/^BROKEN  \(I[0-9]*\):.*/\1/p' <<<"$seen")
        runs=$(sed -n 's/.*FAILED; \([0-9]*\) runs.*/\1/p' <<<"$seen")
        printf '%-45s dies of %-12s in profile %-10s after %s seeds\n' "$name" \
            "${invariant:-an assertion}" "$profile" "${runs:-some}"
        rm -rf "$here"
        return 0
    done
    printf '%-45s SURVIVES %s seeds of every profile\n' "$name" "$seeds"
    return 1
}

[ $# -gt 0 ] || set -- $(basename -s .patch tests/sim/mutants/*.patch)
count=$# alive=0
running=0
for name; do
    hunt "$name" &
    running=$((running + 1))
    if [ $running -ge 2 ]; then
        wait -n || alive=$((alive + 1))
        running=$((running - 1))
    fi
done
while [ $running -gt 0 ]; do
    wait -n || alive=$((alive + 1))
    running=$((running - 1))
done
echo "mutants: $((count - alive)) of $count died"
[ $alive -eq 0 ]
