#!/usr/bin/env python3
"""Runs job after job on one server and looks for what it leaves behind.

    soak.py [--jobs 1000] [--seconds N]     as many jobs, or as long, whichever ends first

Good jobs, refused ones, uploads, cancelled and broken ones in turn.  Afterwards the server may have
grown by 20 MB and holds as many descriptors as before; no temporary file is left.  Exit code 1 otherwise.
"""

import argparse
import os
import pathlib
import shutil
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from conftest import CommandLine, Server  # noqa: E402  (the path comes first)

MAX_GROWTH = 20_000_000
WARM_UP = 15  # jobs until allocators and thread pools have what they need


def resident_bytes(pid):
    return int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def settled(measure, limit, seconds=5):
    """What `measure` comes to within a few seconds, or sooner once it is within `limit`."""
    deadline = time.monotonic() + seconds
    while (value := measure()) > limit and time.monotonic() < deadline:
        time.sleep(0.1)
    return value


def run_job(number, linchpin, place):
    """One job of a kind that its number chooses."""
    model, out = place / "model", place / f"out/{number % 4}"
    kind = number % 6
    if kind == 0:
        return linchpin.run("compress", model, out, "--overwrite").code == 0
    if kind == 1:
        return linchpin.run("detect", model).code == 0
    if kind == 2:
        return linchpin.run("compress", model, place / "up", "--upload", "--overwrite").code == 0
    if kind == 3:
        return linchpin.run("detect", place / "absent").code == 42
    if kind == 4:
        return linchpin.run("compress", place / "broken", place / "out/broken").code == 42
    process = linchpin.start("compress", model, place / "out/cancelled")
    time.sleep(0.02 * (number % 7))
    process.kill()
    process.communicate()
    shutil.rmtree(place / "out/cancelled", ignore_errors=True)
    return True


def soak(place, jobs, seconds):
    """Problems found, as lines."""
    CommandLine("--quiet")("demo-model", place / "model")
    shutil.copytree(place / "model", place / "broken")
    weights = place / "broken/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    (place / "out").mkdir()
    server = Server(place / "log", "--read-root", place, "--write-root", place / "out", "--slots", "2")
    linchpin = CommandLine("--quiet", "--endpoint", server.endpoint)
    pid = server.process.pid
    problems = []
    end = time.monotonic() + seconds
    done = 0
    memory = files = None
    while done < jobs and (time.monotonic() < end or done < 2 * WARM_UP):
        if not run_job(done, linchpin, place):
            problems.append(f"job {done} did not end as it had to")
        done += 1
        if done == WARM_UP:
            memory, files = resident_bytes(pid), descriptors(pid)
    grown = settled(lambda: resident_bytes(pid) - memory, MAX_GROWTH)
    opened = settled(lambda: descriptors(pid) - files, 0)
    print(f"{done} jobs: {grown / 1e6:+.1f} MB, {opened:+d} descriptors")
    if grown > MAX_GROWTH:
        problems.append(f"the server grew by {grown} bytes")
    if opened > 0:
        problems.append(f"{opened} more descriptors are open")
    if server.stop() != 0:
        problems.append("the server did not end well")
    left = [path.name for path in (place / "out").iterdir() if path.name.startswith(".")]
    if left:
        problems.append(f"temporary files are left: {left}")
    return problems


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=3600)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        problems = soak(pathlib.Path(place), options.jobs, options.seconds)
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
