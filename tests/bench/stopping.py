#!/usr/bin/env python3
"""How long after its caller a job goes on, at every stage, on a large model:

    stopping.py MODEL OUT [--cancels 3]

Every kind of call is cancelled when so many parts of a stage are done, for every stage that it tells of; the figure
is the time until the server counts no job any more.  Prints the longest of each stage.
"""

import argparse
import collections
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from conftest import Server  # noqa: E402  (the path comes first)
from support.foreign_client import ForeignClient  # noqa: E402

PATIENCE = 3600


def running(server):
    return sum(value for name, value in server.metrics().items()
               if name.startswith("linchpin_jobs_in_progress"))


def stages_of(client, method, fields):
    """Every stage that the call tells of, with how many messages."""
    function, request = client.method(method)
    heard = collections.Counter()
    for message in function(request(**fields), timeout=PATIENCE):
        if message.WhichOneof("event") == "progress":
            heard[message.progress.stage] += 1
    return heard


def seconds_to_stop(server, client, method, fields, stage, nth):
    """None where the call was faster."""
    function, request = client.method(method)
    call = function(request(**fields), timeout=PATIENCE)
    heard = 0
    for message in call:
        if message.WhichOneof("event") != "progress":
            return None
        heard += message.progress.stage == stage
        if heard == nth:
            break
    begin = time.perf_counter()
    call.cancel()
    while running(server):
        pass
    return time.perf_counter() - begin


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--cancels", type=int, default=3)
    options = parser.parse_args()
    model, out = str(options.model), str(options.out / "out")
    server = Server(options.out / "log", "--read-root", model, "--write-root", options.out)
    with ForeignClient(server.endpoint) as client:
        job = {"source": model, "destination": str(options.out / "parts")}
        job["job_key"] = client.call("PlanCompression", PATIENCE, source=model).job_key
        ids = [{"ids": list(range(1, 257))}] * 4
        calls = {
            "compress": ("CompressModel", {"source": model, "destination": out, "overwrite": True}),
            "dense": ("CompressModel", {"source": model, "destination": out, "overwrite": True,
                                        "quantization": {"format": "OUTPUT_FORMAT_DENSE"}}),
            "proof": ("DetectSuperWeights", {"source": model, "detection": {"proof": "PROOF_LEVEL_JOINT"}}),
            "study": ("DetectSuperWeights", {"source": model, "detection": {"study": True}}),
            "evaluate": ("EvaluateCompression", {"source": model, "tokens": {"sequences": ids}}),
            "awq": ("EvaluateCompression", {"source": model, "analyses": {"awq": True}}),
            "prepare": ("PrepareCompression", {"job": job}),
            "verify": ("VerifyArtifact", {"directory": out}),
        }
        for name, (method, fields) in calls.items():
            for stage, messages in stages_of(client, method, fields).items():
                times = [seconds_to_stop(server, client, method, fields, stage,
                                         1 + messages * i // options.cancels)
                         for i in range(options.cancels)]
                told = [each for each in times if each is not None]
                if told:
                    print(f"{name:10} {stage:12} {max(told) * 1e3:7.0f} ms at most of {len(told)}", flush=True)
    server.stop()


if __name__ == "__main__":
    main()
