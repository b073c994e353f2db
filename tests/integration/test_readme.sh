#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# test_readme.sh - the README's program compiles and runs as it stands, it is over by line 40, and
# every test that the README names is there.
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

last=$(awk '/^```c$/ { inside = 1 } inside && /^```$/ { print NR; exit }' README.md)
[ "$last" -le 41 ] || { echo "the program ends in line $((last - 1)) only"; exit 1; }

# Without a broker it says that the events are not settled yet, and the event stays.
awk '/^```c$/ { inside = 1; next } /^```$/ && inside { exit } inside' README.md |
    sed 's/5000/200/' >"$folder/program.c"
grep -q '200' "$folder/program.c"
sed -i 's,mqtt://localhost,mqtt://127.0.0.1:1,' "$folder/program.c"
# A library that was built with a sanitizer asks for a program that is; users have neither.
if nm -D "$BUILD/liboutbox.so" | grep -E '__(asan|tsan)_init' >/dev/null; then
    echo 'only in the plain build'
    exit 0
fi
gcc -std=c11 -Wall -Wextra -Werror -Iinclude "$folder/program.c" -o "$folder/program" \
    -L"$BUILD" -loutbox -lsqlite3 -lpaho-mqtt3as -lpthread
(cd "$folder" && LD_LIBRARY_PATH=$OLDPWD/$BUILD ./program) >"$folder/said"
grep -q 'not settled yet' "$folder/said"
[ "$("$BUILD/outbox" status --json "$folder/plant.db" | grep -c '"pending":1')" -eq 1 ]

# `file`: *test in words*; *another one*
missing=0
while read -r words; do
    name=test_$(tr ' ' '_' <<<"$words")
    grep -rqE "\b$name\b" tests --include='*.c' || { echo "no test is called $name"; missing=1; }
done < <(grep -E '`(unit|integration)/' README.md | grep -oE '\*[a-z][a-z0-9 ]{20,}\*' | tr -d '*')
while read -r file; do
    [ -e "tests/$file.c" ] || { echo "there is no tests/$file.c"; missing=1; }
done < <(grep -oE '`(unit|integration)/test_[a-z_]+`' README.md | tr -d '`' | sort -u)
exit "$missing"
