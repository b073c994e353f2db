#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# stages.sh - installs, builds and runs all that is tested of the firmware, and says how long each takes.
#
#   usage: stages.sh MAKE
#
# From a fresh clone all of it has to take less than eight minutes on two cores that do nothing else; on
# others it may take longer, so the time is printed and not judged. Where the compiler or QEMU cannot be
# had the tests say so, and are left out.
set -u
make=${1:?usage: stages.sh MAKE}
build=${BUILD:-build}
images=${IMAGES:-$build/firmware}
m7=$images/mps2_an500.elf m3=$images/mps2_an385.elf
jobs=()
[[ ${MAKEFLAGS:-} == *jobserver* ]] || jobs=(-j"$(nproc)") # a job server of the caller's is heeded
times=()

stage() { # NAME COMMAND...
    local name=$1 begin=$SECONDS status
    shift
    "$@"
    status=$?
    times+=("$(printf '%4d s  %s' $((SECONDS - begin)) "$name")")
    return "$status"
}

# shellcheck disable=SC2317 # called by stage
build() { "$make" --no-print-directory "${jobs[@]}" "$@"; }

run() {
    stage 'packages' build deps deps-firmware || true
    if command -v arm-none-eabi-gcc >/dev/null; then
        stage 'source of SQLite' build "$build/firmware/sqlite/sqlite3.c" || return
        stage 'recipient' build "$build/outbox" || return
        stage 'M7 and M3 image' build "$m7" "$m3" || return
    fi
    stage 'M7: 1,000 readings, 20 kills, broker killed' \
        bash tests/firmware/firmware_test.sh "$m7" 1000 20 || return
    stage 'M7: no broker until the flash has turned over, then one' \
        bash tests/firmware/offline_test.sh "$m7" || return
    stage 'M7: operations of the flash fail, then all of them' \
        bash tests/firmware/fault_test.sh "$m7" || return
    stage 'M3: 100 readings, 2 kills, broker killed' \
        bash tests/firmware/firmware_test.sh "$m3" 100 2
}

TIMEFORMAT='%0R s  in all; of the processors %0U s as a user and %0S s in the system'
time {
    run
    status=$?
    printf '%s\n' "${times[@]}"
}
exit "$status"
