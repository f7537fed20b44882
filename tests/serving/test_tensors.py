"""The tensor codec against TensorFlow's own."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework.tensor_pb2 import TensorProto

from serving import protocol, tensors

ARRAYS = [
    np.array([[1.5, -2.5, np.inf]], np.float32),
    np.array([1e300, -np.inf]),
    np.array([[-5], [2**31 - 1]], np.int32),
    np.array([-(2**63), 2**63 - 1], np.int64),
    np.array([[0, 255]], np.uint8),
    np.array([-128, 127], np.int8),
    np.array([-32768, 32767], np.int16),
    np.array([0, 65535], np.uint16),
    np.array([0, 2**32 - 1], np.uint32),
    np.array([0, 2**64 - 1], np.uint64),
    np.array([True, False]),
    np.array([1.5, -0.25], np.float16),
    np.array([[b"a", b""], ["\u00e9".encode(), b"\x00\xff\x00"]], object),
    np.array(7, np.int32),
    np.zeros([2, 0, 3], np.float32),
    np.zeros([0], object),
]


def shape_proto(*sizes):
    return tf.TensorShape(sizes).as_proto()


@pytest.mark.parametrize("message", [TensorProto, protocol.TensorProto], ids=["tensorflow's", "ours"])
@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype}{list(array.shape)}")
def test_there_and_back(array, message):
    proto = message()
    tensors.encode(array, proto)
    assert not proto.tensor_content
    theirs = TensorProto.FromString(proto.SerializeToString())
    for decoded in (tensors.decode(proto), tf.make_ndarray(theirs)):
        np.testing.assert_array_equal(decoded, array)
        assert (decoded.dtype, decoded.shape) == (array.dtype, array.shape)


@pytest.mark.parametrize("array", [a for a in ARRAYS if a.dtype != object], ids=lambda a: f"{a.dtype}{list(a.shape)}")
def test_reads_bytes_as_tensorflow_writes_them(array):
    decoded = tensors.decode(tf.make_tensor_proto(array))
    np.testing.assert_array_equal(decoded, array)
    assert decoded.dtype == array.dtype


@pytest.mark.parametrize(
    "values", [["196", "é"], [b"196", "é".encode()], np.array(["196", "é"]), [np.str_("196"), np.str_("é")]]
)
def test_any_kind_of_string_is_sent_as_utf8(values):
    proto = protocol.TensorProto()
    tensors.encode(values, proto)
    assert list(proto.string_val) == [b"196", "é".encode()]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"dtype": 1, "float_val": [1, 2]}, [1, 2, 2]),
        ({"dtype": 1, "float_val": []}, [0, 0, 0]),
        ({"dtype": 3, "int_val": [1, 2, 3, 4]}, [1, 2, 3]),
        ({"dtype": 4, "int_val": [300, -1]}, [44, 255, 255]),
        ({"dtype": 7, "string_val": []}, [b"", b"", b""]),
        ({"dtype": 10, "bool_val": [True]}, [True, True, True]),
    ],
)
def test_values_are_completed_or_cut(fields, expected):
    assert tensors.decode(TensorProto(tensor_shape=shape_proto(3), **fields)).tolist() == expected


@pytest.mark.parametrize(
    "proto",
    [
        TensorProto(),
        TensorProto(dtype=1, tensor_shape={"dim": [{"size": -1}]}),
        TensorProto(dtype=1, tensor_shape={"unknown_rank": True}),
        TensorProto(dtype=1, tensor_shape={"dim": [{"size": 2}]}, tensor_content=b"1234567"),
        TensorProto(dtype=1, tensor_shape={"dim": [{"size": 2**40}, {"size": 2**40}]}),
    ],
    ids=["no dtype", "negative size", "unknown rank", "too few bytes", "too large"],
)
def test_what_is_no_tensor_is_refused(proto):
    with pytest.raises(ValueError):
        tensors.decode(proto)


def test_what_cannot_be_sent_is_named():
    with pytest.raises(TypeError, match="complex128"):
        tensors.encode([1j], protocol.TensorProto())


@pytest.mark.parametrize(
    ("sizes", "values"), [((2**23,), []), ((2**40,), [1.0]), ((2**62, 2**62), [1.0]), ((2**31, 4), [])]
)
def test_a_shape_far_beyond_its_values_is_refused_before_it_is_made(sizes, values):
    proto = TensorProto(dtype=1, tensor_shape=shape_proto(*sizes), float_val=values)
    with pytest.raises(ValueError, match="values are given for a shape of"):
        tensors.decode(proto)
