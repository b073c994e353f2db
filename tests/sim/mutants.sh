#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# mutants.sh [NAME...] - breaks the core in one way after another and runs the simulator over each, a few
# seeds of every profile and then the rest, until one seed notices. A mutant that no seed of any profile
# notices is a hole in the simulator. Prints which invariant it broke and how many seeds that took. Before
# that the core as it is must pass the same seeds, or they prove nothing; CLEAN=known: it has passed them.
# A mutant changes .c files of src/ only.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 2
build=${BUILD:-build} compiler=${CC:-gcc}
seeds=${SEEDS:-2000}
few=$((seeds < 100 ? seeds : 100))
folder=$build/mutants
profiles=(tiny-port crash swarm net full busy wrap lite)
mkdir -p "$folder"

tell() { # name sentence
    printf '%-45s %s\n' "$1" "$2"
}

hunt() { # name: prints one line; fails if the mutant survives, or is none
    local name=$1 here=$folder/$1 sources profile first last seen status invariant runs
    rm -rf "$here"
    mkdir -p "$here/build"
    cp -r src include "$here"
    if ! patch -s -p1 -F0 -d "$here" <"tests/sim/mutants/$name.patch" >"$here/log" 2>&1; then
        tell "$name" "DOES NOT APPLY any more, see $here/log"
        return 1
    fi
    # The linker takes from the library what the mutant does not define: all but the files it changes.
    sources=$(sed -n "s:^+++ b/\(src/[a-z_]*\.c\)\$:$here/\1:p" "tests/sim/mutants/$name.patch")
    # shellcheck disable=SC2086 # files and flags, in words
    if ! "$compiler" -std=c11 ${FLAGS:--O1} -I"$here/include" -o "$here/sim" $sources \
        "$build"/tests/sim/*.o "$build/liboutbox.a" -lsqlite3 -pthread >"$here/log" 2>&1; then
        tell "$name" "DOES NOT COMPILE, see $here/log"
        return 1
    fi
    for profile in "${profiles[@]/#/1 $few }" "${profiles[@]/#/$((few + 1)) $seeds }"; do
        read -r first last profile <<<"$profile"
        [ "$first" -le "$last" ] || continue
        seen=$(cd "$here" && timeout 600 ./sim --profile="$profile" --seeds="$first..$last" ${SIM_FLAGS:-} 2>&1)
        status=$?
        [ $status -ne 0 ] || continue
        invariant=$(sed -n 's/^BROKEN  \(I[0-9]*\):.*/\1/p' <<<"$seen")
        if [ -z "$invariant" ] && [ $status -ne 134 ]; then
            tell "$name" "FAILS WITHOUT A VERDICT in profile $profile (status $status; 124: it took too long)"
            return 1
        fi
        runs=$(sed -n 's/.*FAILED; \([0-9]*\) runs.*/\1/p' <<<"$seen")
        tell "$name" "$(printf 'dies of %-12s in profile %-10s after %s seeds' \
            "${invariant:-an assertion}" "$profile" "${runs:+$((first - 1 + runs))}")"
        rm -rf "$here"
        return 0
    done
    tell "$name" "SURVIVES $seeds seeds of every profile"
    return 1
}

if [ "${CLEAN:-}" != known ] && ! BUILD=$build bash tests/sim/profiles.sh "$seeds" "${profiles[@]}"; then
    echo "mutants: the core fails WITHOUT ANY MUTANT, so no death would prove anything" >&2
    exit 2
fi
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
