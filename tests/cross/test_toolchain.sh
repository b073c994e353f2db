#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# test_toolchain.sh - a program of one's own is built by CMake with the toolchain file, and runs.
#
# With what `make cross` hands over: BUILD, CROSS_COMPILE, SYSROOT, EMULATOR.
set -eu
cd "$(dirname "$0")/../.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cmake -S tests/cross -B "$folder" -DCMAKE_TOOLCHAIN_FILE="$PWD/ports/linux/cross/toolchain.cmake" \
    -DCROSS_COMPILE="$CROSS_COMPILE" -DSYSROOT="$SYSROOT" -DEMULATOR="$EMULATOR" \
    -DOUTBOX_INCLUDE="$PWD/include" -DOUTBOX_LIBRARY="$(realpath "$BUILD/liboutbox.a")"
cmake --build "$folder"
ctest --test-dir "$folder" --output-on-failure
