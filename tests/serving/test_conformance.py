"""What TensorFlow Serving answers, case by case: status code and message text, observed on version 2.16.1.

The cases speak to an address with TensorFlow's own messages: the embedded server's always, TensorFlow Serving's where
conftest.py is told of one. Only such a run counts as tested on TensorFlow Serving.
"""

import contextlib
from concurrent import futures

import grpc
import numpy as np
import pytest
import real_server
import tensorflow as tf
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from serving import embedded, server

INVALID_ARGUMENT = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND
FAILED_PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION
INTERNAL = grpc.StatusCode.INTERNAL
UNIMPLEMENTED = grpc.StatusCode.UNIMPLEMENTED


def test_on_tensorflow_serving_itself():
    if not real_server.NAMED:
        pytest.skip("neither TFS_BINARY nor TFS_ADDRESS is set: not tested on TensorFlow Serving itself")


@pytest.fixture
def channel(served):
    with grpc.insecure_channel(served.address) as connected:
        yield connected


def predict_request(inputs=None, signature="", name="retrieval", version=None, label=None, outputs=()):
    """A Predict request; inputs: alias -> array or TensorProto."""
    request = predict_pb2.PredictRequest(output_filter=outputs)
    request.model_spec.name = name
    request.model_spec.signature_name = signature
    if version is not None:
        request.model_spec.version.value = version
    if label is not None:
        request.model_spec.version_label = label
    for alias, value in ({"user_id": ["u1"]} if inputs is None else inputs).items():
        proto = value if isinstance(value, TensorProto) else tf.make_tensor_proto(value)
        request.inputs[alias].CopyFrom(proto)
    return request


def predict(channel, request):
    return prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=20)


def tensor_proto(dtype, shape, **fields):
    return TensorProto(dtype=dtype.as_datatype_enum, tensor_shape=tf.TensorShape(shape).as_proto(), **fields)


X = np.ones([1, 3], np.float32)
TWO = {"x": X, "tag": ["a"]}

REFUSED = {
    "unknown model": (predict_request(name="nope"), NOT_FOUND, "Servable not found for request: Latest(nope)"),
    "unknown version": (
        predict_request(version=99), NOT_FOUND, "Servable not found for request: Specific(retrieval, 99)",
    ),
    "version 0": (predict_request(version=0), NOT_FOUND, "Servable not found for request: Specific(retrieval, 0)"),
    "unknown model and version": (
        predict_request(name="nope", version=1), NOT_FOUND, "Servable not found for request: Specific(nope, 1)",
    ),
    "unknown label": (
        predict_request(label="canary"), INVALID_ARGUMENT, "Unrecognized servable version label: canary",
    ),
    "empty model name": (predict_request(name=""), INVALID_ARGUMENT, "ModelSpec has no name specified."),
    "no model spec": (predict_pb2.PredictRequest(), INVALID_ARGUMENT, "Missing ModelSpec"),
    "missing signature": (
        predict_request(signature="zzz"), FAILED_PRECONDITION, 'Serving signature key "zzz" not found.',
    ),
    "the initialiser is no signature to predict with": (
        predict_request({}, "__saved_model_init_op"),
        INTERNAL,
        "Expected prediction signature method_name to be one of {tensorflow/serving/predict,"
        " tensorflow/serving/classify, tensorflow/serving/regress}. Was: ",
    ),
    "too few inputs": (
        predict_request({"x": X}, "two"),
        INVALID_ARGUMENT,
        "input size does not match signature: 1!=2 len({x}) != len({tag,x})."
        " Sent extra: {}. Missing but required: {tag}.",
    ),
    "too many inputs": (
        predict_request({**TWO, "more": X}, "two"),
        INVALID_ARGUMENT,
        "input size does not match signature: 3!=2 len({more,tag,x}) != len({tag,x})."
        " Sent extra: {more}. Missing but required: {}.",
    ),
    "wrong input name": (
        predict_request({"x": X, "tagg": ["a"]}, "two"),
        INVALID_ARGUMENT,
        "Signature input alias: tag(feed name: two_tag:0) not found in request and no default value provided."
        " Inputs expected to be in the request {tagg,x}, or default input alias set: ",
    ),
    "wrong dtype": (
        predict_request({"user_id": np.array([1], np.int32)}),
        INVALID_ARGUMENT,
        "Expects arg[0] to be string but int32 is provided",
    ),
    "wrong dtype of the second input": (
        predict_request({"x": X.astype(np.float64), "tag": ["a"]}, "two"),
        INVALID_ARGUMENT,
        "Expects arg[1] to be float but double is provided",
    ),
    "wrong dtype of both inputs": (
        predict_request({"x": ["a"], "tag": X}, "two"),
        INVALID_ARGUMENT,
        "Expects arg[0] to be string but float is provided",
    ),
    "bytes that are no tensor": (
        predict_request({"x": tensor_proto(tf.float32, [1, 3], tensor_content=b"12345"), "tag": ["a"]}, "two"),
        INVALID_ARGUMENT,
        "tensor parsing error: x",
    ),
    "no dtype": (
        predict_request({"x": TensorProto(), "tag": ["a"]}, "two"),
        INVALID_ARGUMENT,
        "tensor parsing error: x",
    ),
    "a negative size": (
        predict_request(
            {"x": TensorProto(dtype=1, tensor_shape={"dim": [{"size": -1}]}), "tag": ["a"]}, "two"
        ),
        INVALID_ARGUMENT,
        "tensor parsing error: x",
    ),
    "unknown output": (
        predict_request(outputs=["qq"]),
        INVALID_ARGUMENT,
        "output tensor alias not found in signature: qq Outputs expected to be in the set {movie_ids,scores}.",
    ),
    "an output twice": (
        predict_request(outputs=["scores", "scores"]), INVALID_ARGUMENT, "duplicate output tensor alias: scores",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_predict_refuses(channel, case):
    request, code, message = REFUSED[case]
    with pytest.raises(grpc.RpcError) as refused:
        predict(channel, request)
    assert (refused.value.code(), refused.value.details()) == (code, message)


def test_predict_lets_the_kernel_refuse_a_shape(channel):
    with pytest.raises(grpc.RpcError) as refused:
        predict(channel, predict_request({"x": np.ones([1, 4], np.float32), "tag": ["a"]}, "two"))
    assert refused.value.code() is INVALID_ARGUMENT
    assert refused.value.details().startswith("Matrix size-incompatible: In[0]: [1,4], In[1]: [3,1]")


def test_predict_does_not_compare_shapes_with_the_signature(channel):
    response = predict(channel, predict_request({"user_id": [["u1"], ["u2"]]}))  # the signature says [N]
    assert tf.make_ndarray(response.outputs["movie_ids"]).shape == (2, 1, 10)


def test_predict_completes_empty_strings(channel):
    response = predict(channel, predict_request({"user_id": tensor_proto(tf.string, [5])}))
    assert tf.make_ndarray(response.outputs["movie_ids"])[:, 0].tolist() == [b"m10"] * 5


def test_predict_repeats_the_last_value(channel):
    response = predict(channel, predict_request({"user_id": tensor_proto(tf.string, [3], string_val=[b"u1", b"u2"])}))
    assert tf.make_ndarray(response.outputs["movie_ids"])[:, 0].tolist() == [b"m0", b"m19", b"m19"]


def test_predict_reads_tensor_content(channel):
    x = tensor_proto(tf.float32, [2, 3], tensor_content=np.float32([[1, 2, 3], [4, 5, 6]]).tobytes())
    response = predict(channel, predict_request({"x": x, "tag": ["a", "b"]}, "two"))
    assert tf.make_ndarray(response.outputs["y"]).tolist() == [14, 32]


def test_predict_answers_an_empty_batch(channel):
    response = predict(channel, predict_request({"user_id": np.array([], object)}))
    assert {alias: tf.make_ndarray(output).shape for alias, output in response.outputs.items()} == {
        "movie_ids": (0, 10), "scores": (0, 10),
    }


def test_predict_answers_the_wanted_outputs_only(channel):
    response = predict(channel, predict_request(outputs=["scores"]))
    assert list(response.outputs) == ["scores"]
    assert tf.make_ndarray(response.outputs["scores"])[0, :3].tolist() == [0, -1, -2]


def test_predict_answers_in_typed_fields_and_says_who_answered(channel):
    response = predict(channel, predict_request())
    assert len(response.outputs["scores"].float_val) == 10
    assert response.outputs["movie_ids"].string_val[:2] == [b"m0", b"m1"]
    assert not any(output.tensor_content for output in response.outputs.values())
    spec = response.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("retrieval", 3, "serving_default")


def test_predict_answers_a_version_asked_for(channel):
    assert predict(channel, predict_request(version=3)).model_spec.version.value == 3


def test_an_error_message_is_cut(channel):
    with pytest.raises(grpc.RpcError) as refused:
        predict(channel, predict_request(signature="z" * 2000))
    assert refused.value.details() == 'Serving signature key "' + "z" * (1024 - 23) + "...TRUNCATED"


def test_predict_takes_a_message_larger_than_grpc_allows_by_default(channel):
    user_id = tensor_proto(tf.string, [1], string_val=[b"u" * 5_000_000])
    response = predict(channel, predict_request({"user_id": user_id}))
    assert tf.make_ndarray(response.outputs["movie_ids"])[0, 0] == b"m10"


def test_predict_answers_with_a_message_larger_than_grpc_allows_by_default(served):
    with grpc.insecure_channel(served.address, [("grpc.max_receive_message_length", -1)]) as channel:
        words = tensor_proto(tf.string, [1, 1], string_val=[b"w" * 5_000_000])
        inputs = {"words": words, "number": np.zeros(1, np.int32)}
        [word] = predict(channel, predict_request(inputs, "echo")).outputs["words_out"].string_val
    assert len(word) == 5_000_000


def examples_request(message, **spec):
    """A Classify or Regress request for one example."""
    request = message(model_spec={"name": "retrieval", **spec})
    request.input.example_list.examples.add().features.feature["user_id"].bytes_list.value.append(b"u1")
    return request


def task(method, **spec):
    """A MultiInference request of one task."""
    request = inference_pb2.MultiInferenceRequest()
    request.tasks.add(model_spec={"name": "retrieval", **spec}, method_name=f"tensorflow/serving/{method}")
    return request


CLASSIFICATION, REGRESSION = classification_pb2.ClassificationRequest, regression_pb2.RegressionRequest
EXAMPLES_REFUSED = {
    "Classify on a predict signature": (
        "Classify",
        examples_request(CLASSIFICATION),
        INVALID_ARGUMENT,
        "No classification inputs found in SignatureDef: ",
    ),
    "Classify without spec": ("Classify", CLASSIFICATION(), INVALID_ARGUMENT, "Missing ModelSpec"),
    "Classify, unknown model": (
        "Classify",
        examples_request(CLASSIFICATION, name="nope"),
        NOT_FOUND,
        "Servable not found for request: Latest(nope)",
    ),
    "Regress on a predict signature": (
        "Regress", examples_request(REGRESSION), INVALID_ARGUMENT, "No regression inputs found in SignatureDef: ",
    ),
    "Regress without spec": ("Regress", REGRESSION(), INVALID_ARGUMENT, "Missing ModelSpec"),
    "MultiInference on a predict signature": (
        "MultiInference",
        task("predict"),
        UNIMPLEMENTED,
        "Unsupported signature method_name: tensorflow/serving/predict",
    ),
    "MultiInference, unknown model": (
        "MultiInference", task("predict", name="nope"), NOT_FOUND, "Servable not found for request: Latest(nope)",
    ),
}


@pytest.mark.parametrize("case", EXAMPLES_REFUSED)
def test_classify_and_the_like_refuse(channel, case):
    method, request, code, message = EXAMPLES_REFUSED[case]
    with pytest.raises(grpc.RpcError) as refused:
        getattr(prediction_service_pb2_grpc.PredictionServiceStub(channel), method)(request, timeout=20)
    assert refused.value.code() is code
    if message.endswith(": "):
        assert refused.value.details().startswith(message)
    else:
        assert refused.value.details() == message


@pytest.fixture
def few_threads(served, request, tmp_path):
    """A server that has threads for two calls."""
    models = request.getfixturevalue("toy_models")
    if request.node.callspec.params["served"] == "TFS_ADDRESS":
        pytest.skip("the server at TFS_ADDRESS has the threads it has")
    with contextlib.ExitStack() as stack:
        if request.node.callspec.params["served"] == "TFS_BINARY":
            running = stack.enter_context(real_server.started(models, tmp_path, "--grpc_max_threads=4"))
        else:
            running = stack.enter_context(embedded.EmbeddedServer(models, num_threads=2))
            server.wait_until_available(running.address, models)
        yield stack.enter_context(grpc.insecure_channel(running.address))


def test_more_calls_than_threads_are_refused(few_threads):
    def ask(_):
        try:
            return predict(few_threads, predict_request({"wait_s": np.array([0.5])}, "wait")) and (None, "")
        except grpc.RpcError as error:
            return error.code(), error.details()

    with futures.ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(ask, range(12)))
    refused = (grpc.StatusCode.RESOURCE_EXHAUSTED, "Server Threadpool Exhausted")
    assert set(answers) == {(None, ""), refused}
    assert answers.count((None, "")) >= 2
    assert ask(0) == (None, "")  # the threads are free again


def metadata_request(name="retrieval", fields=("signature_def",)):
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields)
    request.model_spec.name = name
    return request


METADATA_REFUSED = {
    "no model spec": (get_model_metadata_pb2.GetModelMetadataRequest(), INVALID_ARGUMENT, "Missing ModelSpec"),
    "no field": (
        metadata_request(fields=()),
        INVALID_ARGUMENT,
        "GetModelMetadataRequest must specify at least one metadata_field",
    ),
    "unknown field": (metadata_request(fields=["x"]), INVALID_ARGUMENT, "Metadata field x is not supported"),
    "unknown model": (metadata_request("nope"), NOT_FOUND, "Servable not found for request: Latest(nope)"),
    "empty model name": (metadata_request(""), INVALID_ARGUMENT, "ModelSpec has no name specified."),
}


@pytest.mark.parametrize("case", METADATA_REFUSED)
def test_metadata_refuses(channel, case):
    request, code, message = METADATA_REFUSED[case]
    with pytest.raises(grpc.RpcError) as refused:
        prediction_service_pb2_grpc.PredictionServiceStub(channel).GetModelMetadata(request, timeout=20)
    assert (refused.value.code(), refused.value.details()) == (code, message)


def test_metadata_lists_the_signatures(channel):
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    response = stub.GetModelMetadata(metadata_request(), timeout=20)
    assert (response.model_spec.name, response.model_spec.version.value) == ("retrieval", 3)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    assert {"__saved_model_init_op", "serving_default", "two"} <= set(signatures.signature_def)
    two = signatures.signature_def["two"]
    assert {alias: info.name for alias, info in two.inputs.items()} == {"x": "two_x:0", "tag": "two_tag:0"}


def status_request(name="retrieval", version=None):
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = name
    if version is not None:
        request.model_spec.version.value = version
    return request


STATUS_REFUSED = {
    "no model spec": (get_model_status_pb2.GetModelStatusRequest(), INVALID_ARGUMENT, "Missing ModelSpec"),
    "unknown model": (status_request("nope"), NOT_FOUND, "Could not find any versions of model nope"),
    "unknown version": (status_request(version=77), NOT_FOUND, "Could not find version 77 of model retrieval"),
}


@pytest.mark.parametrize("case", STATUS_REFUSED)
def test_status_refuses(channel, case):
    request, code, message = STATUS_REFUSED[case]
    with pytest.raises(grpc.RpcError) as refused:
        model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(request, timeout=20)
    assert (refused.value.code(), refused.value.details()) == (code, message)


@pytest.mark.parametrize("version", [None, 3])
def test_status_of_a_known_model(channel, version):
    stub = model_service_pb2_grpc.ModelServiceStub(channel)
    response = stub.GetModelStatus(status_request(version=version), timeout=20)
    [status] = response.model_version_status
    assert (status.version, status.state, status.status.error_code) == (3, status.AVAILABLE, 0)


@pytest.mark.parametrize("service", ["", "PredictionService", "ModelService"])
def test_health_is_serving(channel, service):
    """TensorFlow Serving has its health service off unless told otherwise."""
    answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service), timeout=20)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_health_does_not_know_the_full_name(channel):
    with pytest.raises(grpc.RpcError) as refused:
        request = health_pb2.HealthCheckRequest(service="tensorflow.serving.PredictionService")
        health_pb2_grpc.HealthStub(channel).Check(request, timeout=20)
    assert refused.value.code() is NOT_FOUND
