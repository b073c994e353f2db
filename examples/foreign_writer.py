#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""foreign_writer.py - reports readings through an outbox with nothing but plain SQL.

usage: foreign_writer.py [DATABASE [COUNT]]

The reading and its event are one transaction, so after a crash both are there or neither is. The
forwarder, in another process, finds the event within a second. The outbox is made once, by
`outbox init DATABASE`, and sent by `outbox forward DATABASE --broker URL`.
"""
import json
import random
import sqlite3
import sys


def store(db, celsius):
    with db:  # commits at its end, rolls back if an exception leaves it
        cursor = db.execute("INSERT INTO reading(celsius) VALUES(?)", (celsius,))
        payload = json.dumps({"reading": cursor.lastrowid, "celsius": celsius})
        db.execute(
            "INSERT INTO outbox_event(topic, payload, content_type) VALUES(?, ?, ?)",
            ("plant/7/temp", payload, "application/json"),
        )


def main(path="plant.db", count="1"):
    db = sqlite3.connect(path, timeout=5)
    db.execute("CREATE TABLE IF NOT EXISTS reading(id INTEGER PRIMARY KEY, celsius REAL)")
    for _ in range(int(count)):
        store(db, round(random.uniform(20, 25), 3))
    db.close()


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except sqlite3.Error as error:
        sys.exit(f"foreign_writer.py: {error}")
