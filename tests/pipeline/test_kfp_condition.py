"""Conditions of a compiled pipeline, as TFX's own compiler writes them."""

import pytest
from tfx.dsl.components.common.importer import Importer
from tfx.dsl.placeholder import placeholder
from tfx.orchestration.kubeflow.v2 import compiler_utils
from tfx.types import channel_utils, standard_artifacts

from pipeline import kfp_condition

BLESSING = {"artifacts": [{"uri": "s3://b/x", "metadata": {"blessed": 1.0, "note": "a && b"}}]}
INPUTS = {"artifacts": {"_Importer.result": BLESSING}, "parameterValues": {"k": 3.0}}


def compiled(predicate):
    """As StepBuilder does it; the key is that of a producer and its output."""
    encoded = channel_utils.encode_placeholder_with_channels(predicate, str)
    return compiler_utils.placeholder_to_cel(encoded)


@pytest.mark.parametrize(
    "predicate, expected",
    [
        (lambda blessing: blessing.custom_property("blessed") == 1, True),
        (lambda blessing: blessing.custom_property("blessed") != 1, False),
        (lambda blessing: placeholder.logical_not(blessing.custom_property("blessed") > 0), False),
        (lambda blessing: placeholder.logical_and(blessing.custom_property("blessed") > 0, blessing.uri == "s3://b/y"),
         False),
        (lambda blessing: placeholder.logical_or(blessing.custom_property("blessed") < 1, blessing.uri == "s3://b/x"),
         True),
    ],
)  # fmt: skip
def test_what_tfx_compiles_is_understood(predicate, expected):
    importer = Importer(source_uri="s3://b/x", artifact_type=standard_artifacts.ModelBlessing)
    assert kfp_condition.holds(compiled(predicate(importer.outputs["result"].future()[0])), INPUTS) is expected


@pytest.mark.parametrize(
    "condition, expected",
    [
        ("inputs.parameter_values['k'] >= 3.0 && !(inputs.parameter_values['k'] != 3.0)", True),
        ("inputs.parameter_values['k'] + 1.0 == 3.0 || inputs.parameter_values['k'] < 3.0", False),
    ],
)
def test_parameters_are_looked_up(condition, expected):
    assert kfp_condition.holds(condition, INPUTS) is expected


@pytest.mark.parametrize(
    "condition", ["__import__('os').getcwd()", "inputs.artifacts[", "k == 1", "[1 for x in inputs]"]
)
def test_anything_else_is_refused(condition):
    with pytest.raises(ValueError, match="not a condition as TFX writes them"):
        kfp_condition.holds(condition, INPUTS)
