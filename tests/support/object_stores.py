"""Buckets named "models" of real S3 servers, filled and looked at beside the program under test."""

import contextlib
import hashlib
import sys

import boto3

from support.gated_store import CREDENTIALS, serving


@contextlib.contextmanager
def moto():
    """The address of a running moto."""
    with serving(lambda port: [sys.executable, "-m", "moto.server", "-p", str(port)]) as (host, port):
        yield f"http://{host}:{port}"


def sha256(data):
    return hashlib.sha256(data).hexdigest()


class S3rverPlace:
    """That of a GatedStore."""

    credentials = CREDENTIALS

    def __init__(self, store):
        self._store = store
        self.endpoint = store.gate.endpoint

    def put(self, key, directory):
        self._store.put(key, directory)

    def keys(self, prefix):
        return [name for name in self._store.objects("") if name.startswith(prefix)]

    def digests(self, key):
        return {name: sha256(data) for name, data in self._store.objects(key).items()}


class MotoPlace:
    """That of moto, by Amazon's own client."""

    credentials = {"AWS_ACCESS_KEY_ID": "moto", "AWS_SECRET_ACCESS_KEY": "moto-secret"}

    def __init__(self, endpoint):
        self.endpoint = endpoint
        self._s3 = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1",
                                aws_access_key_id="moto", aws_secret_access_key="moto-secret")
        self._s3.create_bucket(Bucket="models")

    def put(self, key, directory):
        for path in sorted(directory.iterdir()):
            self._s3.upload_file(str(path), "models", f"{key}/{path.name}")

    def keys(self, prefix):
        listing = self._s3.list_objects_v2(Bucket="models", Prefix=prefix)
        return [entry["Key"] for entry in listing.get("Contents", ())]

    def digests(self, key):
        return {name[len(key) + 1:]: sha256(
            self._s3.get_object(Bucket="models", Key=name)["Body"].read())
            for name in self.keys(key + "/")}
