"""Warm-up: the requests that a version brings along are answered before it serves anybody."""

from __future__ import annotations

import pathlib

import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from serving.saved_model import LoadedModel, invalid_argument

FILE = pathlib.PurePath("assets.extra", "tf_serving_warmup_requests")
"""Under a version's directory: a TFRecord of PredictionLog."""
MAX_RECORDS = 1000


def warm_up(model: LoadedModel, path: pathlib.Path) -> int:
    """Answers each recorded request once; how many there were.

    Args:
      model: loaded from `path`.
      path: the version's directory; without the file nothing is done.

    Raises:
      Exception: a record that cannot be read or answered, or more than MAX_RECORDS; `saved_model.status_of` reads it.
    """
    file = path / FILE
    if not file.is_file():
        return 0
    num_records = 0
    for record in tf.compat.v1.io.tf_record_iterator(str(file)):
        num_records += 1
        if num_records > MAX_RECORDS:
            raise invalid_argument(f"Number of warmup records exceeds the maximum ({MAX_RECORDS}) at {file}")
        log = prediction_log_pb2.PredictionLog()
        try:
            log.ParseFromString(record)
        except Exception as error:  # protobuf's DecodeError, which has no stable place
            raise invalid_argument(f"Failed to parse warmup record: {num_records} from {file}") from error
        kind = log.WhichOneof("log_type")
        if kind != "predict_log":
            raise invalid_argument(f"Unsupported log_type for warmup: {kind}")
        request = log.predict_log.request
        model.predict(request.model_spec.signature_name or "serving_default", request.inputs, request.output_filter)
    return num_records
