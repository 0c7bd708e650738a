"""What stands in a directory, for tests that hold one output against another."""

import hashlib


def digests(directory):
    """{file: SHA-256} of all files below a directory."""
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(directory.rglob("*")) if path.is_file()}
