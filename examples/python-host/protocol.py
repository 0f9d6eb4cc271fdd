"""The host protocol's messages as tables: what host.py and client.py share.

The fields say everything there is on the wire: a request is its method's id and its fields, an answer is its parts. There
is no framing, no request id and no greeting. All numbers are little-endian and unsigned. This module does no I/O.
"""

from typing import NamedTuple, Tuple


class Method(NamedTuple):
    name: str
    fields: Tuple[str, ...]
    answer: Tuple[str, ...]


def methods(table):
    """Lines of `name: fields -> answer`, in the order of the methods' ids."""
    parsed = []
    for line in table.strip().splitlines():
        name, rest = line.split(":")
        fields, answer = rest.split("->")
        parsed.append(Method(name.strip(), tuple(fields.split()), tuple(answer.split())))
    return parsed


# `data` is exactly as long as the request's last field says; `zero` is one byte that is no status.
METHODS = {
    1: methods(
        """
        get_calldata:                                           -> status slice
        storage_read: mode address slot u32 u32                 -> status data
        storage_write: slot u32 slice                           -> status
        consume_result: slice                                   -> zero
        get_leader_nondet_result: u32                           -> status slice
        post_nondet_result: u32 slice                           -> status
        post_message: address slice text                        -> status
        post_event: topics slice                                -> status
        consume_fuel: u64                                       ->
        deploy_contract: slice slice text                       -> status
        eth_call: address slice                                 -> status slice
        eth_send: address slice text                            -> status
        get_balance: address                                    -> status u256
        remaining_fuel_as_gen:                                  -> status u64
        """
    ),
    2: methods(
        """
        storage_read: mode address slot u32 u32                 -> status data
        consume_fuel: u256                                      ->
        eth_call: address slice                                 -> status slice
        get_balance: address                                    -> status u256
        remaining_fuel_as_gen:                                  -> status u256
        notify_nondet_disagreement: u32                         ->
        consume_result: slice                                   -> zero
        resolve_callcontract_executor: address mode u8          -> status slice
        run_nested: slice                                       -> slice
        """
    ),
}

# The byte is the place in the list. On anything but `ok` nothing follows.
STATUSES = {
    1: ["ok", "absent", "forbidden", "i_am_leader", "out_of_storage_gas"],
    2: ["ok", "evm_reverted", "forbidden"],
}

# Storage modes, and the first byte of a result.
DEFAULT, LATEST_FINAL, LATEST_NON_FINAL = range(3)
RETURN, USER_ERROR, VM_ERROR, INTERNAL_ERROR = range(4)

SLOT_SIZE = 1 << 32
MAX_SLICE = 64 << 20  # what we believe of a length
MAX_FUEL = (1 << 53) - 1  # what revision 1 can answer to remaining_fuel_as_gen

NUMBERS = {"u8": 1, "mode": 1, "u32": 4, "u64": 8, "u256": 32}
BYTES = {"address": 20, "slot": 32}


class ProtocolError(Exception):
    """Bytes without a meaning. The connection is lost: nobody knows where the next message would begin."""


def encode(kind, value):
    """The bytes of one field, or of one part of an answer."""
    if kind in NUMBERS:
        return value.to_bytes(NUMBERS[kind], "little")
    if kind in BYTES:
        if len(value) != BYTES[kind]:
            raise ValueError(f"{kind}: {len(value)} bytes, expected {BYTES[kind]}")
        return value
    if kind == "slice":
        return encode("u32", len(value)) + value
    if kind == "text":
        return encode("slice", value.encode())
    if kind == "topics":
        return encode("u8", len(value)) + b"".join(encode("slot", topic) for topic in value)
    raise ValueError(f"no kind of field: {kind}")


def checked(method, length):
    """A length that the peer announced, if it is one to be believed."""
    if length > MAX_SLICE:
        raise ProtocolError(f"{method}: length {length}, at most {MAX_SLICE} allowed")
    return length
