#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# fault_test.sh - the demo firmware on a flash that fails while it samples and sends.
#
#   usage: fault_test.sh FIRMWARE.elf
#
# First single operations fail: the board reports each, retires the sector, and goes on. Then none succeeds
# any more: it says why no reading can be stored, and does not end. Started on a flash that works, it goes
# on where it was. The recipient must have each reading once, in order, none missing. [P1] [P3]
set -u
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/scene.sh"
first=200 last=300

scene_begin "${1:?usage: fault_test.sh FIRMWARE.elf}"
start_board "$(bridge)" "events=$first" ms=5 drain=1 fail=60
await_end
failed=$(grep -c 'a program of the flash failed' "$folder/board")
[ "$failed" -ge 5 ] || fail "$failed failures were reported, not 5 at least"

start_board "$(bridge)" "events=$last" ms=5 drain=1 dead=150
await 600 grep -qE '^demo: (COMMIT|BEGIN IMMEDIATE|putting an event).*(disk I/O error|disk is full)' "$folder/board" ||
    fail 'the board does not say that it cannot store'
sleep 2 # in which it must not end
runs "$board" || fail 'the board ends when its flash does'
end "$board" KILL

start_board "$(bridge)" "events=$last" ms=5 drain=1
await_end
stop_recipient $last
expect 'readings' 'SELECT count(*), count(DISTINCT n), min(n), max(n) FROM reading' "$last|$last|1|$last"
expect 'readings out of order' 'SELECT count(*) FROM (SELECT n, row_number() OVER (ORDER BY row) AS at
    FROM reading) WHERE n <> at' 0
echo "$machine: $failed operations of the flash failed, then all of them: $last readings, none missing"
print_use
