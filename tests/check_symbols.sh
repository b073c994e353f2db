#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# check_symbols.sh - what the core takes from outside, and what the library gives.
#
#   usage: [BUILD=build] [NM=nm] tests/check_symbols.sh
#
# The core (src/*.c) may use SQLite, the parts of string.h that keep no state, and nothing else: no
# memory, clock, thread, dice, file or socket. So it runs unchanged on a bare machine and in a
# simulator. The shared library exports each function of the public headers, as the Makefile lists
# them in exports.map, and no other symbol.
set -euo pipefail
cd "$(dirname "$0")/.."
build=${BUILD:-build}
nm=${NM:-nm}

allowed='sqlite3_[a-z0-9_]+'
allowed+='|mem(chr|cmp|cpy|move|set)'
allowed+='|str(chr|cmp|cspn|len|ncmp|pbrk|rchr|spn|str)'
allowed+='|v?snprintf'
allowed+='|__assert_fail'
# What compilers put in by themselves: stack protector, fortify, linker table, sanitizers, and
# 64-bit arithmetic on 32-bit machines.
allowed+='|__stack_chk_fail|__(mem(cpy|move|set)|v?snprintf)_chk|_GLOBAL_OFFSET_TABLE_'
allowed+='|__(asan|ubsan|tsan)_[a-z0-9_]+|__aeabi_[a-z0-9]+|__u?(div|mod|mul)[dt]i[34]'

objects=()
for source in src/*.c; do objects+=("$build/${source%.c}.o"); done
[ -e "${objects[0]}" ] || { echo "no objects of the core in $build/src: build first"; exit 1; }

defined=$("$nm" -g --defined-only "${objects[@]}" | awk 'NF == 3 { print $3 }' | sort -u)
foreign=$("$nm" -u -A "${objects[@]}" | sed -nE 's/^(.*\.o): +[Uvw] ([^@ ]+).*/\2 \1/p' | sort -u |
    awk -v allowed="^($allowed)\$" 'NR == FNR { own[$1]; next } !($1 in own) && $1 !~ allowed' \
        <(echo "$defined") -)
if [ -n "$foreign" ]; then
    echo 'The core uses symbols that a bare machine does not have:'
    awk '{ printf "    %-24s in %s\n", $1, $2 }' <<<"$foreign"
    exit 1
fi

declared=$(sed -nE 's/^([a-z0-9_]+);$/\1/p' "$build/exports.map" | sort -u)
exported=$("$nm" -D --defined-only "$build/liboutbox.so" | awk '$2 != "A" { print $3 }' | sort -u)
difference=$(comm -3 <(echo "$declared") <(echo "$exported") |
    sed -E 's/^\t(.*)/    \1 is exported but not declared/; t; s/^(.*)/    \1 is declared but not exported/')
if [ -n "$difference" ]; then
    echo 'The library and its headers differ:'
    echo "$difference"
    exit 1
fi
echo "the core needs nothing but SQLite and string.h; $(wc -l <<<"$exported") functions are exported"
