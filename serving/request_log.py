"""A sample of the requests that were answered, as TFRecords of PredictionLog, without saying whose they were.

User ids are written as HMAC-SHA256 under a key that lies elsewhere: equal users stay equal, and nobody without the key
can try ids out. Of each request only what is named here is written: movie ids, k, filters; histories where asked for.
Logging costs a request a random number; a thread of its own does the rest, and what it cannot keep up with, cannot
read or cannot write is counted and let go: no request waits or fails for the log. Imports no TensorFlow.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import pathlib
import queue
import random
import struct
import threading
import time
from typing import Any

import google_crc32c

from serving import protocol, tensors
from trainer_modules import contract

_LOG = logging.getLogger("movierec.serving")
_MIN_KEY_BYTES = 16
_MAX_WAITING = 128
_PATTERN = "requests-*.tfrecord"

# Of a tf.Example the names are the contract's, and the time of the rating besides. True: of these, strings are kept and
# numbers not; False: the other way round, as a string could be anything.
_KEPT = {
    contract.MOVIE_ID: True, contract.GENRE: True,
    contract.K: False, contract.MIN_YEAR: False, contract.MAX_YEAR: False,
}  # fmt: skip
_HISTORIES = {
    contract.HISTORY_MOVIE_ID: True, contract.SEEN_MOVIE_ID: True, contract.EXCLUDE_MOVIE_ID: True,
    contract.HISTORY_RATING: False, contract.HISTORY_TIMESTAMP: False, contract.QUERY_TIMESTAMP: False,
    "timestamp": False,
}  # fmt: skip


class RequestLog:
    """Files `requests-TIME-PROCESS.tfrecord` in a folder; close it, or use it as a context manager.

        with RequestLog(folder, key_path, rate=.01) as log, RecommenderClient(request_log=log) as client: ...

    A file ends with a torn record where the process was killed while it wrote.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        key_path: pathlib.Path,
        rate: float = 0.01,
        with_histories: bool = False,
        max_file_bytes: int = 16 * 2**20,
        max_files: int = 8,
    ) -> None:
        """
        Args:
          folder: made where it is not; readable by this user only.
          key_path: at least 16 random bytes (`openssl rand -out FILE 32`), outside the folder. With another key, or
            without it, the same user cannot be found again.
          rate: share of the requests that are logged, above 0 up to 1.
          with_histories: whether to write histories, seen movies and exclusions: they may tell who somebody is.
          max_file_bytes: a file that has reached it is followed by a new one.
          max_files: in the folder; beyond that the oldest goes.

        Raises:
          OSError: the key cannot be read or the folder not be made.
          ValueError: the key is short or in the folder; or no such rate or size.
        """
        if not 0 < rate <= 1:
            raise ValueError(f"the share of requests to log is {rate}; it must be above 0 and at most 1")
        if max_file_bytes < 1 or max_files < 1:
            raise ValueError(f"{max_files} files of {max_file_bytes} bytes hold no log")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if key_path.resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"the key {key_path} lies in the log {folder}: whoever is given the log must not have it")
        self._key = key_path.read_bytes()
        if len(self._key) < _MIN_KEY_BYTES:
            raise ValueError(
                f"the key in {key_path} has {len(self._key)} bytes, and short keys can be guessed: make one with"
                f" `openssl rand -out {key_path} 32`"
            )
        self.num_written = 0
        self.num_lost = 0
        """Sampled, but not written: too many at once, or a fault."""
        self._folder = folder
        self._rate = rate
        self._with_histories = with_histories
        self._max_file_bytes = max_file_bytes
        self._max_files = max_files
        self._file: Any = None
        self._queue: queue.Queue[Any] = queue.Queue(_MAX_WAITING)
        self._thread = threading.Thread(target=self._write_all, name="request-log", daemon=True)
        self._thread.start()

    def offer(self, request: Any) -> None:
        """Logs a request, perhaps. Returns at once and raises nothing.

        Args:
          request: a PredictRequest, of TensorFlow Serving's messages or ours, that was answered and is not changed
            afterwards.
        """
        if random.random() >= self._rate:
            return
        try:
            self._queue.put_nowait(request)
        except queue.Full:
            self.num_lost += 1

    def close(self, timeout_s: float = 5.0) -> None:
        """Writes what waits."""
        try:
            self._queue.put(None, timeout=timeout_s)
        except queue.Full:
            return
        self._thread.join(timeout_s)

    def __enter__(self) -> RequestLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write_all(self) -> None:
        while (request := self._queue.get()) is not None:
            try:
                self._write(framed(self._record(request)))
                self.num_written += 1
            except Exception as error:  # a full disk, an Example that is none: the log's loss, nobody else's
                self.num_lost += 1
                if self.num_lost == 1:
                    _LOG.warning("requests are not logged to %s: %s", self._folder, error)
        if self._file:
            self._file.close()

    def _record(self, request: Any) -> bytes:
        log = protocol.PredictionLog()
        log.predict_log.request.CopyFrom(pseudonymous(request, self._key, self._with_histories))
        log.log_metadata.model_spec.CopyFrom(log.predict_log.request.model_spec)
        log.log_metadata.sampling_config.sampling_rate = self._rate
        log.log_metadata.timestamp_secs = int(time.time())
        return bytes(log.SerializeToString())

    def _write(self, record: bytes) -> None:
        if self._file is None or self._file.tell() >= self._max_file_bytes:
            self._next_file()
        start = self._file.tell()
        try:
            if self._file.write(record) != len(record):  # unbuffered: one call, one record
                raise OSError("the disk took a part of a record only")
        except OSError:
            self._file.truncate(start)
            self._file.seek(start)
            raise

    def _next_file(self) -> None:
        if self._file:
            self._file.close()
            self._file = None
        now = time.time()
        moment = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(now))}.{now % 1 * 1e6:06.0f}"
        name = f"requests-{moment}-{os.getpid()}.tfrecord"
        descriptor = os.open(self._folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._file = os.fdopen(descriptor, "wb", buffering=0)
        for old in sorted(self._folder.glob(_PATTERN))[: -self._max_files]:
            old.unlink(missing_ok=True)


def pseudonymous(request: Any, key: bytes, with_histories: bool) -> Any:
    """A PredictRequest with the user ids as HMAC, and without what the log does not keep.

    Args:
      request: a PredictRequest.
      key: of the HMAC.
      with_histories: whether to keep histories, seen movies and exclusions.

    Returns:
      A protocol.PredictRequest.

    Raises:
      Exception: an Example that is none.
    """
    given = protocol.PredictRequest.FromString(request.SerializeToString())
    given.DiscardUnknownFields()
    kept = protocol.PredictRequest(model_spec=given.model_spec)
    names = _KEPT | _HISTORIES if with_histories else _KEPT
    for alias, tensor in given.inputs.items():
        if alias in names:
            values = tensors.decode(tensor)
            if names[alias] == (values.dtype == object):
                tensors.encode(values, kept.inputs[alias])  # its values, and whatever else it holds not
        elif alias in (contract.USER_ID, contract.EXAMPLES):
            written = kept.inputs[alias]
            written.dtype = tensor.dtype
            written.tensor_shape.CopyFrom(tensor.tensor_shape)
            if alias == contract.USER_ID:
                written.string_val.extend(_pseudonym(value, key) for value in tensor.string_val)
            else:
                written.string_val.extend(_example(value, key, names) for value in tensor.string_val)
    return kept


def _example(serialized: bytes, key: bytes, names: dict[str, bool]) -> bytes:
    given, kept = protocol.Example.FromString(serialized), protocol.Example()
    given.DiscardUnknownFields()
    for name, feature in given.features.feature.items():
        if name in names and names[name] == feature.HasField("bytes_list"):
            kept.features.feature[name].CopyFrom(feature)
        elif name == contract.USER_ID:
            values = (_pseudonym(value, key) for value in feature.bytes_list.value)
            kept.features.feature[name].bytes_list.value.extend(values)
    return bytes(kept.SerializeToString())


def _pseudonym(user_id: bytes, key: bytes) -> bytes:
    return hmac.digest(key, user_id, hashlib.sha256).hex().encode()


def framed(data: bytes) -> bytes:
    """One record of a TFRecord file: length and data, each with its masked CRC-32C, little-endian."""
    length = struct.pack("<Q", len(data))
    return length + _masked_crc(length) + data + _masked_crc(data)


def _masked_crc(data: bytes) -> bytes:
    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
