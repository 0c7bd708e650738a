"""Somebody who listens on a port of this machine, writes down what comes, and serves nothing."""

import socketserver
import threading

# HTTP/2's first frame, without which a client sends no calls.
SETTINGS = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])


class ListeningStranger:
    """`heard` has the bytes of every connection, in their order.  Hangs up when it has heard `enough`."""

    def __init__(self, enough):
        self.heard = []
        stranger = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                heard = bytearray()
                stranger.heard.append(heard)
                while enough not in heard and (piece := self.request.recv(65536)):
                    heard += piece
                    if len(heard) == len(piece):  # the first: nobody fails before it is written down
                        self.request.sendall(SETTINGS)

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()
