#!/usr/bin/env python3
"""What the service itself costs, each figure beside what it is to be held against, in one run:

    service.py [--calls 300] [--mib 256]

  small plan, refusal, health     p50 and p99 of one caller, in ms, on a gRPC channel from Python
  tiny model                      compressions and detections per second, one and two callers
  bytes                           a compression whose files are sent and come back, beside one by path
  S3                              a source and a destination on s3rver: what boto3 takes to read and write the
                                  same bytes, and what a job takes that reads, or writes, little else

The programs are those of conftest.binaries().
"""

import argparse
import concurrent.futures
import os
import pathlib
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import boto3
import grpc
from botocore.config import Config
from grpc_health.v1 import health_pb2, health_pb2_grpc

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from conftest import ROOT, CommandLine, Server  # noqa: E402  (the path comes first)
from support.foreign_client import CHUNK, ForeignClient  # noqa: E402
from support.npm import MODULES, NODE  # noqa: E402
from support.synthetic_model import make_model  # noqa: E402

KEYS = {"AWS_ACCESS_KEY_ID": "S3RVER", "AWS_SECRET_ACCESS_KEY": "S3RVER"}


def latencies(call, count):
    seconds = []
    for _ in range(count):
        begin = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begin)
    seconds.sort()
    return seconds


def say(name, seconds):
    p50, p99 = (seconds[int(len(seconds) * part)] * 1e3 for part in (0.5, 0.99))
    print(f"{name:28} p50 {p50:7.2f} ms   p99 {p99:7.2f} ms   ({len(seconds)} calls)", flush=True)


def bench_calls(place, model, count):
    server = Server(place / "calls.log", "--read-root", "/", "--write-root", place, "--slots", "1")
    with ForeignClient(server.endpoint) as client, ForeignClient(server.endpoint) as holder:
        health = health_pb2_grpc.HealthStub(client.channel)
        check = latencies(lambda: health.Check(health_pb2.HealthCheckRequest()), count)
        plan = latencies(lambda: client.call("PlanCompression", source=str(model)), count)
        stop = threading.Event()

        def stalled():
            yield {"options": {}}
            yield {"file": {"name": "a", "size": CHUNK}}
            stop.wait(60)

        held = holder.upload(stalled())
        while not server.metrics()['linchpin_jobs_in_progress{kind="artifact"}']:
            time.sleep(0.01)

        def refused():
            try:
                client.call("DetectSuperWeights", source=str(model))
                raise AssertionError("it was not refused")
            except grpc.RpcError as error:
                assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED

        refusal = latencies(refused, count)
        stop.set()
        held.cancel()
    server.stop()
    say("health (for comparison)", check)
    say("plan of a small model", plan)
    say("refusal", refusal)


def bench_jobs(place, model, count):
    server = Server(place / "jobs.log", "--read-root", "/", "--write-root", place, "--slots", "2")

    def run(caller, kind):
        with ForeignClient(server.endpoint) as client:
            for _ in range(count // 20):
                if kind == "detect":
                    client.call("DetectSuperWeights", source=str(model))
                else:
                    client.call("CompressModel", source=str(model), overwrite=True,
                                destination=str(place / f"out-{caller}"))

    for kind in ("detect", "compress"):
        for callers in (1, 2):
            begin = time.perf_counter()
            with concurrent.futures.ThreadPoolExecutor(callers) as pool:
                list(pool.map(lambda caller, kind=kind: run(caller, kind), range(callers)))
            rate = callers * (count // 20) / (time.perf_counter() - begin)
            print(f"{kind} a tiny model, {callers} caller(s) {rate:7.1f} jobs/s", flush=True)
    server.stop()


def processor_seconds(server):
    """Of a server and of the clients that were waited for."""
    fields = pathlib.Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    clients = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ((int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") + clients.ru_utime
            + clients.ru_stime)


def directory_mib(path):
    return sum(file.stat().st_size for file in path.iterdir()) / 2**20


def bench_bytes(place, mib, runs=5):
    """Medians; the bytes go through a loopback connection, the files lie in one file system."""
    make_model(place / "sent", layers=max(2, mib // 32), hidden=1024, intermediate=4096, vocab=1000, heads=8,
               kv_heads=2)
    server = Server(place / "bytes.log", "--read-root", "/", "--write-root", place)
    call = CommandLine("--quiet", "--endpoint", server.endpoint)
    taken = {"by path": [], "as bytes": []}
    for _ in range(runs):  # in turn, so that what else runs here meets both
        for way, more in (("by path", []), ("as bytes", ["--upload"])):
            before = processor_seconds(server)
            seconds = timed(lambda more=more: call(
                "compress", place / "sent", place / "came", "--scale", "minmax", "--overwrite", *more))
            taken[way].append((seconds, processor_seconds(server) - before))
    server.stop()
    wall, cpu = ({way: statistics.median(run[part] for run in of) for way, of in taken.items()}
                 for part in (0, 1))
    moved = directory_mib(place / "sent") + directory_mib(place / "came")
    more, more_cpu = (each["as bytes"] - each["by path"] for each in (wall, cpu))
    print(f"bytes, {directory_mib(place / 'sent'):.0f} MiB in, {directory_mib(place / 'came'):.0f} MiB out: a "
          f"compression takes {wall['by path']:.2f} s by path ({cpu['by path']:.2f} s of processor time), "
          f"{wall['as bytes']:.2f} s\n    ({cpu['as bytes']:.2f} s) as bytes: {moved / max(more, 0.01):.0f} MiB "
          f"per second more, {moved / max(more_cpu, 0.01):.0f} MiB per processor second more", flush=True)


def start_s3rver(place):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [NODE, ROOT / "tests/support/start_s3rver.cjs", place / "s3", str(port)],
        env={**os.environ, "NODE_PATH": str(MODULES)})
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return process, f"http://127.0.0.1:{port}"
        time.sleep(0.1)


def timed(work):
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def bench_s3(place, mib):
    os.environ.update(KEYS)
    process, endpoint = start_s3rver(place)
    s3 = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1",
                      config=Config(s3={"addressing_style": "path"}))
    make_model(place / "big", layers=max(2, mib // 32), hidden=1024, intermediate=4096, vocab=1000, heads=8,
               kv_heads=2)
    files = sorted((place / "big").iterdir())
    size = sum(path.stat().st_size for path in files) / 2**20
    put = timed(lambda: [s3.upload_file(str(path), "models", f"big/{path.name}") for path in files])
    get = timed(lambda: [s3.download_file("models", f"big/{path.name}", str(place / "back"))
                         for path in files])
    server = Server(place / "s3.log", "--read-root", "/", "--write-root", place, "--s3-endpoint", endpoint,
                    "--write-prefix", "s3://models")
    call = CommandLine("--quiet", "--endpoint", server.endpoint)
    local, remote = str(place / "big"), "s3://models/big"

    def compress(source, destination):
        return timed(lambda: call("compress", source, destination, "--scale", "minmax"))

    compress(local, place / "warm")
    disk = compress(local, place / "out")
    reading = compress(remote, place / "out-read") - disk
    writing = compress(local, "s3://models/out") - disk
    out = sum(path.stat().st_size for path in (place / "out").iterdir()) / 2**20
    print(f"S3, {size:.0f} MiB in, {out:.0f} MiB out: boto3 reads {size / get:.0f} MiB/s, writes "
          f"{size / put:.0f} MiB/s; a compression takes {disk:.1f} s from disk to disk,\n    "
          f"{reading:+.1f} s with its source in S3 (read twice: {2 * size / max(reading, 0.01):.0f} MiB/s),\n    "
          f"{writing:+.1f} s with its destination in S3 ({out / max(writing, 0.01):.0f} MiB/s)")
    server.stop()
    process.kill()
    process.wait()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, default=300)
    parser.add_argument("--mib", type=int, default=256)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        place = pathlib.Path(name)
        CommandLine("--quiet")("demo-model", place / "model")
        bench_calls(place, place / "model", options.calls)
        bench_jobs(place, place / "model", options.calls)
        bench_bytes(place, options.mib)
        bench_s3(place, options.mib)


if __name__ == "__main__":
    main()
