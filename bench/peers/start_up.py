#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Seconds from the start of a process to the end of its first optimiser step.

    start_up.py COMMAND [ARGUMENT ...]

Reads what the command prints (both streams) until a line that begins with "step 1", then ends it.  One JSON line."""
import json
import re
import subprocess
import sys
import time

FIRST = re.compile(r"^\s*step\s+1\b")


def seconds_to_first_step(command, **options):
    begun = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", **options
    )
    last, taken = "", None
    for line in process.stdout:
        if FIRST.match(line):
            taken = time.perf_counter() - begun
            break
        last = line.strip() or last
    process.kill()
    process.wait()
    if taken is None:
        raise SystemExit(f"{command[0]}: ended before its first step: {last}")
    return taken


if __name__ == "__main__":
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    print(json.dumps({"seconds": seconds_to_first_step(sys.argv[1:])}))
