"""A connection that stands still after a number of bytes, whatever is spoken over it."""

import contextlib
import socket
import threading


class ByteGate:
    """Takes one caller and passes on so many bytes of what it sends, and all that it is answered."""

    def __init__(self, endpoint, allowed):
        host, port = endpoint.rsplit(":", 1)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._server = socket.create_connection((host, int(port)))
        self._caller = None
        self._left = allowed
        self.stands = False  # the caller has sent all that it may
        self.endpoint = "127.0.0.1:%d" % self._listener.getsockname()[1]

    def __enter__(self):
        threading.Thread(target=self._take, daemon=True).start()
        return self

    def __exit__(self, *_):
        for end in (self._listener, self._server, self._caller):
            if end is not None:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()

    def _take(self):
        self._caller, _ = self._listener.accept()
        threading.Thread(target=self._answer, daemon=True).start()
        with contextlib.suppress(OSError):
            while self._left and (piece := self._caller.recv(min(self._left, 1 << 16))):
                self._server.sendall(piece)
                self._left -= len(piece)
            self.stands = self._left == 0

    def _answer(self):
        with contextlib.suppress(OSError):
            while piece := self._server.recv(1 << 16):
                self._caller.sendall(piece)
