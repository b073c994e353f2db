#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# firmware_test.sh - the demo firmware in QEMU sends to a real mosquitto through its UART.
#
#   usage: firmware_test.sh FIRMWARE.elf [EVENTS [KILLS]]
#
# QEMU bridges the UART to the broker's port, and the flash is a file. The board samples until its table
# has EVENTS readings. Meanwhile QEMU is killed with -9 again and again, each time after another while,
# and started again on the same file; in between the broker is restarted. At the end the board has
# settled everything. What mosquitto_sub has received is judged: each id stands for one reading, and
# after dropping the repeats of an id the readings are 1, 2, 3 ... up to the last. [P1] [P3] [P5]
#
# Where QEMU or the compiler is missing it says so and is left out. No fixed port; all files are in a
# temporary folder; all that is started ends with it.
set -u
elf=${1:?usage: firmware_test.sh FIRMWARE.elf [EVENTS [KILLS]]}
events=${2:-1000}
kills=${3:-20}
PATH=$PATH:/usr/sbin:/sbin

for tool in arm-none-eabi-gcc qemu-system-arm mosquitto mosquitto_sub; do
    command -v "$tool" >/dev/null || { echo "left out: there is no $tool here"; exit 0; }
done

machine=$(basename "$elf" .elf | tr _ -)
folder=$(mktemp -d) || exit 1
received=$folder/received
broker='' recorder='' board='' port=''

stop_all() {
    local pid
    for pid in $board $recorder $broker; do kill -KILL "$pid" 2>/dev/null; done
    { wait; } 2>/dev/null
    rm -rf "$folder"
}
trap stop_all EXIT
trap 'exit 143' TERM INT HUP

fail() {
    echo "firmware-test: $1"
    echo '-- the last of the board:'
    tail -n 20 "$folder/board"
    echo '-- the last of the broker:'
    tail -n 10 "$folder/broker.log"
    exit 1
}

end() { # PID SIGNAL - without bash's remark on it
    kill -"$2" "$1" 2>/dev/null
    { wait "$1"; } 2>/dev/null
}

# ---- Broker and recorder --------------------------------------------------------------------------

answers() { (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; }

start_broker() {
    mosquitto -c "$folder/mosquitto.conf" >>"$folder/broker.log" 2>&1 &
    broker=$!
    for _ in {1..200}; do
        kill -0 "$broker" 2>/dev/null || return 1
        answers && return 0
        sleep 0.05
    done
    return 1
}

# Sessions and messages outlive a restart, so that nothing is lost behind the broker's PUBACK.
find_port() {
    for _ in {1..20}; do
        port=$((20000 + RANDOM % 20000))
        answers && continue
        printf '%s\n' "listener $port 127.0.0.1" 'allow_anonymous true' 'persistence true' \
            "persistence_location $folder/" 'max_queued_messages 0' "user $(id -un)" \
            >"$folder/mosquitto.conf"
        start_broker && return
    done
    fail 'no broker can be started'
}

start_recorder() {
    mosquitto_sub -V 5 -h 127.0.0.1 -p "$port" -i recorder -c -x 3600 -q 1 -t 'plant/#' -F '%P|%p' \
        >>"$received" 2>"$folder/recorder.log" &
    recorder=$!
    for _ in {1..200}; do
        grep -q 'recorder' "$folder/broker.log" && return
        sleep 0.05
    done
    fail 'the recorder does not connect'
}

# ---- The board -------------------------------------------------------------------------------------

start_board() {
    qemu-system-arm -M "$machine" -nographic -monitor none -kernel "$elf" \
        -chardev "socket,id=uart,host=127.0.0.1,port=$port,nodelay=on,reconnect=1" -serial chardev:uart \
        -semihosting-config "enable=on,target=native,arg=demo,arg=events=$events,arg=ms=10,arg=drain=1,arg=flash=$folder/flash" \
        >>"$folder/board" 2>&1 </dev/null &
    board=$!
}

lines() { wc -l <"$received"; }

# Waits until the board has delivered something in this life, or has ended.
await_progress() { # LINES
    for _ in {1..600}; do
        [ "$(lines)" -gt "$1" ] && return 0
        kill -0 "$board" 2>/dev/null || return 0
        sleep 0.05
    done
    fail 'nothing arrives for half a minute'
}

restart_broker() {
    end "$broker" TERM
    start_broker || fail 'the broker does not come back'
}

run_lives() {
    local life before
    for ((life = 1; life <= kills; life++)); do
        start_board
        before=$(lines)
        [ $((life % 4)) -ne 1 ] || await_progress "$before" # in the other lives it may die before
        [ "$life" -ne $((kills / 2)) ] || restart_broker
        sleep "0.$((10 + RANDOM % 50))"
        if ! kill -0 "$board" 2>/dev/null; then
            { wait "$board"; } 2>/dev/null
            echo "firmware-test: the board was ready before kill $life"
            return
        fi
        end "$board" KILL
        killed=$life
    done
}

finish() {
    start_board
    for _ in {1..1800}; do
        kill -0 "$board" 2>/dev/null || break
        sleep 0.1
    done
    kill -0 "$board" 2>/dev/null && fail 'the board does not come to an end in three minutes'
    wait "$board" || fail "the board ends with status $?"
    board=''
}

# ---- Judging ---------------------------------------------------------------------------------------

# Each line: the user properties, a bar, the payload.
judge() {
    awk -v events="$events" '
        function bad(why) { print "firmware-test: " why ": " $0; wrong = 1; exit 1 }
        match($0, /(^|[^a-z])id:[0-9]+/) { id = substr($0, RSTART, RLENGTH); sub(/.*:/, "", id) }
        !match($0, /"n":[0-9]+/) { bad("no reading") }
        {
            n = substr($0, RSTART + 4, RLENGTH - 4) + 0
            if (id in reading) {
                if (reading[id] != n) bad("an id stands for two readings")
                repeats++
                next
            }
            if (id == "") bad("no id")
            reading[id] = n
            if (n != ++last) bad("expected reading " last)
            if (id + 0 <= highest) bad("an id is out of order")
            highest = id + 0
        }
        END {
            if (wrong) exit 1
            if (last != events) { print "firmware-test: " last " readings of " events; exit 1 }
            printf "%d readings, none missing, in order; %d repeated under the same id\n", last, repeats
        }' "$received"
}

# What the board says at the end of its memory: stack N, heap N of N. Its stack has 8 KB, and an eighth of
# it must be left; of the heap a sixteenth, since what is free is in pieces.
gate_memory() {
    sed -nE 's/^demo: stack ([0-9]+), heap ([0-9]+) of ([0-9]+).*/\1 \2 \3/p' "$folder/board" | tail -n 1 | {
        read -r stack heap all || fail 'the board does not say what it has used'
        [ "$stack" -le 7168 ] || fail "the stack took $stack bytes of 8,192"
        [ "$heap" -le $((all - all / 16)) ] || fail "the heap took $heap bytes of $all"
    } || exit 1
}

: >"$received"
: >"$folder/board"
killed=0
find_port
start_recorder
run_lives
finish
for _ in {1..200}; do # the broker has acknowledged all; the recorder may be a moment behind
    grep -q "\"n\":$events," "$received" && break
    sleep 0.05
done
echo "$machine: killed $killed times, broker restarted once"
judge || fail 'what was received is not what was sent'
gate_memory
grep -E 'stack|flash:|accepted' "$folder/board" | tail -n 3
