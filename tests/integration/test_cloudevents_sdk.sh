#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# test_cloudevents_sdk.sh - the published CloudEvents SDK for JavaScript reads what we send.
#
# The SDK and mqtt.js are installed into $BUILD/node, see node/install.sh.
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH=$PATH:/usr/sbin:/sbin
build=$(realpath "${BUILD:-build}")
here=tests/integration/node
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

bash "$here/install.sh" "$build/node"
NODE_PATH=$build/node/node_modules node "$here/sdk.js" "$folder" "$build/outbox"
