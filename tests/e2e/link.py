"""A link to a server that a test can break: what a network, or a service behind it, does to connections.

What the server keeps in memory outlives the link, as what a real service has outlives its processes.
"""

import socket
import struct
import threading
import time


class Link:
    """Forwards connections to an address, as long as the test lets it."""

    def __init__(self, target: str):
        self.target = address_of(target)
        self.lock = threading.Lock()
        self.pairs: set[tuple[socket.socket, socket.socket]] = set()
        # Set: bytes go on. Requests and answers wait apart.
        self.requests, self.answers = threading.Event(), threading.Event()
        self.requests.set()
        self.answers.set()
        self.cuts = 0
        self.listener = listen(("127.0.0.1", 0))
        self.address = "{}:{}".format(*self.listener.getsockname())
        self.accept()

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def down(self) -> None:
        """Refuses connections and resets those that there are: a service that was killed."""
        # Wakes the thread that waits for connections, which close() alone does not.
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.reset()

    def up(self) -> None:
        self.listener = listen(address_of(self.address))
        self.accept()

    def freeze(self, seconds: float) -> None:
        """Nothing goes either way for a while, and all connections stay."""
        self.requests.clear()
        self.answers.clear()
        time.sleep(seconds)
        self.answers.set()
        self.requests.set()

    def mute(self, seconds: float) -> None:
        """Requests arrive and are done; their answers never come."""
        self.answers.clear()
        time.sleep(seconds)
        self.reset()
        self.answers.set()

    def cut(self, times: int) -> None:
        """Resets a connection at its next answer, so many times: the request was done, and its answer is lost."""
        with self.lock:
            self.cuts = times

    def reset(self) -> None:
        with self.lock:
            pairs, self.pairs = self.pairs, set()
        for pair in pairs:
            close(*pair)

    def stop(self) -> None:
        self.answers.set()
        self.requests.set()
        self.down()

    def accept(self) -> None:
        threading.Thread(target=self.accept_all, args=(self.listener,), daemon=True).start()

    def accept_all(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self.target)
            except OSError:
                close(client)
                continue
            for side in (client, server):
                side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self.lock:
                self.pairs.add((client, server))
            for source, sink, gate in ((client, server, self.requests), (server, client, self.answers)):
                threading.Thread(target=self.pump, args=((client, server), source, sink, gate), daemon=True).start()

    def pump(self, pair, source: socket.socket, sink: socket.socket, gate: threading.Event) -> None:
        try:
            while data := source.recv(1 << 16):
                gate.wait()
                if source is pair[1] and self.is_cut():
                    break
                sink.sendall(data)
        except OSError:
            pass
        with self.lock:
            self.pairs.discard(pair)
        close(*pair)

    def is_cut(self) -> bool:
        with self.lock:
            self.cuts, is_cut = max(self.cuts - 1, 0), self.cuts > 0
            return is_cut


def address_of(text: str) -> tuple[str, int]:
    host, port = text.rsplit(":", 1)
    return host, int(port)


def listen(address: tuple[str, int]) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(address)
    listener.listen(64)
    return listener


def close(*sides: socket.socket) -> None:
    """Closes by a reset: what was sent and has not arrived is gone."""
    for side in sides:
        try:
            side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            side.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        side.close()
