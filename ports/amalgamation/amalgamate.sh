#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# amalgamate.sh - writes all of the core as one C file, to drop into the tree of a firmware.
#
#   usage: ports/amalgamation/amalgamate.sh FOLDER
#
# Makes FOLDER/outbox.c and FOLDER/outbox/*.h, which are the public headers as they are. In outbox.c come
# the headers of src/, each behind those that it wants, then the files. What the files use of each other
# becomes static: the compiler sees who calls what, and drops what nobody does. So a static name of one
# file in src/ must not be that of anything in another; where it is, the compiler says so.
set -euo pipefail
folder=$(realpath -m "$1")
cd "$(dirname "$0")/../.."
mkdir -p "$folder/outbox"
cp include/outbox/*.h "$folder/outbox/"

# With OUTBOX_WITHOUT_CAPTURE these are left out, and src/without/ stands in for them.
captures='^src/(capture.*|change|drift|snapshot)\.c$'
mapfile -t always < <(printf '%s\n' src/*.c | grep -vE "$captures")
mapfile -t capturing < <(printf '%s\n' src/*.c | grep -E "$captures")

program='
    # A declaration or definition at the left margin that other files use: functions and tables.
    function is_ours(line) { return line ~ /^[a-z].*[ *]ob_[a-z0-9_]+(\(| =|;)/ && line !~ /^static/ }
    function name_of(line) {
        match(line, /[ *]ob_[a-z0-9_]+(\(| =|;)/)
        line = substr(line, RSTART + 1)
        sub(/[^a-z0-9_].*/, "", line)
        return line
    }

    function show(path,   line) {
        printf "\n/* ======== %s ======== */\n\n", path
        while ((getline line < path) > 0) {
            if (line ~ /^#include/) continue
            if (is_ours(line)) {
                sub(/^extern /, "", line) # of a table: a tentative definition takes its place
                line = (name_of(line) in of_captures ? "OB_CAPTURES " : "OB_LOCAL ") line
            }
            print line
        }
        close(path)
    }

    # The headers of src/ that a file includes, and what those include, deepest first.
    function show_headers(path,   line, part) {
        while ((getline line < path) > 0)
            if (line ~ /^#include "/ && !(line in shown)) {
                shown[line] = 1
                split(line, part, "\"")
                show_headers("src/" part[2])
                show("src/" part[2])
            }
        close(path)
    }
    function show_libraries(path,   line) {
        while ((getline line < path) > 0)
            if (line ~ /^#include </ && !(line in shown)) { shown[line] = 1; print line }
        close(path)
    }

    # What captures alone define is declared, and not there, without them.
    function learn(list, count, known,   i, line) {
        for (i = 1; i <= count; i++) {
            while ((getline line < list[i]) > 0) if (is_ours(line)) known[name_of(line)] = 1
            close(list[i])
        }
    }

    BEGIN {
        standing_in = split(STANDING_IN, instead); capturing = split(CAPTURING, captures)
        always = split(ALWAYS, part); headers = split(HEADERS, header)
        learn(captures, capturing, of_captures); learn(instead, standing_in, replaced)
        for (name in replaced) delete of_captures[name]

        for (i = 1; i <= headers; i++) show_libraries(header[i])
        for (i = 1; i <= capturing; i++) show_libraries(captures[i])
        for (i = 1; i <= always; i++) show_libraries(part[i])
        print "\n#ifndef OB_LOCAL"
        print "#ifdef __GNUC__\n#define OB_LOCAL static __attribute__((unused))"
        print "#else\n#define OB_LOCAL static\n#endif\n#endif"
        print "#ifdef OUTBOX_WITHOUT_CAPTURE\n#define OB_CAPTURES extern"
        print "#else\n#define OB_CAPTURES OB_LOCAL\n#endif"

        for (i = 1; i <= capturing; i++) show_headers(captures[i])
        for (i = 1; i <= always; i++) show_headers(part[i])
        for (i = 1; i <= always; i++) show(part[i])
        print "\n#ifdef OUTBOX_WITHOUT_CAPTURE"
        for (i = 1; i <= standing_in; i++) show(instead[i])
        print "\n#else"
        for (i = 1; i <= capturing; i++) show(captures[i])
        print "\n#endif /* OUTBOX_WITHOUT_CAPTURE */"
    }'

{
    cat <<'END'
/* SPDX-License-Identifier: MIT
 *
 * outbox.c - the core of outbox and its MQTT link over a byte stream, as one file.
 *
 * Written by ports/amalgamation/amalgamate.sh out of src/: change those, not this. It wants SQLite 3.34
 * or newer, a C11 compiler and a path to the headers: cc -std=c11 -Os -DNDEBUG -I. -c outbox.c
 *
 *   OUTBOX_WITHOUT_CAPTURE   leaves captures out (outbox/capture.h is not there then), for small devices
 *   NDEBUG                   leaves assertions out
 *   OB_LOCAL                 how the functions inside are declared, if not static
 *
 * The platform, which is a clock, dice and a stream of bytes, is yours: outbox/port.h, outbox/stream.h.
 */
END
    awk -v STANDING_IN="$(echo src/without/*.c)" -v CAPTURING="${capturing[*]}" -v ALWAYS="${always[*]}" \
        -v HEADERS="$(echo src/*.h)" "$program"
} >"$folder/outbox.c"
