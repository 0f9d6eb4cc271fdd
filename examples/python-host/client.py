#!/usr/bin/env python3
"""GenVM's end of the host protocol: `Client`, and a program that makes the calls of its standard input.

`client.py ADDRESS [--revision 2] [--hello HEX] [--pipelined]` reads one call a line, such as
`["storage_read", 0, "aa…", "55…", 0, 32]`, and prints one answer a line: `["ok", "00…"]`, `["absent"]`. Bytes are
hexadecimal. Calls of methods that have no answer print `["ok"]`.
"""

import argparse
import json
import socket
import sys

from protocol import BYTES, METHODS, NUMBERS, STATUSES, ProtocolError, checked, encode


class Client:
    """The host at the other end of `stream`, which has `sendall` and `recv` as sockets have. One call at a time."""

    def __init__(self, stream, revision=1, hello=b""):
        self.stream, self.revision = stream, revision
        self.methods = {method.name: (number, method) for number, method in enumerate(METHODS[revision])}
        self.unread = b""
        if hello:
            stream.sendall(hello)

    def call(self, name, *arguments):
        """The answer: its status and, with `ok`, what follows it."""
        self.stream.sendall(self.request(name, arguments))
        return self.answer(name, arguments)

    def pipelined(self, calls):
        """The answers to many calls that are all on their way before the first is answered.

        There must not be more of them than the two ends' buffers hold: hosts answer in order, and one that cannot write its
        answers reads no more requests.
        """
        self.stream.sendall(b"".join(self.request(name, arguments) for name, *arguments in calls))
        return [self.answer(name, arguments) for name, *arguments in calls]

    def request(self, name, arguments):
        number, method = self.methods[name]
        if len(arguments) != len(method.fields):
            raise ValueError(f"{name} takes {' '.join(method.fields) or 'nothing'}")
        return bytes([number]) + b"".join(map(encode, method.fields, arguments))

    def answer(self, name, arguments):
        status, found = "ok", []
        for part in self.methods[name][1].answer:
            if part in ("status", "zero"):
                byte = self.read(1)[0]
                known = STATUSES[self.revision] if part == "status" else ["ok"]
                if byte >= len(known):
                    raise ProtocolError(f"{name}: {byte} is no {part}")
                status = known[byte]
                if status != "ok":
                    break
            elif part in NUMBERS:
                found.append(self.number(part))
            else:
                found.append(self.read(arguments[-1] if part == "data" else checked(name, self.number("u32"))))
        return [status, *found]

    def number(self, kind):
        return int.from_bytes(self.read(NUMBERS[kind]), "little")

    def read(self, length):
        pieces, missing = [], length
        while missing > 0:
            self.unread = self.unread or self.stream.recv(1 << 16)
            if not self.unread:
                raise ProtocolError(f"the host closed, {missing} bytes of {length} missing")
            piece, self.unread = self.unread[:missing], self.unread[missing:]
            pieces.append(piece)
            missing -= len(piece)
        return b"".join(pieces)


def connect(address, library=None):
    """A stream to `unix://PATH`, or to any address that the C library knows."""
    if library is not None:
        from transport import Library

        return Library(library).connect(address)
    scheme, _, path = address.partition("://")
    if scheme != "unix":
        raise ValueError(f"{address}: only unix:// does without the C library")
    stream = socket.socket(socket.AF_UNIX)
    stream.connect(path)
    return stream


def from_json(method, argument_kinds, values):
    def one(kind, value):
        if kind == "topics":
            return [bytes.fromhex(topic) for topic in value]
        return bytes.fromhex(value) if kind in BYTES or kind == "slice" else value

    return [method, *map(one, argument_kinds, values)]


def main():
    parser = argparse.ArgumentParser(description="Makes calls to a host of GenVM.")
    parser.add_argument("address", help="unix://PATH")
    parser.add_argument("--revision", type=int, choices=METHODS, default=1, help="of the protocol")
    parser.add_argument("--hello", type=bytes.fromhex, default=b"", help="bytes to begin with, in hexadecimal")
    parser.add_argument("--pipelined", action="store_true", help="all calls are on their way before the first is answered")
    parser.add_argument("--library", help="the C library, for other addresses than unix://")
    options = parser.parse_args()
    client = Client(connect(options.address, options.library), options.revision, options.hello)
    calls = []
    for line in sys.stdin:
        name, *values = json.loads(line)
        calls.append(from_json(name, client.methods[name][1].fields, values))
    answers = client.pipelined(calls) if options.pipelined else (client.call(*call) for call in calls)
    for answer in answers:
        print(json.dumps(answer, default=bytes.hex))


if __name__ == "__main__":
    main()
