"""Who opens, reads, writes or changes what in a folder, as the system tells it (inotify)."""

import ctypes
import os
import pathlib
import struct

LIBC = ctypes.CDLL(None, use_errno=True)
# Not what only asks whether something is there: reading, writing, changed attributes, opening, moving, creating
# and removing.
EVENTS = 0x01 | 0x02 | 0x04 | 0x20 | 0x40 | 0x80 | 0x100 | 0x200
HEADER = struct.Struct("iIII")


class WatchedFiles:
    """What happens in a folder, and in those that are in it now, from the start of this on."""

    def __init__(self, folder):
        self._descriptor = LIBC.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        assert self._descriptor >= 0, os.strerror(ctypes.get_errno())
        self._folders = {}
        folder = pathlib.Path(folder)
        for place in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
            number = LIBC.inotify_add_watch(self._descriptor, os.fsencode(place), EVENTS)
            assert number >= 0, os.strerror(ctypes.get_errno())
            self._folders[number] = place

    def close(self):
        os.close(self._descriptor)

    def touched(self):
        """The paths to which something happened since this was asked last."""
        paths = []
        while events := self._read():
            while events:
                number, _, _, length = HEADER.unpack_from(events)
                name = events[HEADER.size:HEADER.size + length].rstrip(b"\0")
                paths.append(str(self._folders[number] / os.fsdecode(name)))
                events = events[HEADER.size + length:]
        return paths

    def _read(self):
        try:
            return os.read(self._descriptor, 1 << 16)
        except BlockingIOError:
            return b""
