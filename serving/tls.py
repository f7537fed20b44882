"""Certificates for gRPC, from PEM files."""

from __future__ import annotations

import pathlib

import grpc


def server_credentials(
    certificate_path: pathlib.Path, key_path: pathlib.Path, client_ca_path: pathlib.Path | None = None
) -> grpc.ServerCredentials:
    """What a server shows, and whom it believes.

    Args:
      certificate_path: its certificate and the chain to its authority.
      key_path: of the certificate.
      client_ca_path: the authority that clients' certificates must come from. None: clients need none.

    Raises:
      OSError: a file cannot be read.
    """
    return grpc.ssl_server_credentials(
        [(key_path.read_bytes(), certificate_path.read_bytes())],
        root_certificates=client_ca_path.read_bytes() if client_ca_path else None,
        require_client_auth=client_ca_path is not None,
    )


def client_credentials(
    ca_path: pathlib.Path | None = None,
    certificate_path: pathlib.Path | None = None,
    key_path: pathlib.Path | None = None,
) -> grpc.ChannelCredentials:
    """What a client believes, and what it shows.

    Args:
      ca_path: the authority that the server's certificate must come from. None: those of this machine.
      certificate_path, key_path: the client's own, where the server wants one.

    Raises:
      OSError: a file cannot be read.
    """
    return grpc.ssl_channel_credentials(
        ca_path.read_bytes() if ca_path else None,
        key_path.read_bytes() if key_path else None,
        certificate_path.read_bytes() if certificate_path else None,
    )
