"""Streams of the C library `genvm_transport` through ctypes: `Library(path)` connects and listens at any address it knows.

A call that has to wait blocks its thread, and no other: ctypes lets go of the interpreter's lock meanwhile. One stream is
for one thread at a time.
"""

import ctypes

ABI = 1
OK, NULL, NO_HANDLE, BUSY, ARGUMENT, FAILED, TIMED_OUT, CLOSED, INVALID_DATA, IO, PANIC = range(11)
BUFFER = 1 << 16


class TransportError(OSError):
    """What the library said."""

    def __init__(self, status, text):
        super().__init__(text)
        self.status = status


class Library:
    def __init__(self, path):
        self.functions = ctypes.CDLL(path)
        handle, size, pointer = ctypes.c_uint64, ctypes.c_size_t, ctypes.POINTER
        self.functions.genvm_abi_version.restype = ctypes.c_uint32
        if self.functions.genvm_abi_version() != ABI:
            raise ImportError(f"{path} has another interface than {ABI}")
        for name, *arguments in [
            ("connect", ctypes.c_char_p, pointer(handle)),
            ("listen_with", ctypes.c_char_p, ctypes.c_char_p, pointer(handle)),
            ("accept", handle, pointer(handle)),
            ("listener_close", handle),
            ("read", handle, ctypes.c_void_p, size, pointer(size)),
            ("write", handle, ctypes.c_char_p, size, pointer(size)),
            ("flush", handle),
            ("close", handle),
            ("last_error", ctypes.c_char_p, size, pointer(size)),
        ]:
            function = getattr(self.functions, f"genvm_{name}")
            function.argtypes, function.restype = arguments, ctypes.c_int

    def connect(self, address):
        return Stream(self, self.opened("connect", address.encode()))

    def listen(self, address, options=""):
        """`options` as the header says them, such as `users=1000,mode=0666`."""
        return Listener(self, self.opened("listen_with", address.encode(), options.encode()))

    def opened(self, name, *source):
        handle = ctypes.c_uint64()
        self.call(name, *source, ctypes.byref(handle))
        return handle.value

    def call(self, name, *arguments):
        status = getattr(self.functions, f"genvm_{name}")(*arguments)
        if status != OK:
            raise TransportError(status, self.last_error())

    def last_error(self):
        """Of this thread, whose last call has just failed."""
        text = ctypes.create_string_buffer(500)
        self.functions.genvm_last_error(text, len(text), ctypes.byref(ctypes.c_size_t()))
        return text.value.decode()


class Listener:
    def __init__(self, library, handle):
        self.library, self.handle = library, handle

    def accept(self):
        """The next client's stream, or None once the listener was closed."""
        while True:
            try:
                return Stream(self.library, self.library.opened("accept", self.handle))
            except TransportError as error:
                if error.status in (CLOSED, NO_HANDLE):
                    return None
                if error.status != FAILED:
                    raise

    def close(self):
        self.library.call("listener_close", self.handle)


class Stream:
    """Like a connected socket."""

    def __init__(self, library, handle):
        self.library, self.handle = library, handle
        self.buffer = ctypes.create_string_buffer(BUFFER)

    def recv(self, length):
        done = ctypes.c_size_t()
        self.library.call("read", self.handle, self.buffer, min(length, BUFFER), ctypes.byref(done))
        return ctypes.string_at(self.buffer, done.value)

    def send(self, data):
        """All of it, to be flushed."""
        self.library.call("write", self.handle, data, len(data), ctypes.byref(ctypes.c_size_t()))

    def flush(self):
        self.library.call("flush", self.handle)

    def sendall(self, data):
        self.send(data)
        self.flush()

    def close(self):
        self.library.call("close", self.handle)
