#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# check_promises.sh - each promise of the public headers is named by a test.
#
# A promise is an id in brackets, such as "[put-3]", in include/outbox/*.h. It fails for an id that no
# test names, and for an id that tests name but no header gives, of the same family: a slip of the
# pen, or a promise that was taken back.
set -euo pipefail
cd "$(dirname "$0")/.."

ids() { grep -ohE '\[[a-z]+-[0-9]+\]' "$@" | sort -uV || true; }

promised=$(ids include/outbox/*.h)
tests=$(find tests -name '*.c' -o -name '*.py' -o -name 'test_*.sh')
# shellcheck disable=SC2086
tested=$(ids /dev/null $tests)
families=$(sed -E 's/-.*//; s/^/\\/' <<<"$promised" | sort -u | paste -sd '|')

untested=$(comm -23 <(sort <<<"$promised") <(sort <<<"$tested") | sort -V)
unknown=$(comm -13 <(sort <<<"$promised") <(sort <<<"$tested") | grep -E "^($families)-" || true)

[ -z "$untested" ] || echo "Promises that no test names: ${untested//$'\n'/ }"
[ -z "$unknown" ] || echo "Ids in tests that no header gives: ${unknown//$'\n'/ }"
[ -z "$untested$unknown" ] || exit 1
echo "$(wc -l <<<"$promised") promises, each named by a test"
