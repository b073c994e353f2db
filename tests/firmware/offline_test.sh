#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# offline_test.sh - the demo firmware without a broker until its flash has turned over several times, then
# with one.
#
#   usage: offline_test.sh FIRMWARE.elf
#
# The flash must not fill: the oldest readings and events leave. The newest must arrive in order, each once;
# those that are missing must be announced to the recipient, and the board must count as many as it has
# announced. [P4] [P7]
set -u
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/scene.sh"
online=100 offline=4000 last=4300 limit=1000 turns=3

scene_begin "${1:?usage: offline_test.sh FIRMWARE.elf}"
start_board "$(bridge)" "events=$online" ms=5 drain=1
await_end
start_board null,id=uart "events=$offline" ms=1
await_end
least=$(sed -nE 's/^demo: flash: .* ([0-9]+) to [0-9]+ erases per sector.*/\1/p' "$folder/board" | tail -n 1)
[ "$least" -ge $turns ] || fail "a sector was erased $least times only, not $turns"
! grep -q 'full\|flash, sector' "$folder/board" || fail 'the flash fails, or is full'
start_board "$(bridge)" "events=$last" ms=5 drain=1
await_end
stop_recipient $last

# An event that was sent already may be evicted before its PUBACK: it counts as evicted, and is received.
evicted=$(said evicted)
missing=$((last - $(received)))
[ "$missing" -ge $((offline - online - limit)) ] || fail "only $missing readings are missing"
[ "$evicted" -ge $missing ] || fail "$missing readings are missing, and $evicted were evicted"
expect 'readings that came twice' 'SELECT count(*) - count(DISTINCT n) FROM reading' 0
expect 'readings out of order' 'SELECT count(*) FROM
    (SELECT n, lag(n) OVER (ORDER BY row) AS before FROM reading) WHERE n <= before' 0
expect 'readings before the network went' "SELECT count(*) FROM reading WHERE n <= $online" $online
expect 'readings since it is back' "SELECT count(*) FROM reading WHERE n > $offline" $((last - offline))
expect 'drops that were announced' 'SELECT sum(count) FROM dropped' "$evicted"
expect 'drops that the inbox counts as lost' 'SELECT sum(lost) FROM inbox_stream' "$missing"
gate_memory
echo "$machine: $offline readings without a broker, each sector erased $least times at least;" \
    "$evicted evicted and announced, $((last - missing)) received in order"
print_use
