#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# install.sh FOLDER [addon] - installs what the tests from Node need into FOLDER, by the lock file
# beside this script, once for each lock file. No script of a package is run; but with `addon`
# better-sqlite3, which has a current SQLite inside, is compiled from its source.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
folder=$1
addon=$folder/node_modules/better-sqlite3/build/Release/better_sqlite3.node

if grep -nE '"resolved"' "$here/package-lock.json"; then
    echo 'the lock file names a registry; see .npmrc beside it'
    exit 1
fi
mkdir -p "$folder"
exec 9>"$folder/lock" # two builds may share it
flock 9
if ! cmp -s "$here/package-lock.json" "$folder/installed"; then
    cp "$here/package.json" "$here/package-lock.json" "$here/.npmrc" "$folder"
    npm ci --prefix "$folder" --ignore-scripts --no-audit --no-fund --loglevel=error
    cp "$here/package-lock.json" "$folder/installed"
fi
if [ "${2:-}" = addon ] && [ ! -e "$addon" ]; then
    prefix=$(dirname "$(dirname "$(command -v node)")")
    [ ! -e "$prefix/include/node/node.h" ] || export npm_config_nodedir=$prefix
    npm_config_build_from_source=true npm rebuild --prefix "$folder" --foreground-scripts \
        --ignore-scripts=false --loglevel=error better-sqlite3 >"$folder/addon.log" 2>&1 ||
        { tail -n 20 "$folder/addon.log"; exit 1; }
fi
