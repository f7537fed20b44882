"""REST's JSON bodies to tensors and back, in TensorFlow Serving's row and column forms."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from serving import protocol, tensors
from serving.saved_model import invalid_argument

_BYTES_SUFFIX = "_bytes"
_MAX_DEPTH = 32


def parse(body: bytes) -> dict[str, Any]:
    """The object of a request's body.

    Raises:
      RequestError: it is not one.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise invalid_argument(f"JSON Parse error: {error}") from error
    if not isinstance(document, dict):
        raise invalid_argument("JSON Parse error: the request body is not an object")
    return document


def read_inputs(document: Mapping[str, Any], infos: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """The inputs of a request.

    Args:
      document: with "instances" (row form: one value for each row) or "inputs" (column form: one for each input).
      infos: alias -> TensorInfo of the signature's inputs.

    Returns:
      alias -> TensorProto; True for the row form.

    Raises:
      RequestError: INVALID_ARGUMENT, it fits neither form or a value does not fit its input.
    """
    by_row, by_column = "instances" in document, "inputs" in document
    if by_row and by_column:
        raise invalid_argument(
            "JSON Value: Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist"
        )
    if by_column:
        return {alias: _tensor(alias, value, infos) for alias, value in _columns(document["inputs"], infos)}, False
    if not by_row:
        raise invalid_argument("Missing 'inputs' or 'instances' key")
    rows = document["instances"]
    if not isinstance(rows, list):
        raise invalid_argument("JSON Value: Excepting 'instances' to be an list/array")
    if not rows:
        raise invalid_argument("JSON Value: No values in 'instances' array")
    if not _is_named(rows[0]):
        return {_only(infos, "instances"): _tensor(_only(infos, "instances"), rows, infos)}, True
    columns: dict[str, list[Any]] = {alias: [] for alias in rows[0]}
    for position, row in enumerate(rows):
        if not _is_named(row) or set(row) != set(columns):
            raise invalid_argument(
                f"Failed to process element: {position} of 'instances' list. JSON Value: {_short(row)}"
                f" is not an object with the keys {{{','.join(sorted(columns))}}}"
            )
        for alias, value in row.items():
            columns[alias].append(value)
    return {alias: _tensor(alias, values, infos) for alias, values in columns.items()}, True


def write_outputs(outputs: Mapping[str, npt.NDArray[Any]], by_row: bool) -> dict[str, Any]:
    """The body of an answer. One output alone goes without its name.

    Raises:
      RequestError: INVALID_ARGUMENT, outputs that cannot be put in rows.
    """
    if not by_row:
        columns = {alias: _json_values(alias, output) for alias, output in outputs.items()}
        return {"outputs": next(iter(columns.values())) if len(columns) == 1 else columns}
    num_rows: int | None = None
    for alias, output in outputs.items():
        if output.ndim == 0:
            raise invalid_argument(f"Tensor name: {alias} has no shape information")
        if len(output) != (len(output) if num_rows is None else num_rows):
            raise invalid_argument(
                f"Tensor name: {alias} has inconsistent batch size: {len(output)} expecting: {num_rows}"
            )
        num_rows = len(output)
    columns = {alias: _json_values(alias, output) for alias, output in outputs.items()}
    if len(columns) == 1:
        return {"predictions": next(iter(columns.values()))}
    return {"predictions": [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]}


def _columns(inputs: Any, infos: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return list(inputs.items()) if _is_named(inputs) else [(_only(infos, "inputs"), inputs)]


def _is_named(value: Any) -> bool:
    """An object that is not a string in base64."""
    return isinstance(value, dict) and set(value) != {"b64"}


def _only(infos: Mapping[str, Any], key: str) -> str:
    if len(infos) != 1:
        raise invalid_argument(
            f"{key} is a plain value/list, but expecting an object/map as multiple input tensors required as per"
            " tensorinfo_map"
        )
    return next(iter(infos))


def _tensor(alias: str, value: Any, infos: Mapping[str, Any]) -> Any:
    info = infos.get(alias)
    if info is None:
        raise invalid_argument(f"JSON object: does not have named input: {alias}")
    dtype = tf.dtypes.as_dtype(info.dtype)
    shape: list[int] = []
    inside = value
    while isinstance(inside, list):
        shape.append(len(inside))
        if len(shape) > _MAX_DEPTH:
            raise invalid_argument(f"JSON Value: the list of {alias} is nested deeper than {_MAX_DEPTH}")
        inside = inside[0] if inside else None
    leaves: list[Any] = []
    _collect(value, 0, shape, dtype, leaves)
    proto = protocol.TensorProto()
    try:
        array = np.array(leaves, dtype.as_numpy_dtype)
    except (OverflowError, ValueError) as error:
        raise invalid_argument(f"JSON Value: {alias} is not of expected type: {dtype.name}: {error}") from error
    tensors.encode(array.reshape(shape), proto)
    return proto


def _collect(value: Any, level: int, shape: list[int], dtype: tf.DType, leaves: list[Any]) -> None:
    """Appends the scalars of a nested list, all of them at the level of the shape's rank."""
    if not isinstance(value, list):
        if level != len(shape):
            raise invalid_argument(
                f"JSON Value: {_short(value)} found at incorrect level: {level + 1} in the JSON DOM."
                f" Expected at level: {len(shape)}"
            )
        leaves.append(_scalar(value, dtype))
        return
    if level >= len(shape):
        raise invalid_argument(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(value) != shape[level]:
        raise invalid_argument(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}"
        )
    for inner in value:
        _collect(inner, level + 1, shape, dtype, leaves)


def _scalar(value: Any, dtype: tf.DType) -> Any:
    if dtype == tf.string:
        if isinstance(value, str):
            return value.encode("utf-8", "surrogatepass")
        if isinstance(value, dict):
            return _from_base64(value)
    elif dtype == tf.bool:
        if isinstance(value, bool):
            return value
    elif not isinstance(value, bool) and (
        isinstance(value, int) or (dtype.is_floating and isinstance(value, float))
    ):
        return value
    kind = {str: "String", bool: str(value), dict: "Object", type(None): "Null"}.get(type(value), "Number")
    raise invalid_argument(f"JSON Value: {_short(value)} Type: {kind} is not of expected type: {_name(dtype)}")


def _from_base64(value: dict[str, Any]) -> bytes:
    if set(value) != {"b64"} or not isinstance(value["b64"], str):
        raise invalid_argument(f"JSON Value: {_short(value)} not formatted correctly for base64 data")
    try:
        return base64.b64decode(value["b64"], validate=True)
    except (binascii.Error, ValueError) as error:
        raise invalid_argument("Unable to base64 decode") from error


def _json_values(alias: str, array: npt.NDArray[Any]) -> Any:
    """Nested lists; float32 with as many digits as tell it apart, strings as text, or as base64 in `..._bytes`."""
    if array.dtype == np.float32:
        return _nested([float(str(value)) for value in array.ravel()], array.shape)
    if array.dtype != np.object_:
        return array.tolist()
    if alias.endswith(_BYTES_SUFFIX):
        return _nested([{"b64": base64.b64encode(value).decode()} for value in array.ravel()], array.shape)
    return _nested([value.decode("utf-8", "replace") for value in array.ravel()], array.shape)


def _nested(values: list[Any], shape: tuple[int, ...]) -> Any:
    array = np.empty(len(values), np.object_)
    array[:] = values
    return array.reshape(shape).tolist()


def _short(value: Any) -> str:
    return json.dumps(value)[:200]


def _name(dtype: tf.DType) -> str:
    return {"float32": "float", "float64": "double"}.get(dtype.name, dtype.name)


