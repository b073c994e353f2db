#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# size.sh - what of a firmware is SQLite, the core, the port and the C library, by the linker's map; only
# what was linked counts.
#
#   usage: size.sh TOOL-PREFIX FIRMWARE.elf...
set -euo pipefail
prefix=$1
shift
printf '%-12s %9s %9s %9s %9s %9s %9s %9s\n' board text data bss sqlite core port library
for elf in "$@"; do
    read -r text data bss < <("${prefix}size" -A "$elf" | awk '
        $1 == ".text" || $1 == ".ARM.exidx" { text += $2 } $1 == ".data" { data = $2 }
        $1 == ".bss" { bss = $2 } END { print text, data, bss }')
    awk -v board="$(basename "$elf" .elf)" -v text="$text" -v data="$data" -v bss="$bss" '
        function number(hex,   i, value) {
            for (i = 3; i <= length(hex); i++)
                value = value * 16 + index("0123456789abcdef", substr(hex, i, 1)) - 1
            return value
        }
        /^Linker script and memory map/ { inside = 1 }
        /^\.data/ { inside = 0 }
        !inside { next }
        NF == 1 && /^ \.(text|rodata|vectors)/ { pending = 1; next }
        /^ \.(text|rodata|vectors)/ || pending {
            size = pending ? $2 : $3; file = pending ? $3 : $4; pending = 0
            if (size !~ /^0x/) next
            bytes = number(size)
            if (file ~ /sqlite3\.o/) sqlite += bytes
            else if (file ~ /\/src\//) core += bytes
            else if (file ~ /\/ports\//) port += bytes
            else library += bytes
        }
        END { printf "%-12s %9d %9d %9d %9d %9d %9d %9d\n", board, text, data, bss, sqlite, core, port, library }' \
        "$elf.map"
done
