#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# scene.sh - for the tests of the firmware: a broker, a recipient and a board in QEMU. To be sourced.
#
#   usage: scene_begin FIRMWARE.elf    where a tool is missing it says so and ends the test with 0
#
# The recipient is `outbox receive`, whose file is the judge: it stores each event once and in order. The
# broker keeps sessions and messages over a restart. No fixed port; all files are in a temporary folder;
# all that is started ends with the test.
PATH=$PATH:/usr/sbin:/sbin
outbox=${BUILD:-build}/outbox
broker='' recipient='' board='' port='' folder=''

scene_begin() { # FIRMWARE.elf
    elf=$1
    machine=$(basename "$elf" .elf | tr _ -)
    for tool in arm-none-eabi-gcc qemu-system-arm mosquitto sqlite3; do
        command -v "$tool" >/dev/null || { echo "left out: there is no $tool here"; exit 0; }
    done
    folder=$(mktemp -d) || exit 1
    trap stop_all EXIT
    trap 'exit 143' TERM INT HUP
    : >"$folder/board"
    find_port
    start_recipient
}

stop_all() {
    local pid
    for pid in $board $recipient $broker; do kill -KILL "$pid" 2>/dev/null; done
    { wait; } 2>/dev/null
    rm -rf "$folder"
}

fail() {
    echo "$machine: $1"
    for part in board recipient.log broker.log; do
        echo "-- the last of $part:"
        tail -n 15 "$folder/$part"
    done
    exit 1
}

end() { # PID SIGNAL - without bash's remark on it
    kill -"$2" "$1" 2>/dev/null
    { wait "$1"; } 2>/dev/null
}

runs() { kill -0 "$1" 2>/dev/null; } # PID

await() { # TENTHS COMMAND... - until it succeeds
    local i tenths=$1
    shift
    for ((i = 0; i < tenths; i++)); do
        "$@" && return 0
        sleep 0.1
    done
    return 1
}

# ---- Broker ----------------------------------------------------------------------------------------

answers() { (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; }

start_broker() {
    mosquitto -c "$folder/mosquitto.conf" >>"$folder/broker.log" 2>&1 &
    broker=$!
    await 100 eval "answers || ! runs $broker"
    runs "$broker"
}

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

saves() { grep -c 'Saving in-memory database' "$folder/broker.log"; }

save() {
    local before
    before=$(saves)
    kill -USR1 "$broker"
    await 100 eval "[ \$(saves) -gt $before ]" || fail 'the broker does not save'
}

# kill -9. What it has acknowledged must be on the disk then, and mosquitto writes it there now and then
# only: a publisher cannot make good for that. So the board stands still while the broker saves; then the
# board goes on, and what it sends from there on, its whole window, dies with the broker unread.
kill_broker() {
    kill -STOP "$board"
    sleep 0.2 # what is under way has arrived; there is no event to wait for
    save
    kill -STOP "$broker"
    kill -CONT "$board"
    sleep 0.4
    end "$broker" KILL
    start_broker || fail 'the broker does not come back'
}

# ---- Recipient -------------------------------------------------------------------------------------

start_recipient() {
    "$outbox" receive "$folder/received.db" --broker "mqtt://127.0.0.1:$port" --topic 'plant/#' \
        --verbose 2>>"$folder/recipient.log" &
    recipient=$!
    await 200 grep -q 'connected and subscribed' "$folder/recipient.log" ||
        fail 'the recipient does not connect'
}

# Readings as a view; `row` says in which order they were applied.
ask() { # SQL
    sqlite3 -cmd '.timeout 5000' "$folder/received.db" "
        CREATE TEMP VIEW reading AS SELECT n AS row, CAST(data AS TEXT) ->> 'n' AS n FROM received
            WHERE topic = 'plant/7/temp';
        CREATE TEMP VIEW dropped AS SELECT CAST(data AS TEXT) ->> 'count' AS count FROM received
            WHERE topic = 'plant/7/dropped';
        $1"
}

received() { ask 'SELECT count(*) FROM reading'; }

# The broker has acknowledged all; the recipient may be a moment behind.
stop_recipient() { # LAST READING
    await 300 eval "[ \"\$(ask 'SELECT max(n) FROM reading')\" = $1 ]" ||
        fail "the recipient has not got reading $1"
    end "$recipient" TERM
    recipient=''
    "$outbox" verify "$folder/received.db" || fail 'outbox verify finds the file of the recipient wrong'
    tail -n 1 "$folder/recipient.log"
}

expect() { # WHAT SQL RESULT
    local result
    result=$(ask "$2") || fail "the file of the recipient cannot be read"
    [ "$result" = "$3" ] || fail "$1: $result, not $3"
}

# ---- The board -------------------------------------------------------------------------------------

bridge() { echo "socket,id=uart,host=127.0.0.1,port=$port,nodelay=on,reconnect=1"; }

start_board() { # CHARDEV ARGUMENT... - CHARDEV: `bridge` to the broker, or `null,id=uart`
    local chardev=$1 argument arguments=arg=demo
    shift
    for argument in "$@" "flash=$folder/flash"; do arguments+=",arg=$argument"; done
    qemu-system-arm -M "$machine" -nographic -monitor none -kernel "$elf" \
        -chardev "$chardev" -serial chardev:uart \
        -semihosting-config "enable=on,target=native,$arguments" >>"$folder/board" 2>&1 </dev/null &
    board=$!
}

await_end() {
    await 1800 eval "! runs $board" ||
        fail 'the board does not come to an end in three minutes'
    wait "$board" || fail "the board ends with status $?"
    board=''
}

# What the board said last of it: a word, or a number before a word.
said() { # WORD
    sed -nE "s/^demo: .*\\b([0-9]+) $1\\b.*/\\1/p" "$folder/board" | tail -n 1
}

# The most that the board says of its memory at the ends of its lives: stack N, heap N of N. Its stack has
# 7 KB and an eighth of that must be left, as for a table that has to be mended; of the heap a sixteenth, since
# what is free is in pieces. Nothing may have been refused.
gate_memory() {
    local stack heap all
    read -r stack heap all < <(sed -nE 's/^demo: stack ([0-9]+), heap ([0-9]+) of ([0-9]+).*/\1 \2 \3/p' \
        "$folder/board" | awk '$1 > s { s = $1 } $2 > h { h = $2 } END { if (NR) print s, h, $3 }') ||
        fail 'the board does not say what it has used'
    [ "$stack" -le 6272 ] || fail "the stack took $stack bytes of 7,168"
    ! grep -qE 'refused [1-9][0-9]* times' "$folder/board" || fail 'memory was refused'
    [ "$heap" -le $((all - all / 16)) ] || fail "the heap took $heap bytes of $all"
}

print_use() { grep -E 'stack|flash:|accepted' "$folder/board" | tail -n 3; }
