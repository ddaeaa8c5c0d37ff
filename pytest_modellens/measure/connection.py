"""One TCP connection, with or without TLS and proxy, opened without ever blocking.

Opening is a generator that yields what it waits for (`READ` or `WRITE`), so that the client can open hundreds side by
side. TLS runs over memory buffers because `ssl.SSLSocket` refuses `recvmsg`, which carries the kernel's time stamps.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_modellens.errors import ConnectError, ProtocolError
from pytest_modellens.measure.clock import ancillary_bytes, enable_kernel_stamps, now_ns
from pytest_modellens.measure.http1 import ResponseParser
from pytest_modellens.measure.poller import READ, WRITE

if TYPE_CHECKING:
    from collections.abc import Generator

    from pytest_modellens.measure.names import Addresses
    from pytest_modellens.measure.route import Route

Read = tuple[int, bytes | None, bytes]
"""(read time ns, kernel's time stamp as it came or None, bytes); `clock.stamp_ns` tells what the stamp means."""

__all__ = ["READ_BYTES", "Connection", "Read", "tls_context"]

READ_BYTES = 8192
"""Longest read. A read begins as bytes of this length, and leaves a hole in memory when it is shrunk to what came."""


@cache
def _tls_context(ca_bundle: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if ca_bundle is None:
        from certifi import where

        ca_bundle = where()
    try:
        context.load_verify_locations(**{"capath" if Path(ca_bundle).is_dir() else "cafile": ca_bundle})
    except OSError as exc:
        raise ConnectError(f"REQUESTS_CA_BUNDLE: cannot be read (got {ca_bundle!r}; {exc.strerror or exc})") from exc
    context.set_alpn_protocols(["http/1.1"])
    return context


def tls_context() -> ssl.SSLContext:
    """Return a verifying context that trusts what requests trusts: the system, certifi, or the bundle it is given."""
    return _tls_context(os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE"))


class Connection:
    """A socket on its way to, or at, one `Route`."""

    __slots__ = (
        "_incoming",
        "_outgoing",
        "_tls",
        "connect_ns",
        "has_kernel_stamps",
        "idle_deadline_ns",
        "idle_limit_s",
        "opening",
        "route",
        "sock",
        "tls_ns",
    )

    def __init__(self, route: Route, addresses: Addresses) -> None:
        self.route = route
        self.sock: socket.socket | None = None
        self.opening: Generator[int, None, None] = self._open(addresses)
        self.connect_ns = 0
        """How long TCP (and the proxy's CONNECT) took."""
        self.tls_ns: int | None = None
        """How long the TLS handshake took; None without TLS."""
        self.has_kernel_stamps = False
        self.idle_limit_s: float | None = None
        self.idle_deadline_ns: int | None = None
        self._tls: ssl.SSLObject | None = None

    def _open(self, addresses: Addresses) -> Generator[int, None, None]:
        began = now_ns()
        yield from self._dial(addresses)
        if self.route.proxy and self.route.tls:
            yield from self._tunnel()
        self.connect_ns = now_ns() - began
        if self.route.tls:
            began = now_ns()
            yield from self._handshake()
            self.tls_ns = now_ns() - began

    def _dial(self, addresses: Addresses) -> Generator[int, None, None]:
        code = errno.EADDRNOTAVAIL
        for family, address in addresses:
            self.close()
            try:
                sock = self.sock = socket.socket(family, socket.SOCK_STREAM)
            except OSError as exc:  # a family that this machine lacks, or no more file descriptors
                code = exc.errno or code
                continue
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.has_kernel_stamps = enable_kernel_stamps(sock)
            code = sock.connect_ex(address)
            if code in {errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EAGAIN}:
                yield WRITE
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code == 0:
                return
        self.close()
        raise ConnectError(self._refusal(code))

    def _refusal(self, code: int) -> str:
        host, port = self.route.dial
        where = f"the proxy {host}:{port}" if self.route.proxy else f"{host}:{port}"
        if code == errno.ECONNREFUSED:
            return f"connection refused (nothing listens at {where}; is the server running?)"
        return f"cannot connect to {where} ({os.strerror(code)})"

    def _tunnel(self) -> Generator[int, None, None]:
        assert self.sock is not None
        assert self.route.proxy is not None
        # CONNECT names the port always, unlike a Host header (RFC 9110, 9.3.6).
        host = f"[{self.route.host}]" if ":" in self.route.host else self.route.host
        authority = f"{host}:{self.route.port}"
        lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}"]
        if self.route.proxy.authorization:
            lines.append(f"Proxy-Authorization: {self.route.proxy.authorization}")
        yield from self._send_all("\r\n".join((*lines, "", "")).encode("latin-1"))
        parser = ResponseParser()
        while parser.status is None:
            yield READ
            data = self._recv()
            if data == b"":
                raise ConnectError(f"the proxy {self.route.proxy.shown} closed the connection")
            if data:
                parser.feed(0, data)
        if not 200 <= parser.status < 300:
            raise ConnectError(f"the proxy {self.route.proxy.shown} refused to connect (HTTP {parser.status})")

    def _handshake(self) -> Generator[int, None, None]:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = tls_context().wrap_bio(self._incoming, self._outgoing, server_hostname=self.route.host)
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                yield from self._send_all(self._outgoing.read())
                yield READ
                data = self._recv()
                if data == b"":
                    raise ConnectError("the server closed the connection during the TLS handshake") from None
                self._incoming.write(data or b"")
            except ssl.SSLCertVerificationError as exc:
                raise ConnectError(
                    f"TLS: the certificate of {self.route.host} is not trusted ({exc.verify_message}; "
                    "set REQUESTS_CA_BUNDLE to the CA file that signed it)"
                ) from exc
            except ssl.SSLError as exc:
                raise ConnectError(f"TLS: no agreement with {self.route.host} ({exc.reason or exc})") from exc
            else:
                yield from self._send_all(self._outgoing.read())
                return

    def _send_all(self, data: bytes) -> Generator[int, None, None]:
        while data := self._send_raw(data):
            yield WRITE

    def _send_raw(self, data: bytes) -> bytes:
        assert self.sock is not None
        try:
            return data[self.sock.send(data) :] if data else data
        except BlockingIOError:
            return data
        except OSError as exc:
            raise ConnectError(f"connection lost while sending ({exc.strerror or exc})") from exc

    def _recv(self) -> bytes | None:
        """Return what arrived; None when nothing did after all, b"" at the end."""
        assert self.sock is not None
        try:
            return self.sock.recv(READ_BYTES)
        except BlockingIOError:
            return None
        except OSError as exc:
            raise ConnectError(f"connection lost ({exc.strerror or exc})") from exc

    def seal(self, data: bytes) -> bytes:
        """Return the bytes to put on the wire for `data`: encrypted under TLS, else the same."""
        if self._tls is None:
            return data
        self._tls.write(data)
        return self._outgoing.read()

    def send(self, data: bytes) -> bytes:
        """Hand sealed bytes to the kernel and return those it did not take yet.

        Raises:
            ConnectError: the connection is gone.
        """
        return self._send_raw(data)

    def receive(self) -> Read | None:
        """Return what can be read now; no bytes at the end of the stream.

        None when nothing is there, or only part of a TLS record.

        Raises:
            OSError: the connection broke.
            ProtocolError: the TLS records are damaged.
        """
        assert self.sock is not None
        try:
            if self.has_kernel_stamps:
                data, ancillary, _, _ = self.sock.recvmsg(READ_BYTES, ancillary_bytes)
                # Of all that sockets can be asked to tell, ours are asked for the time alone.
                read = now_ns(), ancillary[0][2] if ancillary else None, data
            else:
                data = self.sock.recv(READ_BYTES)
                read = now_ns(), None, data
        except BlockingIOError:
            return None
        return read if self._tls is None or not data else self._opened(read)

    def _opened(self, read: Read) -> Read | None:
        assert self._tls is not None
        now, stamp, data = read
        self._incoming.write(data)
        plain = []
        try:
            while piece := self._tls.read(READ_BYTES):
                plain.append(piece)
        except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            pass
        except ssl.SSLError as exc:
            raise ProtocolError(f"TLS: damaged record ({exc.reason or exc})") from exc
        return (now, stamp, b"".join(plain)) if plain else None

    def is_fresh(self) -> bool:
        """Return whether a kept-alive connection can still be used: not closed, not silent for too long."""
        if self.sock is None or (self.idle_deadline_ns is not None and now_ns() > self.idle_deadline_ns):
            return False
        try:
            # Session tickets may be waiting under TLS; anything else before a request means that the server gave up.
            return self.receive() is None
        except (OSError, ProtocolError):
            return False

    def rest(self) -> None:
        """Take note that the connection is idle from now on."""
        if self.idle_limit_s is not None:
            # A second less than the server's limit, because its clock started when it sent.
            self.idle_deadline_ns = now_ns() + int((self.idle_limit_s - 1) * 1e9)

    def close(self) -> None:
        """Close the socket; harmless when it is closed."""
        if self.sock is not None:
            self.sock.close()
            self.sock = None
