#!/usr/bin/env python3
"""A host for GenVM in plain asyncio: `host.py PATH [--revision 2] [--hello HEX] [--world FILE]`.

It listens on a Unix socket and serves each connection as one execution, on what `world.py` keeps in memory. It prints
`listening`, then one line of JSON for each execution that handed over its result; what went wrong goes to standard error.
Nothing is kept when it ends, and it does not time out.
"""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys

from protocol import BYTES, METHODS, NUMBERS, STATUSES, ProtocolError, checked, encode
from world import Refused, World


async def read_field(reader, method, kind):
    """One field of a request. Memory grows with the bytes that come, not with the length that is announced."""
    if kind in NUMBERS:
        number = int.from_bytes(await reader.readexactly(NUMBERS[kind]), "little")
        if kind == "mode" and number > 2:
            raise ProtocolError(f"{method}: {number} is no storage mode")
        return number
    if kind in BYTES:
        return await reader.readexactly(BYTES[kind])
    if kind == "topics":
        return [await reader.readexactly(32) for _ in range(await read_field(reader, method, "u8"))]
    data = await reader.readexactly(checked(method, await read_field(reader, method, "u32")))
    return data.decode() if kind == "text" else data


async def serve(reader, writer, execution, revision, hello=b""):
    """One execution, to its end. `reader` and `writer` are asyncio's, or have the methods that are used here."""
    came = await reader.readexactly(len(hello))
    if came != hello:
        raise ProtocolError(f"the hello was {came.hex()}, not {hello.hex()}")
    while first := await reader.read(1):
        if first[0] >= len(METHODS[revision]):
            raise ProtocolError(f"{first[0]} is no method of revision {revision}")
        name, fields, parts = METHODS[revision][first[0]]
        arguments = [await read_field(reader, name, kind) for kind in fields]
        if parts == ("status", "data"):
            checked(name, arguments[-1])
        try:
            answer = getattr(execution, name)(*arguments)
        except Refused as refused:
            writer.write(encode("u8", STATUSES[revision].index(str(refused))))
            await writer.drain()
            continue
        for part in parts:
            if part in ("status", "zero"):
                writer.write(b"\0")
            elif part == "data":
                for piece in answer:
                    writer.write(piece)
                    await writer.drain()
            else:
                writer.write(encode(part, answer))
        await writer.drain()
        if name == "consume_result" and revision == 1:
            return


async def close(writer):
    """Now, and not when whoever reads our output has read it."""
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def serve_logged(reader, writer, world, options):
    """The same, with its end in the log. Whatever one peer sends ends its own connection only."""
    execution = world.begin(options.revision)
    try:
        await serve(reader, writer, execution, options.revision, options.hello)
    except asyncio.IncompleteReadError as cut:
        print(f"cut off: {len(cut.partial)} of {cut.expected} bytes came", file=sys.stderr)
    except (ProtocolError, OSError, ValueError) as error:  # bad UTF-8 and bad JSON are a ValueError
        print(f"connection lost: {error}", file=sys.stderr)
    finally:
        await close(writer)
    if execution.outcome["result"] is not None:
        print(json.dumps(execution.outcome, default=bytes.hex), flush=True)


def options(description):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("path", help="of the Unix socket to listen on; a socket that is there already is replaced")
    parser.add_argument("--revision", type=int, choices=METHODS, default=1, help="of the protocol")
    parser.add_argument("--hello", type=bytes.fromhex, default=b"", help="bytes that clients begin with, in hexadecimal")
    parser.add_argument("--world", type=argparse.FileType(), help="JSON that describes the world, as in README.md")
    return parser


async def main():
    chosen = options("A host for GenVM.").parse_args()
    world = World(json.load(chosen.world) if chosen.world else {})

    async def connected(reader, writer):
        await serve_logged(reader, writer, world, chosen)

    before = os.umask(0o177)  # the socket is this user's alone from the beginning
    server = await asyncio.start_unix_server(connected, chosen.path)
    os.umask(before)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    print("listening", flush=True)
    try:
        await stop.wait()
    finally:
        server.close()
        if os.path.exists(chosen.path):  # newer Pythons have removed it
            os.unlink(chosen.path)


if __name__ == "__main__":
    asyncio.run(main())
