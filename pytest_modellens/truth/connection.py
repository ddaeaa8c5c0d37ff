"""One connection to the truth server: reads requests, sends packets, and takes note when."""

from __future__ import annotations

import selectors
import socket
import struct
from typing import TYPE_CHECKING

import msgspec

from pytest_modellens.measure.clock import ancillary_bytes, enable_kernel_stamps, now_ns, realtime_offset_ns, stamp_ns
from pytest_modellens.truth.asked import HttpRequest, RefusedError, read_http
from pytest_modellens.truth.script import fixed_response

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable

    from pytest_modellens.truth.ledger import Answer
    from pytest_modellens.truth.script import Packet, Script

__all__ = ["Connection"]

_READ_BYTES = 65536
_MAX_WAITING = 32 * 1024 * 1024
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER on, for 0 seconds: closing then sends a reset."""


class Connection:
    """The state of one socket. At most one answer is under way; requests that come meanwhile wait."""

    __slots__ = (
        "_answer",
        "_blocked_at_ns",
        "_buffer",
        "_has_stamps",
        "_late",
        "_packets",
        "_pending",
        "_position",
        "_schedule",
        "_script",
        "_take",
        "_want",
        "accepted_ns",
        "arrived_ns",
        "is_open",
        "number",
        "read_ns",
        "sock",
    )

    def __init__(
        self,
        sock: socket.socket,
        number: int,
        take: Callable[[Connection, HttpRequest], None],
        want: Callable[[Connection, int], None],
    ) -> None:
        """Take over an accepted socket.

        Args:
            sock: what was accepted.
            number: counts connections.
            take: called with every whole request.
            want: called with the selector's events that are to be waited for, 0 before closing.
        """
        self.accepted_ns = now_ns()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._has_stamps = enable_kernel_stamps(sock)
        self.sock = sock
        self.number = number
        self.is_open = True
        self.arrived_ns: int | None = None
        """When the last bytes arrived; None without kernel time stamps."""
        self.read_ns = 0
        """When they had been read."""
        self._take = take
        self._want = want
        self._buffer = b""
        self._pending = b""
        """What the kernel did not take yet."""
        self._blocked_at_ns = 0
        self._answer: Answer | None = None
        self._script: Script | None = None
        self._packets: tuple[Packet, ...] = ()
        self._position = 0
        self._late: Counter[int] | None = None
        """Where lateness is counted; None once the client has held sending up."""
        self._schedule: Callable[[int, Connection], None] | None = None

    def ready(self, events: int) -> None:
        """Do what the socket is ready for."""
        if events & selectors.EVENT_WRITE:
            self._flush()
        if events & selectors.EVENT_READ and self.is_open:
            self._receive()

    def begin(
        self, answer: Answer, script: Script, late: Counter[int], schedule: Callable[[int, Connection], None]
    ) -> None:
        """Send the packets of `script` when they are due; `schedule` calls `send_packet` then."""
        self._answer, self._script, self._packets, self._position = answer, script, script.packets, 0
        self._late, self._schedule = late, schedule
        schedule(answer.base_ns + script.packets[0].at_ns, self)

    def send_packet(self, due_ns: int) -> int | None:
        """Send the packet that is due and return when the next one is; None when there is none for now."""
        answer = self._answer
        if answer is None:
            return None  # the client went away after this was scheduled
        data = self._packets[self._position].data
        now = now_ns()
        if data:
            try:
                taken = self.sock.send(data)
            except BlockingIOError:
                taken = 0
            except OSError:
                self._gone()
                return None
            if taken < len(data):
                self._block(data[taken:])
        answer.sent.append(now)
        answer.returned.append(now_ns())
        if self._late is not None and due_ns > answer.base_ns:
            self._late[(now - due_ns) // 1000] += 1
        self._position += 1
        if self._pending:
            self._late = None
            return None
        return self._following()

    def send_whole(self, data: bytes) -> None:
        """Send a response at once, outside of any plan."""
        try:
            taken = self.sock.send(data)
        except BlockingIOError:
            taken = 0
        except OSError:
            self._gone()
            return
        if taken < len(data):
            self._block(data[taken:])

    def _following(self) -> int | None:
        if self._position < len(self._packets):
            assert self._answer is not None
            return self._answer.base_ns + self._packets[self._position].at_ns
        self._end_answer()
        return None

    def _end_answer(self) -> None:
        assert self._script is not None
        ending = self._script.ending
        self._settle("reset" if ending == "reset" else "closed" if ending == "close" else "complete")
        if ending == "keep":
            self._next_request()
            return
        if ending == "reset":
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._close()

    def _settle(self, end: str) -> None:
        if self._answer is not None:
            self._answer.end, self._answer.ended_ns = end, now_ns()
        self._answer, self._script, self._packets, self._late = None, None, (), None

    def _block(self, rest: bytes) -> None:
        """Wait until the client has read what the kernel holds for it."""
        self._pending = rest
        self._blocked_at_ns = now_ns()
        if self._answer is not None:
            self._answer.blocked_sends += 1
        self._want(self, selectors.EVENT_READ | selectors.EVENT_WRITE)

    def _flush(self) -> None:
        now = now_ns()
        try:
            self._pending = self._pending[self.sock.send(self._pending) :]
        except BlockingIOError:
            return
        except OSError:
            self._gone()
            return
        if self._pending:
            return
        self._want(self, selectors.EVENT_READ)
        if self._answer is None:
            self._next_request()
            return
        self._answer.sent[-1], self._answer.returned[-1] = now, now_ns()
        self._answer.blocked_ns += now - self._blocked_at_ns
        following = self._following()
        if following is not None:
            assert self._schedule is not None
            self._schedule(following, self)

    def _receive(self) -> None:
        try:
            if self._has_stamps:
                data, ancillary, _, _ = self.sock.recvmsg(_READ_BYTES, ancillary_bytes)
                self.read_ns = now_ns()
                stamp = stamp_ns(ancillary[0][2] if ancillary else None)
                # The offset is known to about a microsecond, and nothing arrives after it was read.
                self.arrived_ns = None if stamp is None else min(self.read_ns, stamp - realtime_offset_ns())
            else:
                data = self.sock.recv(_READ_BYTES)
                self.read_ns = now_ns()
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data or len(self._buffer) > _MAX_WAITING:
            self._gone()
            return
        self._buffer += data
        self._next_request()

    def _next_request(self) -> None:
        """Take the next request that has been read, unless an answer is under way."""
        while self._buffer and self._answer is None and not self._pending and self.is_open:
            try:
                request = read_http(self._buffer)
                if request is None:
                    return
                self._buffer = self._buffer[request.size :]
                self._take(self, request)
            except RefusedError as refused:
                self._refuse(refused)

    def _refuse(self, refused: RefusedError) -> None:
        error = {
            "message": str(refused),
            "type": "invalid_request_error",
            "param": refused.param,
            "code": refused.status,
        }
        self.send_whole(
            fixed_response(refused.status, msgspec.json.encode({"error": error}), extra="Connection: close\r\n")
        )
        if self.is_open and not self._pending:
            self._close()

    def _gone(self) -> None:
        self._settle("client_gone")
        if self.is_open:
            self._close()

    def _close(self) -> None:
        self.is_open = False
        self._buffer = self._pending = b""
        self._want(self, 0)
        self.sock.close()
