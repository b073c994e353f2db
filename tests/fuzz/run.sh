#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# run.sh - runs fuzz targets one after the other, says how often each ran, and fails on a finding.
#
#   usage: [FUZZ_SECONDS=60] tests/fuzz/run.sh PROGRAM...
#
# Inputs are kept beside the program, in PROGRAM.corpus, and the next run goes on from there. An input
# that is a finding is kept as PROGRAM.finding-*; call PROGRAM with it to see it again.
set -uo pipefail
seconds=${FUZZ_SECONDS:-60}
failed=0

for program in "$@"; do
    log=$program.log corpus=$program.corpus status=0
    mkdir -p "$corpus"
    "$program" --seeds "$corpus" || exit
    "$program" -max_total_time="$seconds" -print_final_stats=1 -timeout=20 -max_len=4096 \
        -artifact_prefix="$program.finding-" "$corpus" >"$log" 2>&1 </dev/null || status=$?
    runs=$(sed -nE 's/^stat::number_of_executed_units: *//p' "$log")
    covered=$(grep -oE 'cov: [0-9]+' "$log" | tail -n 1)
    printf '%-24s %10s executions in %s s, %s\n' "$(basename "$program")" "${runs:-?}" "$seconds" \
        "${covered:-nothing covered}"
    if [ "$status" -ne 0 ]; then
        failed=$((failed + 1))
        printf 'FAILED (exit status %d), see %s\n' "$status" "$log"
        grep -vE '^#[0-9]+' "$log" | tail -n 40 | sed 's/^/    | /'
    fi
done
echo "$# fuzz targets, $failed with a finding"
[ "$failed" -eq 0 ]
