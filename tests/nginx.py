"""Debian's nginx as the TLS end of a server that speaks none itself."""

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.certificates import Certificate
from tests.waiting import wait_for

_CONFIGURATION = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log info;
events {{}}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    # A poll of a worker lasts for a minute, and its stream stays open.
    grpc_read_timeout 300s;
    grpc_send_timeout 300s;
    client_body_timeout 300s;
    keepalive_requests 100000;
{servers}
}}
"""
_SERVER = """
    server {{
        listen 127.0.0.1:{port} ssl http2;
        ssl_certificate {certificate};
        ssl_certificate_key {key};
        {checks}
        location / {{
            {access}
            {target};
        }}
    }}
"""


@dataclass(frozen=True)
class Site:
    """A whole server block that listens on that port."""

    port: int
    text: str


class TlsEnd:
    """One TLS address: in front of a server of gRPC or, with ``http``, of HTTP; requires a client certificate of
    ``client_ca`` if that is given, and ``Authorization: Bearer <token>`` if that is."""

    def __init__(
        self,
        port: int,
        server_port: int,
        certificate: Certificate,
        *,
        client_ca: Path | None = None,
        token: str = "",
        http: bool = False,
    ) -> None:
        self.port = port
        checks = f"ssl_client_certificate {client_ca}; ssl_verify_client on;" if client_ca else ""
        access = f'if ($http_authorization != "Bearer {token}") {{ return 401; }}' if token else ""
        target = (
            f"proxy_pass http://127.0.0.1:{server_port}" if http else f"grpc_pass grpc://127.0.0.1:{server_port}"
        )
        self.text = _SERVER.format(
            port=port,
            certificate=certificate.certificate,
            key=certificate.key,
            checks=checks,
            access=access,
            target=target,
        )


@contextmanager
def running_nginx(folder: Path, *ends: TlsEnd | Site) -> Iterator["subprocess.Popen[bytes]"]:
    """An nginx with these ends, up until the block ends."""
    configuration = folder / "nginx.conf"
    text = _CONFIGURATION.format(folder=folder, servers="".join(end.text for end in ends))
    if os.getuid() == 0:
        text = "user root;\n" + text
    configuration.write_text(text, "utf-8")
    command = ["nginx", "-e", str(folder / "error.log"), "-p", str(folder), "-c", str(configuration)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for end in ends:
            wait_for(f"nginx listens on {end.port}", lambda port=end.port: _listens(port))
        yield server
    finally:
        server.terminate()
        server.wait(20)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
