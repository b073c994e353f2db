#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# check_functions.sh - no function of the product is longer than a screen can show.
#
# Prints the ten longest functions of src and ports, and fails if one has more than 70 lines.
set -euo pipefail
cd "$(dirname "$0")/.."
limit=70

if ! ctags --version 2>/dev/null | grep -q Universal; then
    echo "check_functions.sh: no universal-ctags here, so nothing was measured"
    exit 0
fi

lengths=$(find src ports -name '*.c' -print0 |
    xargs -0r ctags -x --c-kinds=f --fields=+ne --_xformat='%{end} %n %F %N' |
    awk '{ print $1 - $2 + 1, $3 ":" $2, $4 }' | sort -rn)
[ -n "$lengths" ] || exit 0

echo "longest functions (lines, place, name):"
awk 'NR <= 10 { printf "    %3d  %-36s %s\n", $1, $2, $3 }' <<<"$lengths"
awk -v limit="$limit" '{ n[NR] = $1 }
    END { printf "    %d functions, median %d, longest %d, limit %d\n", NR, n[int((NR + 1) / 2)], n[1], limit }' <<<"$lengths"
awk -v limit="$limit" '$1 > limit { bad = 1 } END { exit bad }' <<<"$lengths"
