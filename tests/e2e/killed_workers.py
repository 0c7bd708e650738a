#!/usr/bin/env python3
"""Compresses a model in parts on servers that are killed all the while.

    killed_workers.py [--shards 200] [--workers 8] [--kill-every 2] [--hidden 512]

As many servers as workers share one list of addresses; every --kill-every seconds one of them is killed
with SIGKILL and started again.  The output must be that of a single process, byte for byte, and nothing
may be left beside it.  Says how much processor time coordination took, against the single process, where
nobody is killed.  Exit code 1 if anything differs.
"""

import argparse
import dataclasses
import os
import pathlib
import random
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from conftest import CommandLine, Server  # noqa: E402  (the path comes first)
from support.directories import digests  # noqa: E402
from support.held_port import HeldPort  # noqa: E402
from support.synthetic_model import make_model  # noqa: E402


def one_layer_per_shard(path, shards, hidden):
    """A checkpoint of so many shards."""
    return make_model(path, layers=shards, hidden=hidden, intermediate=2 * hidden, vocab=1000,
                      heads=4, kv_heads=2, layers_per_shard=1)


def every(seconds):
    """When to kill: at such intervals."""
    def wait(_, stop):
        return not stop.wait(seconds)
    return wait


def at_parts(*counts):
    """When to kill: as soon as so many parts lie in the place, however fast that is."""
    left = list(counts)

    def wait(place, stop):
        while left and not stop.is_set():
            if sum(".shard-" in path.name for path in place.iterdir()) >= left[0]:
                left.pop(0)
                return True
            time.sleep(0.001)
        return False
    return wait


class Workers:
    """Servers behind one list of addresses, killed at random, by a thread, whenever `wait` returns
    True."""

    def __init__(self, place, count, wait=None, seed=42):
        self.place = place
        self.ports = [HeldPort() for _ in range(count)]
        self.servers = [self._start(i) for i in range(count)]
        self.endpoint = "ipv4:" + ",".join(server.endpoint for server in self.servers)
        self.wait = wait
        self.kills = 0
        self.choose = random.Random(seed)
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._kill)

    def _start(self, which):
        return Server(self.place / f"log-{which}", "--read-root", "/", "--write-root", self.place,
                      "--threads", "1", "--slots", "2",
                      listen=f"127.0.0.1:{self.ports[which].number}")

    def _kill(self):
        while self.wait(self.place, self.stop):
            which = self.choose.randrange(len(self.servers))
            server = self.servers[which]
            server.process.kill()
            server.process.wait()
            self.servers[which] = self._start(which)
            self.kills += 1

    def __enter__(self):
        if self.wait:
            self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        if self.wait:
            self.thread.join()
        for server, port in zip(self.servers, self.ports):
            server.stop()
            port.close()

    def bytes_moved(self):
        return sum(bytes_moved(server.process.pid) for server in self.servers)

    def cpu_seconds(self):
        return sum(cpu_seconds(server.process.pid) for server in self.servers)


def bytes_moved(pid):
    """Read and written by a process, from and to files and sockets, the page cache included."""
    lines = pathlib.Path(f"/proc/{pid}/io").read_text().splitlines()
    counts = dict(line.split(": ") for line in lines)
    return int(counts["rchar"]) + int(counts["wchar"])


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclasses.dataclass
class Run:
    """What a run in parts came to."""
    done: int
    skipped: int
    kills: int
    cpu: float  # seconds of the servers, where none was killed
    same: bool
    left: list


def compress_in_parts(place, model, whole, workers, wait, *options):
    """Plan, all shards, finalize; held against the files of `whole`."""
    place.mkdir()
    with Workers(place, workers, wait) as killed:
        linchpin = CommandLine("--quiet", "--endpoint", killed.endpoint)
        until_done(linchpin, "plan", model, place / "out", "--save", place / "job.json", *options)
        counts = until_done(linchpin, "compress-shards", "--plan", place / "job.json", "--workers",
                            str(workers), "--json").json
        until_done(linchpin, "finalize", "--plan", place / "job.json")
        cpu = 0 if wait else killed.cpu_seconds()
    left = sorted(path.name for path in place.iterdir() if ".shard-" in path.name or path.name[0] == ".")
    return Run(counts["done"], counts["skipped"], killed.kills, cpu,
               digests(place / "out") == digests(whole), left)


def until_done(linchpin, *command):
    """The command again, as long as it says to try again, as whoever runs a job does."""
    while (finished := linchpin.run(*command, timeout=3600)).code == 75:
        pass
    assert finished.code == 0, f"{command}: {finished.err}"
    return finished


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shards", type=int, default=200)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--kill-every", type=float, default=2)
    parser.add_argument("--hidden", type=int, default=512)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        place = pathlib.Path(name)
        model = one_layer_per_shard(place / "model", options.shards, options.hidden)
        with Workers(place, 1) as single:
            linchpin = CommandLine("--quiet", "--endpoint", single.endpoint)
            linchpin("compress", model, place / "whole", timeout=3600)
            alone = single.cpu_seconds()
        calm = compress_in_parts(place / "calm", model, place / "whole", 1, None)
        killed = compress_in_parts(place / "killed", model, place / "whole", options.workers,
                                   every(options.kill_every))
        print(f"{options.shards} shards: single process {alone:.2f} s of processor time, in parts "
              f"{calm.cpu:.2f} s; {killed.kills} kills; "
              f"{'the same bytes' if calm.same and killed.same else 'OTHER BYTES'}; "
              f"left behind: {killed.left or 'nothing'}")
        return 0 if calm.same and killed.same and not killed.left and killed.kills else 1


if __name__ == "__main__":
    sys.exit(main())
