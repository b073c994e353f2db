#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# demo.sh - a sensor, a broker that goes away, a kill -9: watch that nothing is lost.
#
# `make demo` runs it, in some 20 seconds. It starts a mosquitto of its own on a free port of the
# loopback interface and the example sensor, and records what a subscriber gets. The end compares
# the readings in the sensor's table with the events that arrived; any difference is a failure.
# All files are in a temporary folder, which is removed at the end, also after Ctrl-C.
set -u
cd "$(dirname "$0")/.." || exit 1
PATH=$PATH:/usr/sbin:/sbin
unset http_proxy https_proxy all_proxy HTTP_PROXY HTTPS_PROXY # the broker is next door
build=${BUILD:-build}
folder=$(mktemp -d) || exit 1
db=$folder/plant.db
received=$folder/received
broker='' recorder='' sensor='' port=''
kills=5

# ---- Talking -------------------------------------------------------------------------------------

bold='' green='' red='' plain=''
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
    bold=$'\e[1m' green=$'\e[32m' red=$'\e[31m' plain=$'\e[0m'
fi

step=0
heading() {
    step=$((step + 1))
    printf '\n%s%d. %s%s\n' "$bold" "$step" "$1" "$plain"
}
say() { printf '   %s\n' "$1"; }
fail() {
    printf '%sdemo: %s%s\n' "$red" "$1" "$plain" >&2
    exit 1
}

# ---- Processes -----------------------------------------------------------------------------------

stop_all() {
    local pid
    trap '' INT TERM HUP
    for pid in $sensor $recorder $broker; do
        kill -KILL "$pid" 2>/dev/null
    done
    { wait; } 2>/dev/null
    rm -rf "$folder"
}
trap stop_all EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# Sends a signal and waits for the end, without bash's remark on it.
end() { # pid signal
    kill -"$2" "$1" 2>/dev/null
    { wait "$1"; } 2>/dev/null
}

answers() { (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; }

# Starts the broker at $port. It keeps sessions and messages over a restart.
start_broker() {
    mosquitto -c "$folder/mosquitto.conf" >"$folder/mosquitto.log" 2>&1 &
    broker=$!
    for _ in {1..100}; do
        kill -0 "$broker" 2>/dev/null || return 1
        answers && return 0
        sleep 0.05
    done
    return 1
}

configure_broker() {
    port=$((20000 + RANDOM % 20000))
    cat >"$folder/mosquitto.conf" <<CONF
listener $port 127.0.0.1
allow_anonymous true
persistence true
persistence_location $folder/
max_queued_messages 0
user $(id -un)
CONF
}

find_port() {
    for _ in {1..20}; do
        configure_broker
        answers && continue
        start_broker && return
    done
    cat "$folder/mosquitto.log" >&2
    fail 'mosquitto does not start'
}

# The session is made first, so that nothing is missed before the recorder is there.
start_recorder() {
    local command=(mosquitto_sub -h 127.0.0.1 -p "$port" -q 1 -c -i recorder -t 'plant/#')
    "${command[@]}" -E || fail 'mosquitto_sub cannot subscribe'
    "${command[@]}" >"$received" 2>/dev/null &
    recorder=$!
}

start_sensor() { # milliseconds between two readings
    "$build/examples/sensor" "$db" "mqtt://127.0.0.1:$port" "$1" &
    sensor=$!
}

# ---- Figures -------------------------------------------------------------------------------------

query() { sqlite3 -cmd '.timeout 5000' "$db" "$1"; }
readings() { query 'SELECT count(*) FROM reading'; }
arrived() { sed -nE 's/.*"id":"([0-9]+)".*/\1/p' "$received" | sort -u | wc -l; }
pending() { "$build/outbox" status --json "$db" | sed -E 's/.*"pending":([0-9]+).*/\1/'; }

# Read in this order, so that a reading between two looks makes no event too many.
figures() {
    local events stored
    events=$(arrived)
    stored=$(readings)
    printf '   readings committed %6d     events received %6d     still to come %6d\n' \
        "$stored" "$events" $((stored - events))
}

all_arrived() { [ "$(arrived)" -ge "$(($(readings) - 2))" ]; }

watch() { # seconds
    for ((i = 0; i < $1; i++)); do
        sleep 1
        figures
    done
}

# ---- Death in a transaction ----------------------------------------------------------------------

is_stopped() { [[ $(<"/proc/$sensor/stat") == *') T '* ]]; }

# A writer in a transaction holds the lock on byte 120 of the -shm file.
is_writing() { grep -qE " $sensor [0-9a-f:]+:$(stat -c %i "$db-shm") 120 120$" /proc/locks; }

# Freezes the sensor again and again, until it is caught with its transaction open.
catch_in_transaction() {
    for _ in {1..2000}; do
        kill -STOP "$sensor" || fail 'the sensor has died'
        until is_stopped; do
            [ -e "/proc/$sensor" ] || fail 'the sensor has died'
        done
        is_writing && return 0
        kill -CONT "$sensor"
        sleep 0.003
    done
    return 1
}

kill_in_transaction() {
    local how='with its transaction open'
    start_sensor 1
    sleep 0.3
    catch_in_transaction || how='at a random moment'
    end "$sensor" KILL
    sensor=''
    say "killed with -9 $how; committed are $(readings) readings"
}

# ---- The comparison ------------------------------------------------------------------------------

# Prints: readings, events, lost, events of no reading, out of order, repeated.
compare() {
    sed -nE 's/.*"id":"([0-9]+)".*"reading":([0-9]+),"celsius":([0-9.]+).*/\1|\2|\3/p' \
        "$received" >"$folder/events"
    sqlite3 -separator ' ' :memory: <<SQL
ATTACH '$db' AS plant;
CREATE TABLE event(id INTEGER, reading INTEGER, celsius TEXT);
.separator |
.import '$folder/events' event
.separator ' '
CREATE TABLE first AS SELECT id, reading, celsius, min(rowid) AS n FROM event GROUP BY id;
CREATE TABLE reading AS SELECT id, printf('%.3f', celsius) AS celsius FROM plant.reading;
SELECT (SELECT count(*) FROM reading),
  (SELECT count(*) FROM first),
  (SELECT count(*) FROM (SELECT id, celsius FROM reading EXCEPT SELECT reading, celsius FROM first)),
  (SELECT count(*) FROM (SELECT reading, celsius FROM event EXCEPT SELECT id, celsius FROM reading)),
  (SELECT count(*) FROM (SELECT id, max(id) OVER (ORDER BY n) AS highest FROM first) WHERE id < highest),
  (SELECT count(*) FROM event) - (SELECT count(*) FROM first);
SQL
}

report() {
    local stored events lost undone disordered repeated
    read -r stored events lost undone disordered repeated < <(compare)
    say "$stored readings are committed in the sensor's table"
    say "$events different events arrived at the recipient"
    say "$lost were lost"
    say "$undone came from a transaction that was rolled back"
    say "$disordered came out of order"
    say "$repeated came once more, with the id they had before"
    if [ "$stored" -eq 0 ] || [ "$events" -ne "$stored" ] || [ "$lost" -ne 0 ] ||
        [ "$undone" -ne 0 ] || [ "$disordered" -ne 0 ]; then
        fail 'the recipient does not have what the sensor committed'
    fi
    printf '\n%sEvery committed reading arrived, in order, and nothing else.%s\n' "$green" "$plain"
}

# ---- The story -----------------------------------------------------------------------------------

find_port
start_recorder

heading "Online: the sensor stores a reading every 100 ms, the broker takes its event"
start_sensor 100
watch 3

heading 'The broker goes away: the sensor does not notice, its events are stored'
end "$broker" TERM
broker=''
watch 3
say "$build/outbox status plant.db says:"
"$build/outbox" status "$db" | sed 's/^/      /'

heading "The sensor is killed with -9 in the middle of a transaction, $kills times"
end "$sensor" KILL
sensor=''
for ((k = 0; k < kills; k++)); do
    kill_in_transaction
done
figures

heading 'The sensor is started again, and then the broker: what was stored is sent'
start_sensor 100
sleep 1
start_broker || fail 'mosquitto does not start again'
for _ in {1..20}; do
    watch 1
    all_arrived && break
done

heading 'The sensor is stopped: it waits until its last event is acknowledged'
end "$sensor" INT
sensor=''
[ "$(pending)" -eq 0 ] || fail 'events are left in the outbox'
for _ in {1..50}; do
    [ "$(arrived)" -lt "$(readings)" ] || break
    sleep 0.1
done
figures

heading 'The recipient compares'
report
