#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# test_extension.sh - build/outbox.so in the sqlite3 shell, in Python and in Node, whose better-sqlite3 has
# an SQLite of its own inside.
#
# Where a program cannot load extensions, or better-sqlite3 is not installed (in NODE_PATH or in
# $BUILD/node by `make npm`), it says so and goes on.
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
extension=$PWD/$BUILD/outbox
database=$folder/plant.db

if nm -D "$extension.so" | grep -E '__(asan|tsan)_' >/dev/null; then
    echo 'only in the plain build'
    exit 0
fi

fail() {
    echo "$1"
    exit 1
}

expect() { # WHAT FOUND EXPECTED
    [ "$2" = "$3" ] || fail "$1: found '$2', expected '$3'"
}

stored() {
    sqlite3 "$database" "$1"
}

# The extension must not bring an SQLite of its own, and give nothing but its entry.
nm -D -u "$extension.so" | grep -q 'sqlite3_' && fail 'it links SQLite'
expect 'symbols' "$(nm -D --defined-only "$extension.so" | awk '{ print $3 }')" sqlite3_outbox_init

# ---- The sqlite3 shell, under trusted_schema=OFF ------------------------------------------------

shell() {
    sqlite3 -bail "$database" 'PRAGMA trusted_schema = OFF' \
        "SELECT load_extension('$extension')" "$@" 2>&1 | grep -v '^$' || true
}

expect 'no outbox' "$(shell "SELECT outbox_put('a', 'b')" | grep -c 'outbox_init')" 1
expect 'init' "$(shell "SELECT outbox_init('pump-7')")" pump-7
expect 'put' "$(shell "BEGIN; SELECT outbox_put('plant/7', 'warm'); ROLLBACK;
    SELECT outbox_put('plant/7', '{\"t\":1}', '{\"content_type\":\"application/json\",
    \"key\":\"7\",\"retain\":true,\"lane\":\"urgent\"}')")" $'1\n1'
expect 'urgent' "$(stored "SELECT topic, payload, key, retain, content_type FROM outbox_urgent
    WHERE id = 1")" 'plant/7|{"t":1}|7|1|application/json'
expect 'rolled back' "$(stored 'SELECT max(id) FROM outbox_event')" 0
for options in '{"lane":"slow"}' '{"colour":1}' '{' '{"key":""}'; do
    shell "SELECT outbox_put('a', 'b', '$options')" | grep -qi error || fail "$options is taken"
done
expect 'status' "$(shell "SELECT json_extract(outbox_status(), '\$.pending')")" 1
stored 'CREATE TABLE reading(id INTEGER PRIMARY KEY, site TEXT, celsius)'
shell "SELECT outbox_capture_add('reading', 'plant/{site}', '{\"operations\":[\"insert\",\"delete\"],
    \"columns\":[\"id\",\"celsius\"],\"where\":\"NEW.id > 1\"}')" | grep . && fail 'add failed'
stored "INSERT INTO reading VALUES(1, 'north', 1), (2, 'south', 2); UPDATE reading SET celsius = 3"
expect 'captured' "$(stored "SELECT group_concat(type || v1) FROM outbox_event WHERE type IS NOT NULL")" c2
expect 'doctor' "$(shell 'SELECT outbox_capture_doctor()')" '[]'
stored 'ALTER TABLE reading ADD COLUMN bar'
expect 'drift' "$(shell "SELECT json_extract(outbox_capture_list(), '\$[0].state')")" drifted
expect 'resume' "$(shell 'SELECT outbox_capture_suspend()' 'SELECT outbox_capture_resume()' \
    "SELECT outbox_capture_snapshot('reading')")" 1
shell "SELECT outbox_capture_remove('reading')" | grep . && fail 'remove failed'
# A file of somebody else's cannot call them.
stored "CREATE TRIGGER theirs AFTER INSERT ON reading BEGIN SELECT outbox_put('a', 'b'); END"
shell "INSERT INTO reading(id) VALUES(9)" | grep -q 'unsafe use' || fail 'a trigger can call them'
stored 'DROP TRIGGER theirs'
echo 'the sqlite3 shell: done'

# ---- Python -------------------------------------------------------------------------------------

python=
for candidate in python3 /usr/bin/python3; do
    "$candidate" -c 'import sqlite3; sqlite3.connect(":memory:").enable_load_extension(True)' \
        2>/dev/null && python=$candidate && break
done
if [ -n "$python" ]; then
    "$python" - "$database" "$extension" <<'PROGRAM'
import json, sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.enable_load_extension(True)
db.load_extension(sys.argv[2])
before = json.loads(db.execute("SELECT outbox_status()").fetchone()[0])["pending"]
with db:
    db.execute("INSERT INTO reading(site) VALUES('py')")
    first = db.execute("SELECT outbox_put('plant/py', ?)", (b"\x00\xff",)).fetchone()[0]
try:
    with db:
        db.execute("INSERT INTO reading(site) VALUES('never')") # Python begins a transaction
        db.execute("SELECT outbox_put('plant/py', 'never')").fetchone()
        raise KeyError
except KeyError:
    pass
try:
    db.execute("SELECT outbox_put('a/#', 'x')").fetchone()
    sys.exit("a bad topic was taken")
except sqlite3.OperationalError as error:
    assert "topic" in str(error), error
after = json.loads(db.execute("SELECT outbox_status()").fetchone()[0])["pending"]
assert after == before + 1, (before, after)
row = db.execute("SELECT payload FROM outbox_event WHERE id = ?", (first,)).fetchone()
assert row == (b"\x00\xff",), row
db.close()
PROGRAM
    echo 'Python: done'
else
    echo 'Python: it cannot load extensions here'
fi

# ---- Node ---------------------------------------------------------------------------------------

export NODE_PATH=${NODE_PATH:-$PWD/$BUILD/node/node_modules}
if command -v node >/dev/null && node -e 'require("better-sqlite3")(":memory:")' 2>/dev/null; then
    node - "$database" "$extension" <<'PROGRAM'
const [path, extension] = process.argv.slice(2)
const assert = require('assert')
const db = require('better-sqlite3')(path)
db.loadExtension(extension)
const pending = () => JSON.parse(db.prepare('SELECT outbox_status()').pluck().get()).pending
const before = pending()
const put = db.prepare('SELECT outbox_put(?, ?)').pluck()
db.transaction(() => { put.get('plant/node', 'warm'); put.get('plant/node', 'hot') })()
assert.throws(db.transaction(() => { put.get('plant/node', 'never'); throw new Error('no') }))
assert.throws(() => put.get('a/+', 'x'), /topic/)
assert.strictEqual(pending(), before + 2)
db.prepare("SELECT outbox_capture_add('reading', 'plant/{site}')").get()
db.prepare("INSERT INTO reading(site) VALUES('js')").run()
assert.strictEqual(pending(), before + 3)
db.close()
PROGRAM
    echo "Node: done, with SQLite $(node -p 'require("better-sqlite3")(":memory:")
        .prepare("SELECT sqlite_version()").pluck().get()')"
else
    echo 'Node: better-sqlite3 is not installed'
fi
expect 'verify' "$("$BUILD/outbox" verify "$database" | grep -ci wrong || true)" 0
