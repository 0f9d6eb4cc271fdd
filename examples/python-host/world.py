"""What a host knows: `World`, and one `Execution` in it for each connection. All of it lives in memory.

The methods of `Execution` are named as in the protocol, take a request's fields and return the parts of its answer (but
for the status), or raise `Refused`. This module does no I/O.
"""

import json
import threading

from protocol import DEFAULT, MAX_FUEL, RETURN, SLOT_SIZE, ProtocolError

PAGE = 4096
PIECE = 1 << 16
ZEROS = bytes(PAGE)


class Refused(Exception):
    """An answer that is a status and nothing else."""


class World:
    """The chain's state, and what every execution is told. Each that returned is final at once."""

    def __init__(self, described):
        self.contract = optional_hex(described.get("contract"))
        self.calldata = optional_hex(described.get("calldata", ""))
        self.fuel = described.get("fuel", MAX_FUEL)
        self.storage_gas = described.get("storage_gas")  # bytes that one execution may write
        self.leader_results = described.get("leader_results")  # None: this node is the leader
        self.balances = {bytes.fromhex(account): value for account, value in described.get("balances", {}).items()}
        self.locked = {bytes.fromhex(slot) for slot in described.get("locked_slots", [])}
        self.eth_replies = described.get("eth_replies", {})  # by calldata
        self.executors = described.get("executors", {})  # by account
        self.nested = described.get("nested")
        self.pages = {}
        for account, slot, index, data in described.get("storage", []):
            write(self.pages, bytes.fromhex(account), bytes.fromhex(slot), index, bytes.fromhex(data))
        self.lock = threading.Lock()  # for hosts with a thread for each connection

    def begin(self, revision):
        return Execution(self, revision)


class Execution:
    """One execution: its writes are deltas over the state that it started from, until it hands over its result."""

    def __init__(self, world, revision):
        self.world, self.revision, self.contract = world, revision, world.contract
        with world.lock:
            self.pages = world.pages.copy()  # pages are immutable, so this is a snapshot
        self.deltas = []
        self.storage_gas = world.storage_gas
        self.fuel_used = 0
        self.outcome = {name: [] for name in ("messages", "events", "eth_sends", "deployments", "nondet_results")}
        self.outcome.update(result=None, fuel_used=0, disagreements=[])

    def get_calldata(self):
        if self.world.calldata is None:
            raise Refused("absent")
        return self.world.calldata

    def storage_read(self, mode, account, slot, index, length):
        """Pieces, so that an answer takes no more memory than its way does."""
        if index + length > SLOT_SIZE:
            raise ProtocolError(f"storage_read: {index} + {length} is beyond the slot")
        pages = self.pages if mode == DEFAULT else self.world.pages
        if self.contract is None:
            self.contract = account  # GenVM starts by reading slots of the contract that it was told to run
        end = index + length
        return (read(pages, account, slot, at, min(PIECE, end - at)) for at in range(index, end, PIECE))

    def storage_write(self, slot, index, data):
        if index + len(data) > SLOT_SIZE:
            raise ProtocolError(f"storage_write: {index} + {len(data)} is beyond the slot")
        if slot in self.world.locked or self.contract is None:
            raise Refused("forbidden")
        if self.storage_gas is not None:
            if len(data) > self.storage_gas:
                raise Refused("out_of_storage_gas")
            self.storage_gas -= len(data)
        self.deltas.append((slot, index, data))
        write(self.pages, self.contract, slot, index, data)

    def consume_result(self, result):
        check_code("consume_result", result)
        if self.outcome["result"] is not None:
            raise ProtocolError("consume_result: the execution has ended")
        self.outcome.update(result=result, fuel_used=self.fuel_used)
        if result[0] == RETURN:
            with self.world.lock:
                for slot, index, data in self.deltas:
                    write(self.world.pages, self.contract, slot, index, data)

    def get_leader_nondet_result(self, call_no):
        if self.world.leader_results is None:
            raise Refused("i_am_leader")
        if str(call_no) not in self.world.leader_results:
            raise Refused("absent")
        return bytes.fromhex(self.world.leader_results[str(call_no)])

    def post_nondet_result(self, call_no, result):
        check_code("post_nondet_result", result)
        if self.world.leader_results is not None:
            raise Refused("forbidden")
        self.outcome["nondet_results"].append([call_no, result])

    def post_message(self, account, calldata, data):
        self.outcome["messages"].append([account, calldata, json.loads(data)])

    def post_event(self, topics, blob):
        self.outcome["events"].append([topics, blob])

    def deploy_contract(self, calldata, code, data):
        self.outcome["deployments"].append([calldata, code, json.loads(data)])

    def eth_send(self, account, calldata, data):
        self.outcome["eth_sends"].append([account, calldata, json.loads(data)])

    def eth_call(self, account, calldata):
        reply = self.world.eth_replies.get(calldata.hex())
        if reply is None:
            raise Refused("absent" if self.revision == 1 else "evm_reverted")
        return bytes.fromhex(reply)

    def get_balance(self, account):
        return self.world.balances.get(account, 0)

    def consume_fuel(self, gas):
        self.fuel_used += gas

    def remaining_fuel_as_gen(self):
        left = max(0, self.world.fuel - self.fuel_used)
        return min(left, MAX_FUEL) if self.revision == 1 else left

    def notify_nondet_disagreement(self, call_no):
        self.outcome["disagreements"].append(call_no)

    def resolve_callcontract_executor(self, account, mode, advisory_major):
        if account.hex() not in self.world.executors:
            raise Refused("forbidden")
        return self.world.executors[account.hex()].encode()

    def run_nested(self, data):
        if self.world.nested is None:
            raise ProtocolError("run_nested: this host runs nothing nested, and the answer has no status to say so")
        return bytes.fromhex(self.world.nested)


def read(pages, account, slot, index, length):
    first, last = index // PAGE, (index + length - 1) // PAGE
    joined = b"".join(pages.get((account, slot, page), ZEROS) for page in range(first, last + 1))
    return joined[index - first * PAGE :][:length]


def write(pages, account, slot, index, data):
    """A slot is a sparse array of bytes: bytes never written are zeros, and take no memory."""
    done = 0
    while done < len(data):
        page, at = divmod(index + done, PAGE)
        piece = data[done : done + PAGE - at]
        old = pages.get((account, slot, page), ZEROS)
        pages[account, slot, page] = old[:at] + piece + old[at + len(piece) :]
        done += len(piece)


def check_code(method, result):
    if not result or result[0] > 3:
        raise ProtocolError(f"{method}: {result[:1].hex() or 'nothing'} is no result code")


def optional_hex(text):
    return None if text is None else bytes.fromhex(text)
