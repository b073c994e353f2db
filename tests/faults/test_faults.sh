#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# test_faults.sh - whatever call fails, nothing is lost, invented, half done or wedged. [P1] [P9]
#
# Under a sanitizer, which makes each call some ten times as slow, a smaller sample of the calls.
set -eu
cd "$(dirname "$0")/../.."
case ${FLAGS:-} in
*-fsanitize=*) exec "${BUILD:-build}/faults" sample ;;
*) exec "${BUILD:-build}/faults" quick ;;
esac
