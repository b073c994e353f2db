#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# firmware_test.sh - the demo firmware in QEMU sends to a real mosquitto through its UART, and dies again
# and again.
#
#   usage: firmware_test.sh FIRMWARE.elf [EVENTS [KILLS]]
#
# QEMU bridges the UART to the broker's port, and the flash is a file. The board samples EVENTS readings.
# Meanwhile QEMU is killed with -9 again and again, each time after another while, and started again on
# the same file; in between the broker is killed with -9 and started again. At the end the board has
# settled everything. The file of `outbox receive` must hold each reading once, in order, none missing,
# and `outbox verify` must agree. [P1] [P3] [P5]
set -u
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/scene.sh"
elf=${1:?usage: firmware_test.sh FIRMWARE.elf [EVENTS [KILLS]]}
events=${2:-1000}
kills=${3:-20}

start() { start_board "$(bridge)" "events=$events" ms=15 drain=1; }

# Waits until the board has delivered something in this life.
await_progress() {
    local before
    before=$(received)
    await 300 eval "[ \$(received) -gt $before ] || ! runs $board"
    [ "$(received)" -gt "$before" ] || fail 'nothing arrives'
}

run_lives() {
    local life
    for ((life = 1; life <= kills; life++)); do
        start
        [ $((life % 4)) -ne 1 ] || await_progress # in the other lives it may die before
        [ "$life" -ne $((kills / 2)) ] || { await_progress; kill_broker; }
        sleep "0.$((10 + RANDOM % 50))"
        runs "$board" || fail "the board was ready before kill $life"
        end "$board" KILL
    done
}

scene_begin "$elf"
run_lives
start
await_end
stop_recipient "$events"
expect 'messages that are no event' 'SELECT count(*) FROM received WHERE stream IS NULL' 0
expect 'readings' 'SELECT count(*), count(DISTINCT n), min(n), max(n) FROM reading' \
    "$events|$events|1|$events"
expect 'readings out of order' 'SELECT count(*) FROM (SELECT n, row_number() OVER (ORDER BY row) AS at
    FROM reading) WHERE n <> at' 0
expect 'announced drops' 'SELECT count(*) FROM dropped' 0
gate_memory
echo "$machine: $events readings, each once, none missing, in order; killed $kills times," \
    "broker killed $((kills > 1)) times"
print_use
