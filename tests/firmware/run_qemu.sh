#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# run_qemu.sh - runs a firmware in QEMU, with the arguments that follow; its exit status is ours.
#
#   usage: run_qemu.sh FIRMWARE.elf [NAME=VALUE...]
set -u
elf=$1
shift
machine=$(basename "$elf" .elf | tr _ -)
arguments="arg=demo"
for argument in "$@"; do arguments+=",arg=$argument"; done
echo "== $machine $*"
exec timeout --kill-after=2 "${QEMU_TIMEOUT:-120}" qemu-system-arm -M "$machine" -nographic -monitor none \
    -serial none -semihosting-config "enable=on,target=native,$arguments" -kernel "$elf"
