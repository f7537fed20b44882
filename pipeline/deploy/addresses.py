"""Addresses of artifacts: in the object store, and where Kubeflow's launcher puts them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

FOLDERS = {"s3://": "/s3/", "minio://": "/minio/", "gs://": "/gcs/"}
"""Where the launcher, and Vertex for gs://, shows what lies under an address."""
PREFIX_VARIABLE = "MOVIEREC_LAUNCHER_PREFIX"
"""Environment: a folder that stands for / in FOLDERS, for who cannot write there."""


def local_path(address: str, prefix: str = "") -> str:
    """s3://BUCKET/KEY -> /s3/BUCKET/KEY; anything else is left as it is."""
    for scheme, folder in FOLDERS.items():
        if address.startswith(scheme):
            return f"{prefix}{folder}{address[len(scheme) :]}"
    return address


def remote_address(path: str, prefix: str = "") -> str:
    """The opposite of local_path."""
    for scheme, folder in FOLDERS.items():
        if path.startswith(prefix + folder):
            return scheme + path[len(prefix + folder) :]
    return path


def artifacts_of(side: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every artifact of an ExecutorInput's inputs or outputs, or of an ExecutorOutput."""
    for given in side.get("artifacts", {}).values():
        yield from given.get("artifacts", [])
