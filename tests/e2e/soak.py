#!/usr/bin/env python3
"""Runs job after job on one server and looks for what it leaves behind.

    soak.py [--jobs 1000] [--seconds N]     as many jobs, or as long, whichever ends first

Good jobs, refused ones, uploads, cancelled, broken and killed ones in turn; every 50 jobs a line says what
the server holds.  Afterwards it may have grown by 20 MB and holds as many descriptors as before; no
temporary file is left.  Exit code 1 otherwise.
"""

import argparse
import contextlib
import hashlib
import os
import pathlib
import sys
import tempfile
import time

import grpc

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from conftest import CommandLine, Server  # noqa: E402  (the path comes first)
from support.foreign_client import CHUNK, ForeignClient, reason_of  # noqa: E402
from support.patience import await_that  # noqa: E402

MAX_GROWTH = 20_000_000
SETTLES_WITHIN = 60  # seconds; what is given back is given back much sooner
WARM_UP = 15  # jobs until allocators and thread pools have what they need


def resident_bytes(pid):
    return int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def settled(measure, limit):
    """What `measure` comes to in the end, as soon as it is within `limit`."""
    with contextlib.suppress(AssertionError):
        await_that(lambda: measure() <= limit, patience=SETTLES_WITHIN)
    return measure()


def parts_of(model):
    """The messages that upload a checkpoint."""
    yield {"options": {}}
    for path in sorted(model.iterdir()):
        data = path.read_bytes()
        yield {"file": {"name": path.name, "size": len(data)}}
        for offset in range(0, len(data), CHUNK):
            yield {"chunk": {"offset": offset, "data": data[offset:offset + CHUNK]}}
        yield {"end": {"sha256": hashlib.sha256(data).hexdigest()}}
    yield {"finish": {}}


def outcome(call):
    """"OK", the reason that an error gives, or the name of its code."""
    try:
        call()
        return "OK"
    except grpc.RpcError as error:
        return reason_of(error) or error.code().name


def runs(server):
    """Whether a compression runs."""
    return server.metrics()['linchpin_jobs_in_progress{kind="compress"}'] > 0


def cancel(client, server, number, **fields):
    """Begins to compress and gives up: at once, when the work runs, or when something is heard of it."""
    function, request = client.method("CompressModel")
    call = function(request(**fields))
    if number % 3 == 1:
        await_that(lambda: runs(server) or call.done(), "a job")
    elif number % 3 == 2:
        next(call)
    call.cancel()
    list(call)


def kill(linchpin, server, *arguments):
    """Begins a command and kills it, with the connection that it has, when its work runs."""
    process = linchpin.start(*arguments)
    await_that(lambda: runs(server) or process.poll() is not None, "a job")
    process.kill()
    process.communicate()


def run_job(number, client, linchpin, server, place):
    """One job of a kind that its number chooses; whether it ended as it had to."""
    model, out = str(place / "model"), str(place / f"out/{number % 4}")
    jobs = [
        (lambda: client.call("CompressModel", source=model, destination=out, overwrite=True), ["OK"]),
        (lambda: client.call("DetectSuperWeights", source=model), ["OK"]),
        (lambda: list(client.upload(parts_of(place / "model"))), ["OK"]),
        (lambda: client.call("DetectSuperWeights", source=model + "/absent"), ["SOURCE_NOT_FOUND"]),
        (lambda: client.call("CompressModel", source=str(place / "broken"), destination=out,
                             overwrite=True), ["TENSOR_RANGE_INVALID"]),
        (lambda: cancel(client, server, number // 7, source=model, destination=out, overwrite=True),
         ["OK", "CANCELLED"]),
        (lambda: client.call("PlanCompression", source=model, destination=str(place / "out/new")),
         ["OK"]),
    ]
    if number % 50 == 49:
        kill(linchpin, server, "compress", model, out, "--overwrite")
        return True
    job, expected = jobs[number % len(jobs)]
    # A job that was given up may hold its slot for a moment.
    told = await_that(lambda: (said := outcome(job)) != "BUSY" and said, "a free slot")
    if told not in expected:
        print(f"job {number}: {told}", file=sys.stderr)
    return told in expected


def soak(place, jobs, seconds, leak=lambda server: contextlib.nullcontext()):
    """Problems found, as lines.  What leak(server) holds is held from the end of the warm-up on."""
    CommandLine("--quiet")("demo-model", place / "model")
    (place / "broken").mkdir()
    for path in (place / "model").iterdir():
        cut = 100 if path.suffix == ".safetensors" else 0
        (place / "broken" / path.name).write_bytes(path.read_bytes()[:path.stat().st_size - cut])
    (place / "out").mkdir()
    server = Server(place / "log", "--read-root", place, "--write-root", place / "out", "--slots", "2")
    linchpin = CommandLine("--quiet", "--endpoint", server.endpoint)
    pid = server.process.pid
    problems = []
    end = time.monotonic() + seconds
    done = 0
    memory = files = None
    with ForeignClient(server.endpoint) as client, contextlib.ExitStack() as held:
        while done < jobs and (time.monotonic() < end or done < 2 * WARM_UP):
            if not run_job(done, client, linchpin, server, place):
                problems.append(f"job {done} did not end as it had to")
            done += 1
            if done == WARM_UP:
                memory, files = resident_bytes(pid), descriptors(pid)
                held.enter_context(leak(server))
            if done % 50 == 0:
                print(f"after {done} jobs: {resident_bytes(pid) / 1e6:.1f} MB", flush=True)
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
