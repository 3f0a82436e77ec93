"""An HTTP/1.1 client on bare sockets, which says exactly how an exchange went wrong."""

import asyncio
import contextlib
import json
import socket
from dataclasses import dataclass, field

Address = tuple[str, int]


class Broken(Exception):
    """An exchange that came to no good end: its kind is `refused`, `reset`, `closed`, `timeout` or `malformed`."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


@dataclass
class Answer:
    """As far as it came: the status is 0 while there is none."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def server(self) -> str:
        return self.headers.get("x-backend", "")

    def json(self) -> object:
        return json.loads(self.body)


class Connection:
    """One connection; what is read ahead stays with it."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self.buffer = bytearray()
        self.used = False
        self.open = True

    @classmethod
    async def to(cls, address: Address, timeout: float = 5.0, source: str = "") -> "Connection":
        """Connects, from an address of its own if one is given."""
        connecting = socket.socket()
        connecting.setblocking(False)
        try:
            connecting.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if source:
                connecting.bind((source, 0))
            await asyncio.wait_for(asyncio.get_running_loop().sock_connect(connecting, address), timeout)
        except BaseException as error:
            connecting.close()
            raise broken(error) from error
        return cls(connecting)

    def close(self) -> None:
        self.open = False
        self.socket.close()

    def state(self) -> str:
        """What there is to read between two requests: `silent` is good, `closed` no harm, `bytes` nobody asked for."""
        if self.buffer:
            return "bytes"
        try:
            return "bytes" if self.socket.recv(1, socket.MSG_PEEK) else "closed"
        except BlockingIOError:
            return "silent"
        except OSError:
            return "closed"

    async def exchange(
        self, method: str, path: str, headers: dict[str, str], body: bytes, answer: Answer, timeout: float
    ) -> None:
        """Sends a request and fills `answer`, which shows how far it came if this fails."""
        head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        if method == "POST":
            head += f"content-length: {len(body)}\r\n"
        sending = asyncio.create_task(self.send(head.encode() + b"\r\n" + body))
        self.used = True
        try:
            await asyncio.wait_for(self.read_answer(answer), timeout)
            if not sending.done():
                self.close()  # answered before all was sent: the rest is not wanted
        except BaseException as error:
            self.close()
            raise broken(error) from error
        finally:
            sending.cancel()
            # What failed while sending shows, better, in what was read.
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await sending
        if answer.headers.get("connection", "").lower() == "close":
            self.close()

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.socket, data)

    async def read_answer(self, answer: Answer) -> None:
        head = await self.read_until(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")[:-2]
        version, _, rest = first.partition(" ")
        if version != "HTTP/1.1" or not rest[:3].isdigit():
            raise Broken("malformed")
        answer.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        answer.status = int(rest[:3])
        if answer.status == 101:
            return
        if "chunked" in answer.headers.get("transfer-encoding", ""):
            answer.body = await self.read_chunks()
        else:
            answer.body = await self.read_exactly(int(answer.headers.get("content-length", 0)))

    async def read_chunks(self) -> bytes:
        parts = []
        while size := int((await self.read_until(b"\r\n")).split(b";")[0], 16):
            parts.append((await self.read_exactly(size + 2))[:-2])
        while await self.read_until(b"\r\n") != b"\r\n":
            pass
        return b"".join(parts)

    async def read_until(self, end: bytes) -> bytes:
        while (found := self.buffer.find(end)) < 0:
            await self.fill()
        return self.take(found + len(end))

    async def read_exactly(self, count: int) -> bytes:
        while len(self.buffer) < count:
            await self.fill()
        return self.take(count)

    def take(self, count: int) -> bytes:
        taken = bytes(self.buffer[:count])
        del self.buffer[:count]
        return taken

    async def fill(self) -> None:
        data = await asyncio.get_running_loop().sock_recv(self.socket, 1 << 18)
        if not data:
            raise Broken("closed")
        self.buffer += data


def broken(error: BaseException) -> BaseException:
    """In the words of this file, if it is one that a network may give."""
    kinds = {
        ConnectionRefusedError: "refused",
        ConnectionError: "reset",
        TimeoutError: "timeout",
        asyncio.TimeoutError: "timeout",
        ValueError: "malformed",
    }
    return next((Broken(kind) for of, kind in kinds.items() if isinstance(error, of)), error)


async def fetch(
    address: Address, path: str, method: str = "GET", body: object = None, timeout: float = 10.0
) -> Answer:
    """One request on a connection of its own; a body is sent as JSON."""
    connection = await Connection.to(address, timeout)
    try:
        answer = Answer()
        content = b"" if body is None else json.dumps(body).encode()
        headers = {"host": f"{address[0]}:{address[1]}", "connection": "close", "content-type": "application/json"}
        if method != "POST" and content:
            headers["content-length"] = str(len(content))
        await connection.exchange(method, path, headers, content, answer, timeout)
        return answer
    finally:
        connection.close()
