#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# coverage.sh BUILD - runs the tests of a build with --coverage and prints which share of the branches
# of src/ they took; fails under 95 %.
#
# Assertions are compiled out: their failing side is not to be reached. Branches that were not taken are
# in BUILD/missed.txt; those that tests/coverage.missed gives no reason for are printed.
set -euo pipefail
cd "$(dirname "$0")/.."
build=$1
least=95
find "$build" -name '*.gcda' -delete
export BUILD=$build SEEDS=60
programs=$(find "$build/tests/unit" -name 'test_*' -perm -u+x -type f | sort)
# shellcheck disable=SC2086 # names, in words
bash tests/run.sh $programs tests/sim/test_profiles.sh \
    "$build"/tests/integration/test_{delivery,foreign,refusals,restart}
"$build/faults" quick | tail -n 1
"$build/faults" calls 61 | tail -n 1 # other allocations than those of quick
for source in src/*.c; do
    gcov --branch-probabilities --json-format --stdout -o "$build/src" "$source"
done | python3 -c '
import json, sys
least, missed, all_taken, all_branches = float(sys.argv[1]), open(sys.argv[2], "w"), 0, 0
lines = [line.rstrip("\n").split("\t") for line in open("tests/coverage.missed") if line[0] != "#"]
listed, met, unlisted = {tuple(line[:3]) for line in lines}, set(), 0
decoder, text, at = json.JSONDecoder(), sys.stdin.read(), 0
while text[at:].strip():
    at += len(text[at:]) - len(text[at:].lstrip())
    unit, end = decoder.raw_decode(text, at)
    at = end
    for file in unit["files"]:
        if not file["file"].startswith("src/") or not file["file"].endswith(".c"):
            continue
        source, taken, branches = open(file["file"]).read().split("\n"), 0, 0
        for line in file["lines"]:
            of_line = [branch["count"] > 0 for branch in line["branches"]]
            taken += sum(of_line)
            branches += len(of_line)
            if not all(of_line):
                of_source = source[line["line_number"] - 1].strip()
                note = "%s:%d: %d of %d: %s" % (file["file"], line["line_number"],
                                                of_line.count(False), len(of_line), of_source)
                missed.write(note + "\n")
                key = (file["file"], line["function_name"], of_source)
                met.add(key)
                if key not in listed:
                    unlisted += of_line.count(False)
                    print("no reason given: " + note)
        all_taken += taken
        all_branches += branches
        if branches:
            print("%-20s %5d of %5d  %5.1f %%" % (file["file"], taken, branches, 100 * taken / branches))
for key in sorted(listed - met):
    print("taken after all: " + ": ".join(key))
print("%d missed, %d of them without a reason in tests/coverage.missed" % (
      all_branches - all_taken, unlisted))
share = 100 * all_taken / all_branches
print("branches of src/: %d of %d taken, %.1f %%; at least %g %%" % (all_taken, all_branches, share, least))
sys.exit(share < least)
' "$least" "$build/missed.txt"
