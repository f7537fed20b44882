"""Where an edition's files come from: a folder or zip at hand, the cache, the network, or the sample's generator."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import lzma
import pathlib
import re
import struct
import tempfile
import textwrap
import zipfile
import zlib
from collections.abc import Iterator
from typing import BinaryIO, cast

from components import movielens_sample
from components.editions import Edition
from components.errors import InputError

_log = logging.getLogger("movierec.data")

_CHUNK_BYTES = 1 << 20
_TIMEOUT_S = 30
_DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError)
"""What reading a damaged zip raises."""
_NOT_OPENED = (*_DAMAGED, RuntimeError, UnicodeDecodeError, struct.error)
"""And opening one: encrypted or packed in a way unknown, names that are no text, records cut short."""


def locate(edition: Edition, data_dir: pathlib.Path | None, cache_dir: pathlib.Path) -> pathlib.Path:
    """The folder or zip file that holds the edition's files; all of them are there.

    Args:
      edition: which one.
      data_dir: a folder or zip of the user's, or None.
      cache_dir: where downloads and the sample are kept.

    Raises:
      InputError: data_dir lacks a file; there is no copy and no network; a download does not have its published sum.
    """
    if edition.synthetic:
        if data_dir is not None:
            raise InputError(
                f"The data set {edition.name!r} is generated and takes no data folder, but {data_dir} was given."
                " Name the edition that lies there, for example: --dataset ml-100k."
            )
        path = _generate(edition, cache_dir)
    elif data_dir is not None:
        path = data_dir
    else:
        path = _cached_or_downloaded(edition, cache_dir)
    for name in edition.file_names:
        with open_file(path, edition, name):
            pass
    return path


def content_digest(path: pathlib.Path, edition: Edition) -> str:
    """SHA-256 (hexadecimal) of what the edition's files hold; the same for a folder and a zip of it.

    Never of dates or sizes alone, so that a file changed behind their back is seen.

    Raises:
      InputError: a file is missing or cannot be read.
    """
    digest = hashlib.sha256()
    for name in edition.file_names:
        file_digest = hashlib.sha256()
        with open_file(path, edition, name) as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                file_digest.update(chunk)
        digest.update(f"{name}\0{file_digest.hexdigest()}\n".encode())
    return digest.hexdigest()


def publication(path: pathlib.Path, edition: Edition) -> str:
    """In words: whether this is the file that was published, as far as its MD5 sum can tell."""
    if edition.synthetic:
        return "generated here"
    if path.is_dir():
        return "unpacked: only the zip has a published MD5 sum"
    found = _md5(path)
    if not edition.md5:
        return f"MD5 {found}; this edition changes, and its published sum is compared when it is downloaded"
    return f"MD5 {found}, as published" if found == edition.md5 else f"MD5 {found}, NOT the published {edition.md5}"


@contextlib.contextmanager
def open_file(path: pathlib.Path, edition: Edition, name: str) -> Iterator[BinaryIO]:
    """The bytes of one of the edition's files, in a folder or read straight out of a zip.

    Nothing is ever unpacked, so names in a zip that climb out of the folder lead nowhere.

    Raises:
      InputError: no such folder, zip or file in it, or damaged.
    """
    with contextlib.ExitStack() as opened:
        with _faults_named(path, name, _NOT_OPENED):
            stream = _open(path, edition, name, opened)
        with _faults_named(path, name, _DAMAGED):
            yield stream


def _open(path: pathlib.Path, edition: Edition, name: str, opened: contextlib.ExitStack) -> BinaryIO:
    """Whatever it opens is handed to `opened` to be closed."""
    if path.is_dir():
        candidates = [path / place for place in reversed(edition.places_of(name))]
        found = next((candidate for candidate in candidates if candidate.is_file()), None)
        if found is None:
            raise InputError(_missing(path, edition, name))
        return opened.enter_context(found.open("rb"))
    if not path.exists():
        raise InputError(f"{path} does not exist. It should be a folder or a zip with {edition.name}'s files.")
    archive = opened.enter_context(zipfile.ZipFile(path))
    members = set(archive.namelist())
    member = next((place for place in edition.places_of(name) if place in members), None)
    if member is None:
        raise InputError(_missing(path, edition, name))
    return cast(BinaryIO, opened.enter_context(archive.open(member)))


@contextlib.contextmanager
def _faults_named(path: pathlib.Path, name: str, damaged: tuple[type[Exception], ...]) -> Iterator[None]:
    """Makes an InputError of a damaged zip and of what the file system refuses."""
    try:
        yield
    except damaged as error:
        raise InputError(f"{path} is not a zip file, or a damaged one ({error}). Download it again.") from error
    except OSError as error:
        raise InputError(f"{name} in {path} cannot be read: {error}.") from error


def _missing(path: pathlib.Path, edition: Edition, name: str) -> str:
    return f"{path} holds no file {name}. {edition.name} needs: {', '.join(edition.file_names)}."


def _generate(edition: Edition, cache_dir: pathlib.Path) -> pathlib.Path:
    """The sample's folder. Its name holds a digest of the generator: another generator, another folder."""
    source = pathlib.Path(movielens_sample.__file__).read_bytes()
    folder = cache_dir / f"{edition.name}-{hashlib.sha256(source).hexdigest()[:12]}"
    if not folder.is_dir():
        cache_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache_dir, prefix=".sample-") as parent:
            half_made = pathlib.Path(parent) / "sample"
            half_made.mkdir()
            movielens_sample.write(half_made)
            # Appears whole or not at all; where another process was faster, its copy is as good.
            with contextlib.suppress(OSError):
                half_made.rename(folder)
        _log.info("%s: generated (synthetic) in %s", edition.name, folder)
    return folder


def _cached_or_downloaded(edition: Edition, cache_dir: pathlib.Path) -> pathlib.Path:
    cached_zip = cache_dir / f"{edition.name}.zip"
    if not cached_zip.exists():
        _download(edition, cache_dir)
    elif edition.md5:
        _check_md5(cached_zip, edition.md5)
    return cached_zip


def _md5(path: pathlib.Path) -> str:
    import pooch

    return str(pooch.file_hash(str(path), alg="md5"))


def _check_md5(path: pathlib.Path, published: str) -> None:
    found = _md5(path)
    if found != published:
        raise InputError(f"{path} has the MD5 sum {found}; published is {published}. Delete it to download it again.")


def _download(edition: Edition, cache_dir: pathlib.Path) -> None:
    """Puts the zip into the cache, checked against its published MD5."""
    import pooch  # only who downloads needs it

    name = f"{edition.name}.zip"
    _log.info("%s: downloading %s", edition.name, edition.url)
    pooch.get_logger().setLevel(logging.WARNING)  # it has a handler of its own
    downloader = pooch.HTTPDownloader(progressbar=True, timeout=_TIMEOUT_S)
    try:
        md5 = edition.md5 or _published_md5(edition)
        registry = {name: f"md5:{md5}"}
        source = pooch.create(cache_dir, edition.url.removesuffix(name), registry=registry, retry_if_failed=2)
        source.fetch(name, downloader=downloader)
    except InputError:
        raise
    except OSError as error:  # every fault of the network is one, too
        reason = textwrap.shorten(f"{type(error).__name__}: {error}", 200)
        raise InputError(
            f"{edition.name} is not at hand and cannot be downloaded from {edition.url} ({reason}). Either run this"
            " where the network allows it, or fetch that file on another machine and give it, zip or unpacked:"
            " --data-dir DIR."
        ) from error
    except ValueError as error:  # pooch's word for another sum than the one asked for
        raise InputError(f"What came from {edition.url} does not have the published MD5 sum: {error}") from error


def _published_md5(edition: Edition) -> str:
    import requests

    response = requests.get(f"{edition.url}.md5", timeout=_TIMEOUT_S)
    response.raise_for_status()
    found = re.search(r"\b[0-9a-f]{32}\b", response.text)
    if found is None:
        raise InputError(f"{edition.url}.md5 holds no MD5 sum but {response.text[:100]!r}: the zip cannot be checked.")
    return found.group()
