"""A TCP relay in a thread, between a machine and a server: cut, it lets nothing through and closes nothing."""

import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress


class Relay:
    """Listens on a port of its own, and hands all on to a server on loopback. ``accepted`` counts connections."""

    def __init__(self, server_port: int, port: int = 0) -> None:
        self._server_port = server_port
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port: int = self._listener.getsockname()[1]
        self._peers: dict[socket.socket, socket.socket] = {}
        self._through = threading.Event()
        self._through.set()
        self._ending = False
        self.accepted = 0
        self._thread = threading.Thread(target=self._run_carrying, name="relay", daemon=True)
        self._thread.start()

    @contextmanager
    def cut(self) -> Iterator[None]:
        """Nothing comes through until the block ends; what was sent meanwhile does then."""
        self._through.clear()
        try:
            yield
        finally:
            self._through.set()

    def close(self) -> None:
        """End all connections."""
        self._ending = True
        self._through.set()
        self._thread.join(10)
        self._listener.close()
        for peer in list(self._peers):
            peer.close()

    def _run_carrying(self) -> None:
        with closing(selectors.DefaultSelector()) as ready:
            ready.register(self._listener, selectors.EVENT_READ)
            while not self._ending:
                for key, _ in ready.select(0.1):
                    self._through.wait()
                    if key.fileobj is self._listener:
                        self._join(ready)
                    else:
                        self._carry(ready, key.fileobj)  # type: ignore[arg-type]

    def _join(self, ready: selectors.BaseSelector) -> None:
        client, _ = self._listener.accept()
        self.accepted += 1
        try:
            server = socket.create_connection(("127.0.0.1", self._server_port), 5)
        except OSError:
            client.close()
            return
        for source, target in ((client, server), (server, client)):
            self._peers[source] = target
            ready.register(source, selectors.EVENT_READ)

    def _carry(self, ready: selectors.BaseSelector, source: socket.socket) -> None:
        target = self._peers.get(source)
        if target is None:
            return
        with suppress(OSError):
            if received := source.recv(65_536):
                target.sendall(received)
                return
        for end in (source, target):
            ready.unregister(end)
            del self._peers[end]
            end.close()


@contextmanager
def port_that_drops_connections(port: int) -> Iterator[None]:
    """A port that neither accepts nor refuses connections, as behind a firewall that drops packets: Linux drops
    what comes to a listener whose queue is full."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", port), backlog=0))
        for _ in range(8):
            waiting = stack.enter_context(closing(socket.socket()))
            waiting.settimeout(0.3)
            try:
                waiting.connect(listener.getsockname())
            except TimeoutError:
                break
        else:
            raise AssertionError(f"port {port} takes all connections")
        yield
