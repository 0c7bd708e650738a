#!/usr/bin/env python3
"""Runs a command some times and prints one row: name, best wall time, its processor time, peak memory.

    measure.py [--runs N] [--before COMMAND] [--bytes N] NAME COMMAND...

Peak memory is the largest sum, over the command and all processes that it started (a private server
counts), of their resident sets, looked at every 20 ms; file pages that a process maps count too.
Processor time is that of the command and of what it waited for, in the quickest run: other programs on
the machine lengthen it far less than the wall time.  --before runs untimed ahead of every run; --bytes adds a column of GB/s.
"""

import argparse
import pathlib
import resource
import subprocess
import sys
import threading
import time


def parents_and_memory():
    """{process id: (parent's id, resident bytes)} of everything that runs."""
    processes = {}
    for directory in pathlib.Path("/proc").iterdir():
        if not directory.name.isdigit():
            continue
        try:
            # The name may hold spaces and brackets: fields count from the last bracket.
            fields = (directory / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended meanwhile
        processes[int(directory.name)] = (int(fields[1]), int(fields[21]) * 4096)
    return processes


def tree_memory(root):
    processes = parents_and_memory()
    tree = {root}
    grew = True
    while grew:
        below = {pid for pid, (parent, _) in processes.items() if parent in tree} - tree
        tree |= below
        grew = bool(below)
    return sum(processes[pid][1] for pid in tree if pid in processes)


def run(command):
    """(seconds, processor seconds, peak bytes) of one run; ends the program if it fails."""
    peak = 0
    ended = threading.Event()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.monotonic()
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True) as process:
        def watch():
            nonlocal peak
            while not ended.wait(0.02):
                peak = max(peak, tree_memory(process.pid))
        watcher = threading.Thread(target=watch)
        watcher.start()
        out, err = process.communicate()
        seconds = time.monotonic() - begin
        ended.set()
        watcher.join()
    if process.returncode != 0:
        sys.exit(f"{command}: exit {process.returncode}\n{out}{err}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, used, peak


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--before", default="true")
    parser.add_argument("--bytes", type=int, default=0)
    parser.add_argument("name")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    results = []
    for _ in range(options.runs):
        subprocess.run(options.before, shell=True, check=True)
        results.append(run(options.command))
    seconds, used, _ = min(results)
    peak = max(result[2] for result in results)
    rate = f"{options.bytes / seconds / 1e9:8.2f} GB/s" if options.bytes else ""
    print(f"{options.name:<44}{seconds:9.2f} s {used:9.2f} s {peak / 1e6:9.0f} MB {rate}", flush=True)


if __name__ == "__main__":
    main()
