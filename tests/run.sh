#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# run.sh - runs test programs and scripts, says of each how it went, and counts.
#
#   usage: [JOBS=2] [TEST_TIMEOUT=1800] [BUILD=build] [EMULATOR=COMMAND] tests/run.sh PROGRAM[@LINK]...
#
# EMULATOR, in words, runs programs that were compiled for another machine; scripts are run as always.
# With @LINK a program is run over that link, paho or stream, in the environment as OUTBOX_TEST_LINK.
# A program (cmocka) counts with each of its tests, a script (*.sh) as one. A test that was planned
# but gave no verdict, because its program died or hung, has failed. What a failed program printed
# is shown; all of it is in $BUILD/logs. The last line is always "N passed, M failed".
# Whatever processes a program leaves behind are killed when it has ended.
set -u
cd "$(dirname "$0")/.." || exit 1

unset http_proxy https_proxy all_proxy HTTP_PROXY HTTPS_PROXY # Paho before 1.3.14 would use them
jobs=${JOBS:-2}
limit=${TEST_TIMEOUT:-1800}
export BUILD=${BUILD:-build}
read -r -a emulator <<<"${EMULATOR:-}"
logs=$BUILD/logs
mkdir -p "$logs"
results=$(mktemp -d) || exit 1

# Runs one program in a process group of its own. Signals are as at a terminal, although the shell
# ignores SIGINT in the background.
execute() { # program log
    local path=${1%@*} command group
    command=("./${path#./}")
    case $path in /*) command=("$path") ;; esac
    case $path in
    *.sh) command=(bash "$path") ;;
    *) command=("${emulator[@]}" "${command[@]}") ;;
    esac
    case $1 in *@*) command=(env OUTBOX_TEST_LINK="${1##*@}" "${command[@]}") ;; esac
    CMOCKA_MESSAGE_OUTPUT=tap env --default-signal timeout --kill-after=5 "$limit" \
        "${command[@]}" >"$2" 2>&1 </dev/null &
    group=$!
    trap 'kill -TERM "$group"; kill -KILL -- "-$group"; exit 130' INT TERM HUP
    wait "$group"
    local status=$?
    kill -KILL -- "-$group" 2>/dev/null
    return "$status"
}

# Why a program has failed, beyond what its tests say.
reason() { # status lost
    case $1 in
    124) echo "longer than $limit s" ;;
    12[89] | 1[3-9]? | 2??) echo "ended by signal $(($1 - 128))" ;;
    *) if [ "$2" -gt 0 ]; then echo "exit status $1"; fi ;;
    esac
}

count() { grep -cE "$1" "$2"; }

judge() { # program number
    local program=$1 log status=0 passed=0 failed=0 skipped=0 lost=0 started=$EPOCHREALTIME
    local name=${program#"$BUILD"/}
    log=$logs/$(tr / . <<<"${name#tests/}").log
    execute "$program" "$log" 2>/dev/null
    status=$?
    case ${program%@*} in
    *.sh)
        if [ "$status" -eq 0 ]; then passed=1; else failed=1 lost=1; fi
        ;;
    *)
        passed=$(count '^ok [0-9]+ - ' "$log")
        skipped=$(count '^(not )?ok [0-9]+ # SKIP' "$log")
        failed=$(grep -E '^not ok ' "$log" | grep -cvE '^not ok [0-9]+ # SKIP')
        lost=$(sed -nE 's/^1\.\.([0-9]+)$/\1/p' "$log" |
            awk -v seen=$((passed + failed + skipped)) '{ n += $1 } END { print n - seen }')
        if [ "$lost" -gt 0 ]; then
            failed=$((failed + lost))
        elif [ "$failed" -eq 0 ] && { [ "$status" -ne 0 ] || [ $((passed + skipped)) -eq 0 ]; }; then
            failed=1 lost=1
        fi
        ;;
    esac
    echo "$passed $failed $skipped" >"$results/$2"
    report
}

# Printed at once, so that two programs do not mix their lines.
report() {
    local word=ok text why
    [ "$failed" -eq 0 ] || word=FAILED
    text=$(printf '%-6s  %-48s %3d passed' "$word" "$name" "$passed")
    [ "$failed" -eq 0 ] || text+=", $failed failed"
    [ "$skipped" -eq 0 ] || text+=", $skipped skipped"
    text+=$(awk -v a="$started" -v b="$EPOCHREALTIME" 'BEGIN { printf "  %.1f s", b - a }')
    if [ "$failed" -ne 0 ]; then
        why=$(reason "$status" "$lost")
        text+=${why:+"  ($why)"}$'\n'$(tail -n 400 "$log" | sed 's/^/    | /')
    fi
    printf '%s\n' "$text"
}

# shellcheck disable=SC2046
trap 'trap "" TERM; kill $(jobs -p) 2>/dev/null; wait; rm -rf "$results"; exit 130' INT TERM HUP

number=0
for program in "$@"; do
    while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n; done
    number=$((number + 1))
    judge "$program" "$number" &
done
wait

read -r passed failed skipped < <(find "$results" -type f -exec cat {} + |
    awk '{ p += $1; f += $2; s += $3 } END { print p + 0, f + 0, s + 0 }')
missing=$((number - $(find "$results" -type f | wc -l)))
rm -rf "$results"
[ "$skipped" -eq 0 ] || echo "$skipped skipped"
echo "$passed passed, $((failed + missing)) failed"
[ "$((failed + missing))" -eq 0 ]
