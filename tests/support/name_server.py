"""A DNS server that knows one name, for clients that are told where it is."""

import socket
import struct
import threading

TYPE_A = 1


class NameServer:
    """Answers every question for IPv4 addresses with the same ones, any other with none."""

    def __init__(self, addresses):
        self.addresses = addresses
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.socket.getsockname()[1]
        self.thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.socket.close()

    def _serve(self):
        while True:
            try:
                query, client = self.socket.recvfrom(512)
                self.socket.sendto(self._answer(query), client)
            except OSError:
                return

    def _answer(self, query):
        end = query.index(0, 12) + 5  # the name, then type and class
        question = query[12:end]
        kind, = struct.unpack(">H", question[-4:-2])
        addresses = self.addresses if kind == TYPE_A else []
        header = query[:2] + struct.pack(">HHHHH", 0x8180, 1, len(addresses), 0, 0)
        records = b"".join(
            b"\xc0\x0c" + struct.pack(">HHIH", TYPE_A, 1, 1, 4) + socket.inet_aton(address)
            for address in addresses)
        return header + question + records
