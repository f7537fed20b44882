"""Our light messages against TensorFlow Serving's own, field by field, and what they spare the client."""

import subprocess
import sys

import pytest
from google.protobuf import wrappers_pb2
from google.protobuf.descriptor import FieldDescriptor
from tensorflow.core.example import example_pb2, feature_pb2
from tensorflow.core.framework import tensor_pb2, tensor_shape_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    logging_pb2,
    model_management_pb2,
    model_pb2,
    model_service_pb2,
    predict_pb2,
    prediction_log_pb2,
    prediction_service_pb2,
    status_pb2,
)
from tensorflow_serving.config import (
    file_system_storage_path_source_pb2,
    logging_config_pb2,
    model_server_config_pb2,
)

from serving import protocol

POLICY = file_system_storage_path_source_pb2.FileSystemStoragePathSourceConfig.ServableVersionPolicy
THEIRS = {
    "Dim": tensor_shape_pb2.TensorShapeProto.Dim,
    "TensorShapeProto": tensor_shape_pb2.TensorShapeProto,
    "TensorProto": tensor_pb2.TensorProto,
    "Int64Value": wrappers_pb2.Int64Value,
    "ModelSpec": model_pb2.ModelSpec,
    "PredictRequest": predict_pb2.PredictRequest,
    "PredictResponse": predict_pb2.PredictResponse,
    "GetModelStatusRequest": get_model_status_pb2.GetModelStatusRequest,
    "StatusProto": status_pb2.StatusProto,
    "ModelVersionStatus": get_model_status_pb2.ModelVersionStatus,
    "GetModelStatusResponse": get_model_status_pb2.GetModelStatusResponse,
    "GetModelMetadataRequest": get_model_metadata_pb2.GetModelMetadataRequest,
    "GetModelMetadataResponse": get_model_metadata_pb2.GetModelMetadataResponse,
    "Latest": POLICY.Latest,
    "Specific": POLICY.Specific,
    "ServableVersionPolicy": POLICY,
    "ModelConfig": model_server_config_pb2.ModelConfig,
    "ModelConfigList": model_server_config_pb2.ModelConfigList,
    "ModelServerConfig": model_server_config_pb2.ModelServerConfig,
    "ReloadConfigRequest": model_management_pb2.ReloadConfigRequest,
    "ReloadConfigResponse": model_management_pb2.ReloadConfigResponse,
    "SamplingConfig": logging_config_pb2.SamplingConfig,
    "LogMetadata": logging_pb2.LogMetadata,
    "PredictLog": prediction_log_pb2.PredictLog,
    "PredictionLog": prediction_log_pb2.PredictionLog,
    "BytesList": feature_pb2.BytesList,
    "FloatList": feature_pb2.FloatList,
    "Int64List": feature_pb2.Int64List,
    "Feature": feature_pb2.Feature,
    "Features": feature_pb2.Features,
    "Example": example_pb2.Example,
}


def wire_form(field):
    """What a field is on the wire: number, type, repeated or not, and the name of its message's type."""
    type_ = FieldDescriptor.TYPE_INT32 if field.type == FieldDescriptor.TYPE_ENUM else field.type
    message = field.message_type.name if field.message_type else None
    packed = field.message_type is None and field.type not in (FieldDescriptor.TYPE_BYTES, FieldDescriptor.TYPE_STRING)
    return field.number, type_, field.label, message, packed


def test_every_message_is_compared():
    assert set(THEIRS) == set(protocol.FIELDS)


@pytest.mark.parametrize("name", protocol.FIELDS)
def test_fields_are_the_same_on_the_wire(name):
    ours, theirs = protocol._CLASSES[name].DESCRIPTOR, THEIRS[name].DESCRIPTOR
    for field in ours.fields:
        assert wire_form(field) == wire_form(theirs.fields_by_name[field.name])
        if field.message_type and field.message_type.GetOptions().map_entry:
            entry = theirs.fields_by_name[field.name].message_type
            assert [wire_form(inner) for inner in field.message_type.fields] == [
                wire_form(inner) for inner in entry.fields
            ]


def test_methods_exist():
    services = {
        service.full_name: service
        for file in (prediction_service_pb2, model_service_pb2)
        for service in file.DESCRIPTOR.services_by_name.values()
    }
    for path, request, response in (
        (protocol.PREDICT, "PredictRequest", "PredictResponse"),
        (protocol.GET_MODEL_STATUS, "GetModelStatusRequest", "GetModelStatusResponse"),
        (protocol.GET_MODEL_METADATA, "GetModelMetadataRequest", "GetModelMetadataResponse"),
        (protocol.RELOAD_CONFIG, "ReloadConfigRequest", "ReloadConfigResponse"),
    ):
        _, service, method = path.split("/")
        described = services[service].methods_by_name[method]
        assert (described.input_type.name, described.output_type.name) == (request, response)


def test_states_are_theirs():
    theirs = dict(get_model_status_pb2.ModelVersionStatus.State.items())
    assert {state.name: state.value for state in protocol.State} == theirs


def test_a_request_reads_the_same():
    ours = protocol.PredictRequest(output_filter=["a"])
    ours.model_spec.name = "retrieval"
    ours.model_spec.version.value = 7
    ours.inputs["x"].dtype = 1
    ours.inputs["x"].tensor_shape.dim.add(size=2)
    ours.inputs["x"].float_val.extend([1.5, 2.5])
    theirs = predict_pb2.PredictRequest.FromString(ours.SerializeToString())
    assert theirs.model_spec.version.value == 7
    assert (theirs.inputs["x"].dtype, list(theirs.inputs["x"].float_val)) == (1, [1.5, 2.5])
    assert protocol.PredictRequest.FromString(theirs.SerializeToString()) == ours


def test_neither_client_nor_server_starter_imports_tensorflow():
    program = "import sys, serving.client, serving.server; print({'tensorflow', 'keras', 'tfx'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout.strip() == "set()"
