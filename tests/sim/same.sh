#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# same.sh - gcc and clang, without and with optimisation, run the same seeds to the same hash.
set -euo pipefail
cd "$(dirname "$0")/../.."
build=${BUILD:-build}
first=
for compiler in 'gcc -O0' 'gcc -O2' 'clang -O0' 'clang -O2'; do
    set -- $compiler
    folder=$build/same/$1$2
    make --no-print-directory NO_DEPS=1 CC="$1" CFLAGS="$2 -g" BUILD="$folder" "$folder/sim" >/dev/null
    hash=$(for profile in lite swarm crash net full busy wrap tiny-port; do
        "$folder/sim" --profile=$profile --seeds=1..20 | sed -n 's/.* passed.*hash //p'
    done | tr '\n' ' ')
    echo "$compiler: $hash"
    [ "$(wc -w <<<"$hash")" -eq 8 ]
    [ -n "$first" ] || first=$hash
    [ "$hash" = "$first" ]
done
echo 'sim: the same hashes from every compiler'
