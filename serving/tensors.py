"""NumPy arrays to TensorProto and back, as TensorFlow's C++ does it, without TensorFlow.

Works on `tensorflow.TensorProto` and on `serving.protocol.TensorProto` alike: only field names matter.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

_MAX_COMPLETED = 2**22
"""Values that a tensor may have which its message does not bring: a few bytes must not ask for gigabytes."""
_STRING = 7
_HALF = 19

# TensorFlow's enum DataType -> the NumPy dtype and the field that holds its values.
_TYPES: dict[int, tuple[Any, str]] = {
    1: (np.float32, "float_val"),
    2: (np.float64, "double_val"),
    3: (np.int32, "int_val"),
    4: (np.uint8, "int_val"),
    5: (np.int16, "int_val"),
    6: (np.int8, "int_val"),
    _STRING: (np.object_, "string_val"),
    9: (np.int64, "int64_val"),
    10: (np.bool_, "bool_val"),
    17: (np.uint16, "int_val"),
    _HALF: (np.float16, "half_val"),
    22: (np.uint32, "uint32_val"),
    23: (np.uint64, "uint64_val"),
}
_ENUM = {np.dtype(dtype): enum for enum, (dtype, _) in _TYPES.items()}


def encode(values: npt.ArrayLike, proto: Any) -> None:
    """Writes an array into an empty TensorProto, into the typed fields (`float_val`, ...), never `tensor_content`.

    Args:
      values: any shape; numbers, booleans, or str / bytes (str becomes UTF-8). The dtype goes over the wire as it
        is: give an array, not a list, where the signature wants int32 or float32.

    Raises:
      TypeError: the dtype has no place in a TensorProto.
    """
    array = np.asarray(values)
    proto.tensor_shape.SetInParent()  # a scalar's shape is there, and empty
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    if array.dtype.kind in "OSU":
        proto.dtype = _STRING
        proto.string_val.extend(
            value.encode() if isinstance(value, str) else value for value in array.ravel().tolist()
        )
        return
    try:
        proto.dtype = _ENUM[array.dtype]
    except KeyError:
        raise TypeError(f"a tensor of {array.dtype} cannot be sent; use one of {sorted(map(str, _ENUM))}") from None
    flat = array.ravel()
    getattr(proto, _TYPES[proto.dtype][1]).extend((flat.view(np.uint16) if proto.dtype == _HALF else flat).tolist())


def decode(proto: Any) -> npt.NDArray[Any]:
    """The array of a TensorProto; strings as bytes in an object array.

    Fewer values than the shape asks for are completed with the last one (with 0 or b"" where there is none), more
    are dropped: so does `tensorflow::Tensor::FromProto`.

    Raises:
      ValueError: the proto describes no tensor: unknown dtype, no definite shape, or bytes that do not fill it; or
        its shape has millions of values more than are given.
    """
    if proto.dtype not in _TYPES:
        raise ValueError(f"data type {proto.dtype} is not one of {sorted(_TYPES)}")
    dtype, field = _TYPES[proto.dtype]
    shape = [dim.size for dim in proto.tensor_shape.dim]
    if proto.tensor_shape.unknown_rank or any(size < 0 for size in shape):
        raise ValueError(f"the shape {shape} is not definite")
    size = 1
    for dim in shape:  # Python integers: no overflow
        size *= dim
    try:
        if proto.tensor_content:
            return _from_content(proto, dtype, size).reshape(shape)
        return _from_field(getattr(proto, field), proto.dtype, dtype, size).reshape(shape)
    except (MemoryError, OverflowError) as error:
        raise ValueError(f"the shape {shape} is too large") from error


def _from_content(proto: Any, dtype: Any, size: int) -> npt.NDArray[Any]:
    if proto.dtype == _STRING:
        raise ValueError("strings are read from string_val, not from tensor_content")
    if len(proto.tensor_content) != size * np.dtype(dtype).itemsize:
        raise ValueError(f"{len(proto.tensor_content)} bytes are not {size} values of {np.dtype(dtype)}")
    return np.frombuffer(proto.tensor_content, dtype)


def _from_field(field: Any, enum: int, dtype: Any, size: int) -> npt.NDArray[Any]:
    if enum == _HALF:
        given = np.array(field, np.int32).astype(np.uint16).view(np.float16)
    elif np.dtype(dtype).itemsize < 4 and enum != 10:
        given = np.array(field, np.int32).astype(dtype)  # kept in int32 fields: cut to size as a C cast does
    else:
        given = np.array(field, dtype)
    if len(given) == size:
        return given
    if len(given) > size:
        return given[:size]
    if size - len(given) > _MAX_COMPLETED:
        raise ValueError(f"{len(given)} values are given for a shape of {size}")
    values = np.full(size, given[-1] if len(given) else (b"" if enum == _STRING else 0), dtype)
    values[: len(given)] = given
    return values
