#!/usr/bin/env python3
"""An object store that speaks Google's XML dialect:

    google_storage.py PORT      keys GOOG1TEST/google-secret

moto behind a gate that takes what Google documents and refuses what Google refuses: a wrong GOOG4-HMAC-SHA256
signature, one that leaves out a header of Google's, Amazon's headers beside Google's, parts copied from objects.
It holds to x-goog-if-generation-match: 0 on a PUT alone and is deaf to If-None-Match.
https://cloud.google.com/storage/docs/authentication/signatures
https://cloud.google.com/storage/docs/xml-api/reference-headers
"""

import hashlib
import hmac
import io
import re
import sys
import threading
from urllib.parse import parse_qs

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.server import MotoRequestHandler
from werkzeug.serving import run_simple
from werkzeug.test import run_wsgi_app

ACCESS_KEY, SECRET_KEY = "GOOG1TEST", "google-secret"
AUTHORIZATION = re.compile(
    r"GOOG4-HMAC-SHA256 Credential=(?P<key>[^/]+)/(?P<scope>(?P<day>\d{8})/(?P<region>[\w-]+)/storage/goog4_request)"
    r", ?SignedHeaders=(?P<names>[\w;-]+), ?Signature=(?P<signature>[0-9a-f]{64})")


def header(environ, name):
    key = name.upper().replace("-", "_")
    return environ.get(key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else "HTTP_" + key, "")


def google_headers(environ):
    """Those of the request, without their prefix."""
    return [key[len("HTTP_X_GOOG_"):] for key in environ if key.startswith("HTTP_X_GOOG_")]


def signature_of(environ, given):
    path, _, query = environ["REQUEST_URI"].partition("?")
    parameters = sorted(p if "=" in p else p + "=" for p in query.split("&") if p)
    names = given["names"].split(";")
    lines = "".join(f"{name}:{header(environ, name).strip()}\n" for name in names)
    canonical = "\n".join([environ["REQUEST_METHOD"], path, "&".join(parameters), lines, given["names"],
                           header(environ, "x-goog-content-sha256")])
    text = "\n".join(["GOOG4-HMAC-SHA256", header(environ, "x-goog-date"), given["scope"],
                      hashlib.sha256(canonical.encode()).hexdigest()])
    key = ("GOOG4" + SECRET_KEY).encode()
    for part in given["scope"].split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, text.encode(), "sha256").hex()


def refusal(environ, body):
    """(status, code) of what Google would answer to a request that is not for the store, or None."""
    given = AUTHORIZATION.fullmatch(header(environ, "authorization"))
    if any(key.startswith("HTTP_X_AMZ_") for key in environ):
        return "400 Bad Request", "ExcessHeaderValues"
    if given is None or given["key"] != ACCESS_KEY:
        return "403 Forbidden", "InvalidAccessKeyId"
    signed = given["names"].split(";")
    unsigned = [name for name in google_headers(environ) if f"x-goog-{name.lower().replace('_', '-')}" not in signed]
    if (unsigned or "host" not in signed or signature_of(environ, given) != given["signature"]
            or header(environ, "x-goog-content-sha256") != hashlib.sha256(body).hexdigest()):
        return "403 Forbidden", "SignatureDoesNotMatch"
    query = parse_qs(environ["QUERY_STRING"], keep_blank_values=True)
    conditional = bool(header(environ, "x-goog-if-generation-match"))
    if "partNumber" in query and header(environ, "x-goog-copy-source"):
        return "501 Not Implemented", "NotImplemented"
    if conditional and "uploads" in query:
        return "400 Bad Request", "NotImplemented"
    return None


class GoogleStorage:
    def __init__(self):
        self.store = DomainDispatcherApplication(create_backend_app)
        self.creating = threading.Lock()

    def __call__(self, environ, start_response):
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        refused = refusal(environ, body)
        if refused:
            text = f"<?xml version='1.0'?><Error><Code>{refused[1]}</Code></Error>".encode()
            start_response(refused[0], [("Content-Type", "application/xml"), ("Content-Length", str(len(text)))])
            return [text]
        only_new = environ["REQUEST_METHOD"] == "PUT" and header(environ, "x-goog-if-generation-match") == "0"
        self.translate(environ)
        if not only_new:
            return self.store(environ, start_response)
        with self.creating:
            if self.exists(environ):
                start_response("412 Precondition Failed", [("Content-Length", "0")])
                return [b""]
            return list(self.store(environ, start_response))

    def exists(self, environ):
        asked = {**environ, "REQUEST_METHOD": "HEAD", "wsgi.input": io.BytesIO(), "CONTENT_LENGTH": "0"}
        asked.pop("HTTP_X_AMZ_COPY_SOURCE", None)
        return run_wsgi_app(self.store, asked)[1].startswith("200")

    @staticmethod
    def translate(environ):
        """Makes of it what moto takes for a request to S3."""
        for name in google_headers(environ):
            environ["HTTP_X_AMZ_" + name] = environ.pop("HTTP_X_GOOG_" + name)
        environ.pop("HTTP_IF_NONE_MATCH", None)
        day = environ["HTTP_X_AMZ_DATE"][:8]
        environ["HTTP_AUTHORIZATION"] = (f"AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/{day}/us-east-1/s3/aws4_request, "
                                         "SignedHeaders=host, Signature=0")


if __name__ == "__main__":
    run_simple("127.0.0.1", int(sys.argv[1]), GoogleStorage(), threaded=True, request_handler=MotoRequestHandler)
