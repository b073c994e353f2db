#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# size.sh - how much code, data and stack there is.
#
#   usage: size.sh images TOOL-PREFIX FIRMWARE.elf...
#          size.sh objects TOOL-PREFIX NAME OBJECT.o...
#          size.sh stack FIRMWARE.elf...
#
# images: what is SQLite, the core, the port and the C library, by the linker's map; only what was linked
# counts. objects: one line of their sum, with the largest frame and the deepest chain of calls among
# them, by what the compiler wrote beside each object (-fstack-usage -fcallgraph-info=su); what they call
# of SQLite, and calls through pointers, are not in the chain. stack: the largest frames of an image, and
# the stack that its demo used in QEMU.
set -euo pipefail
cd "$(dirname "$0")/../.."

images() {
    local prefix=$1 elf text data bss
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
                from = pending ? $1 : $2; size = pending ? $2 : $3; file = pending ? $3 : $4; pending = 0
                if (size !~ /^0x/) next
                # A text that is the end of an earlier one lies in that.
                from = number(from); to = from + number(size)
                bytes = to > end ? to - (from > end ? from : end) : 0
                if (to > end) end = to
                if (file ~ /sqlite3\.o/) sqlite += bytes
                else if (file ~ /\/src\/|\/amalgamation\//) core += bytes
                else if (file ~ /\/ports\//) port += bytes
                else library += bytes
            }
            END { printf "%-12s %9d %9d %9d %9d %9d %9d %9d\n", board, text, data, bss, sqlite, core, port, library }' \
            "$elf.map"
    done
}

# "frame function" of the largest one in the .su files of the names that come in.
largest_frame() {
    tr '\n' '\0' | xargs -0r cat | awk -F'\t' '$2 > most { most = $2; n = split($1, part, ":"); name = part[n] }
        END { print most + 0, name }'
}

# "bytes function" of the deepest chain of calls. A function that is met again in a chain is not counted
# again.
deepest_chain() {
    awk -F'"' '
        function below(name,   i, n, list, most, bytes) {
            if (name in known) return known[name]
            if (name in open) return 0
            open[name] = 1
            n = split(callees[name], list, "\t")
            for (i = 1; i <= n; i++) { bytes = below(list[i]); if (bytes > most) most = bytes }
            delete open[name]
            return known[name] = frame[name] + most
        }
        /^node:/ && match($4, /[0-9]+ bytes \(/) { frame[$2] = substr($4, RSTART) + 0 }
        /^edge:/ { callees[$2] = callees[$2] $4 "\t" }
        END {
            for (name in frame) if (below(name) > deepest) { deepest = below(name); from = name }
            sub(/.*:/, "", from)
            print deepest + 0, from
        }' "$@"
}

objects() {
    local prefix=$1 name=$2 text data bss frame function chain from
    shift 2
    read -r text data bss < <("${prefix}size" "$@" | awk 'NR > 1 { t += $1; d += $2; b += $3 } END { print t, d, b }')
    read -r frame function < <(printf '%s\n' "${@/%.o/.su}" | largest_frame)
    read -r chain from < <(deepest_chain "${@/%.o/.ci}")
    printf '%-42s %8d %6d %5d %7d %-22s %7d %s\n' "$name" "$text" "$data" "$bss" "$frame" "$function" "$chain" "$from"
}

stack() {
    local elf folder measured rows row
    printf '%-12s %9s %-26s %9s %-26s %9s %-20s %9s\n' 'frames' sqlite of core of port of measured
    for elf in "$@"; do
        folder=${elf%.elf} rows=()
        for row in "-name sqlite3.su" "-path */src/*.su" "-path */ports/*.su"; do
            set -f
            rows+=("$(find "$folder" $row | largest_frame)")
            set +f
        done
        measured='no QEMU here'
        if command -v qemu-system-arm >/dev/null; then
            measured=$(bash tests/firmware/run_qemu.sh "$elf" events=300 2>&1 | sed -nE 's/^demo: stack ([0-9]+),.*/\1/p')
        fi
        printf '%-12s %9s %-26s %9s %-26s %9s %-20s %9s\n' "$(basename "$folder")" ${rows[0]} ${rows[1]} ${rows[2]} "$measured"
    done
}

command=$1
shift
case $command in
images | objects | stack) "$command" "$@" ;;
heading) printf '%-42s %8s %6s %5s %7s %-22s %7s %s\n' 'core and stream link' text data bss frame 'of' chain 'from' ;;
*) sed -n '/usage:/,/^#$/s/^# *//p' "$0" >&2; exit 2 ;;
esac
