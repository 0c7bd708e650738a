"""A port of this machine that nobody else is given while a test needs it, even between two servers on it."""

import socket


class HeldPort:
    """Bound on all addresses and never listened on: the system gives it to no one that asks for any port, a
    server that names it may listen there, and while none does, connections are refused.  That server must set
    SO_REUSEADDR, as gRPC's, libuv's and Python's do."""

    def __init__(self):
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("", 0))
        self.number = self._socket.getsockname()[1]

    def close(self):
        self._socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
