#!/usr/bin/env python3
"""The host of `host.py` on the C library, so that it serves shared memory: `shm_host.py PATH --library FILE`, other options alike.

Clients of `shm://PATH` and of `unix://PATH` are served at the same address. The library's calls block, so each connection has a
thread of its own; what is said over it is `host.serve`, unchanged.
"""

import asyncio
import json
import signal
import threading

import host
from transport import BUFFER, Library
from world import World


class Blocking:
    """A stream of the library as `host.serve` wants it. Its coroutines never suspend: they block their thread."""

    def __init__(self, stream):
        self.stream = stream
        self.unread = b""

    async def read(self, length):
        self.unread = self.unread or self.stream.recv(BUFFER)
        data, self.unread = self.unread[:length], self.unread[length:]
        return data

    async def readexactly(self, length):
        pieces, missing = [], length
        while missing > 0:
            piece = await self.read(missing)
            if not piece:
                raise asyncio.IncompleteReadError(b"".join(pieces), length)
            pieces.append(piece)
            missing -= len(piece)
        return b"".join(pieces)

    def write(self, data):
        self.stream.send(data)

    async def drain(self):
        self.stream.flush()

    def close(self):
        self.stream.close()

    async def wait_closed(self):
        pass


def main():
    parser = host.options("A host for GenVM that serves shared memory.")
    parser.add_argument("--library", required=True, help="the C library of genvm-transport")
    parser.add_argument("--options", default="", help="what the library is to choose, such as users=1000,mode=0666,wait=park")
    chosen = parser.parse_args()
    world = World(json.load(chosen.world) if chosen.world else {})
    # Before there are threads: all of them leave these two to `sigwait`.
    ends = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    listener = Library(chosen.library).listen(f"shm://{chosen.path}", chosen.options)

    def accept():
        while (stream := listener.accept()) is not None:
            served = Blocking(stream)
            execution = host.serve_logged(served, served, world, chosen)
            threading.Thread(target=asyncio.run, args=[execution], daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    print("listening", flush=True)
    signal.sigwait(ends)
    listener.close()


if __name__ == "__main__":
    main()
