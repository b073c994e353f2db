#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# test_cloudevents_sdk.sh - the published CloudEvents SDK for JavaScript reads what we send.
#
# The SDK and mqtt.js are installed by `npm ci` from the lock file beside sdk.js, once for each lock
# file, into $BUILD/node; no script of a package is run.
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH=$PATH:/usr/sbin:/sbin
build=$(realpath "${BUILD:-build}")
here=tests/integration/node
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

install() {
    mkdir -p "$build/node"
    exec 9>"$build/node/lock" # two builds may share it
    flock 9
    cmp -s "$here/package-lock.json" "$build/node/installed" && return
    cp "$here/package.json" "$here/package-lock.json" "$here/.npmrc" "$build/node"
    npm ci --prefix "$build/node" --ignore-scripts --no-audit --no-fund --loglevel=error
    cp "$here/package-lock.json" "$build/node/installed"
}

if grep -nE '"resolved"' "$here/package-lock.json"; then
    echo 'the lock file names a registry; see .npmrc beside it'
    exit 1
fi
install
NODE_PATH=$build/node/node_modules node "$here/sdk.js" "$folder" "$build/outbox"
