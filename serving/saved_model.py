"""One SavedModel in memory, answering Predict as TensorFlow Serving does: same checks, same order, same words.

The TF1 loader and one session callable per signature and set of outputs: no Keras, no tracing, no Python function
call per request. Loading runs a model's own code (a graph can read and write files): load only what you trust.
"""

from __future__ import annotations

import dataclasses
import pathlib
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import config_pb2, rewriter_config_pb2

from serving import tensors

if TYPE_CHECKING:
    from serving.batching import Batcher

_METHODS = ("tensorflow/serving/predict", "tensorflow/serving/classify", "tensorflow/serving/regress")
_CODES = {code.value[0]: code for code in grpc.StatusCode}


class RequestError(Exception):
    """A request that TensorFlow Serving would refuse."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def invalid_argument(message: str) -> RequestError:
    """The refusal that most wrong requests get."""
    return RequestError(grpc.StatusCode.INVALID_ARGUMENT, message)


def status_of(error: Exception) -> tuple[grpc.StatusCode, str]:
    """Code and message of what was raised while loading or computing."""
    if isinstance(error, RequestError):
        return error.code, error.message
    if isinstance(error, tf.errors.OpError):
        return _CODES[error.error_code], error.message
    if isinstance(error, OSError):  # what the loader raises where there is no saved_model.pb
        return grpc.StatusCode.NOT_FOUND, str(error)
    return grpc.StatusCode.UNKNOWN, str(error)


class _Input(NamedTuple):
    feed_name: str
    """Of the tensor it feeds."""
    dtype: int
    """TensorFlow's enum DataType."""


@dataclasses.dataclass(frozen=True)
class _Signature:
    method_name: str
    inputs: dict[str, _Input]
    """Alias -> input, sorted by feed name: the runtime's "arg[0]" is the first in this order."""
    outputs: dict[str, str]
    """Alias -> name of the tensor it fetches, sorted by alias."""

    @classmethod
    def of(cls, signature_def: Any) -> _Signature:
        inputs = {alias: _Input(info.name, info.dtype) for alias, info in signature_def.inputs.items()}
        outputs = {alias: info.name for alias, info in signature_def.outputs.items()}
        return cls(
            signature_def.method_name,
            dict(sorted(inputs.items(), key=lambda item: item[1].feed_name)),
            dict(sorted(outputs.items())),
        )


class LoadedModel:
    """A SavedModel's "serve" graph with its variables and tables initialised.

    Raises:
      Exception: whatever TensorFlow says of a directory that holds no sound SavedModel; `status_of` reads it.
    """

    def __init__(self, path: pathlib.Path, batcher: Batcher | None = None) -> None:
        """
        Args:
          path: of the SavedModel.
          batcher: puts requests together; None: each is computed alone.
        """
        self._batcher = batcher
        graph = tf.Graph()
        self._session = tf.compat.v1.Session(graph=graph, config=_session_config())
        try:
            with graph.as_default():
                meta_graph = tf.compat.v1.saved_model.load(self._session, [tf.saved_model.SERVING], str(path))
        except BaseException:
            self._session.close()
            raise
        self.signature_defs: dict[str, Any] = dict(meta_graph.signature_def)
        """Signature name -> SignatureDef, the initialiser's included."""
        self._signatures = {key: _Signature.of(signature) for key, signature in self.signature_defs.items()}
        self._callables: dict[tuple[str, tuple[str, ...]], Callable[..., list[Any]]] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        """Frees variables and tables. No request may be under way."""
        self._callables.clear()
        self._session.close()

    def predict(
        self, signature_name: str, inputs: Mapping[str, Any], output_filter: Sequence[str]
    ) -> dict[str, npt.NDArray[Any]]:
        """Answers one request.

        Args:
          signature_name: a signature's key.
          inputs: alias -> TensorProto. Shapes are not compared with the signature, as TensorFlow Serving does not.
          output_filter: aliases of the wanted outputs; none means all.

        Returns:
          alias -> array.

        Raises:
          RequestError: with TensorFlow Serving's code and message.
        """
        signature = self._signatures.get(signature_name)
        if signature is None:
            raise RequestError(
                grpc.StatusCode.FAILED_PRECONDITION, f'Serving signature key "{signature_name}" not found.'
            )
        if signature.method_name not in _METHODS:
            raise RequestError(
                grpc.StatusCode.INTERNAL,
                f"Expected prediction signature method_name to be one of {{{', '.join(_METHODS)}}}."
                f" Was: {signature.method_name}",
            )
        feeds = _feeds(signature, inputs)
        _check_outputs(signature, output_filter)
        _check_dtypes(signature, inputs)
        aliases = tuple(sorted(output_filter)) or tuple(signature.outputs)
        try:
            compute = self._callable(signature_name, aliases)
            if self._batcher is None:
                outputs = compute(*feeds)
            else:
                outputs = self._batcher.run(compute, [input_.feed_name for input_ in signature.inputs.values()], feeds)
        except (tf.errors.OpError, ValueError, TypeError) as error:
            raise RequestError(*status_of(error)) from error
        return {alias: _array(output) for alias, output in zip(aliases, outputs, strict=True)}

    def _callable(self, signature_name: str, aliases: tuple[str, ...]) -> Callable[..., list[Any]]:
        key = signature_name, aliases
        if key not in self._callables:
            signature = self._signatures[signature_name]
            options = config_pb2.CallableOptions(
                feed=[input_.feed_name for input_ in signature.inputs.values()],
                fetch=[signature.outputs[alias] for alias in aliases],
            )
            with self._lock:
                if key not in self._callables:
                    # The public make_callable is slower, as it goes through Session.run, and compares shapes with
                    # the signature: TensorFlow Serving does not.
                    self._callables[key] = self._session._make_callable_from_options(options)
        return self._callables[key]


def _session_config() -> Any:
    """One round of TensorFlow's graph optimizer, without its MLIR part.

    Left as it is, it takes more than half of the CPU time in which a model's signatures answer for the first time,
    and what it finds in its second round and in that part makes no answer of ours cheaper.
    """
    config = tf.compat.v1.ConfigProto()
    config.graph_options.rewrite_options.meta_optimizer_iterations = rewriter_config_pb2.RewriterConfig.ONE
    config.graph_options.rewrite_options.disable_tfg_optimizer = True
    return config


def _feeds(signature: _Signature, inputs: Mapping[str, Any]) -> list[npt.NDArray[Any]]:
    """The request's tensors in the order of `signature.inputs`."""
    if len(inputs) != len(signature.inputs):
        extra, missing = set(inputs) - set(signature.inputs), set(signature.inputs) - set(inputs)
        raise invalid_argument(
            f"input size does not match signature: {len(inputs)}!={len(signature.inputs)}"
            f" len({_braces(inputs)}) != len({_braces(signature.inputs)})."
            f" Sent extra: {_braces(extra)}. Missing but required: {_braces(missing)}."
        )
    feeds = []
    for alias, input_ in signature.inputs.items():
        if alias not in inputs:
            raise invalid_argument(
                f"Signature input alias: {alias}(feed name: {input_.feed_name}) not found in request and no default"
                f" value provided. Inputs expected to be in the request {_braces(inputs)}, or default input alias set: "
            )
        try:
            feeds.append(tensors.decode(inputs[alias]))
        except ValueError as error:
            raise invalid_argument(f"tensor parsing error: {alias}") from error
    return feeds


def _check_outputs(signature: _Signature, output_filter: Sequence[str]) -> None:
    seen: set[str] = set()
    for alias in output_filter:
        if alias not in signature.outputs:
            raise invalid_argument(
                f"output tensor alias not found in signature: {alias}"
                f" Outputs expected to be in the set {_braces(signature.outputs)}."
            )
        if alias in seen:
            raise invalid_argument(f"duplicate output tensor alias: {alias}")
        seen.add(alias)


def _check_dtypes(signature: _Signature, inputs: Mapping[str, Any]) -> None:
    """In the words of a session's Run; a callable would only say so from inside the graph."""
    for index, (alias, input_) in enumerate(signature.inputs.items()):
        given = inputs[alias].dtype
        if given != input_.dtype:
            raise invalid_argument(
                f"Expects arg[{index}] to be {_dtype_name(input_.dtype)} but {_dtype_name(given)} is provided"
            )


def _dtype_name(dtype: int) -> str:
    return types_pb2.DataType.Name(dtype).removeprefix("DT_").lower()


def _array(output: Any) -> npt.NDArray[Any]:
    """A fetched value; a scalar string comes as bytes, which NumPy would cut at a NUL at its end."""
    return np.array(output, np.object_) if isinstance(output, bytes) else np.asarray(output)


def _braces(names: Iterable[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"
