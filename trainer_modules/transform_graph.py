"""The transform graph inside a served model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import tensorflow as tf
import tensorflow_transform as tft
from tensorflow.python.eager import wrap_function  # the class has no public name
from tensorflow_transform.saved import saved_transform_io_v2


class TransformGraph(tf.Module):
    """What TFTransformOutput.transform_features_layer() does, but only for what is asked, and not as a Keras layer.

    Saving a Keras layer has AutoGraph rewrite the Keras code that calls it: some 8 s of CPU for every model. And the
    layer runs the whole graph on made-up values for the features that are not given: of retrieval's signatures it was
    a third of the nodes, which every server that loads the model optimizes for each of them.
    """

    def __init__(self, transform_output: tft.TFTransformOutput) -> None:
        """Loads the graph."""
        super().__init__(name="transform_graph")
        loader = saved_transform_io_v2.SavedModelLoader(transform_output.transform_savedmodel_dir)
        # The loader itself is nothing that a SavedModel can hold; the vocabularies it has loaded must be.
        self._loaded = loader._imported
        graph = loader._wrapped_function.graph
        self._prune = wrap_function.WrappedFunction(graph, wrap_function.VariableHolder()).prune
        inputs, outputs = loader._structured_inputs, loader._structured_outputs
        self._tensors = lambda: (inputs, outputs)  # a graph's tensors are nothing that a SavedModel can hold either

    def __call__(
        self, raw: Mapping[str, tf.Tensor | tf.SparseTensor], wanted: Iterable[str]
    ) -> dict[str, tf.Tensor]:
        """Transforms some features.

        Args:
          raw: raw features of preprocessing_fn by name.
          wanted: names of transformed features, dense, that follow from them alone.

        Returns:
          They by name.
        """
        inputs, outputs = self._tensors()
        wanted = list(wanted)
        fetches = {name: _computed(outputs[name]) for name in wanted}
        pruned = self._prune(tf.nest.flatten([inputs[name] for name in raw], expand_composites=True), fetches)
        transformed = pruned(*tf.nest.flatten(list(raw.values()), expand_composites=True))
        return {name: tf.ensure_shape(transformed[name], outputs[name].shape) for name in wanted}


def _computed(output: tf.Tensor) -> tf.Tensor:
    """The tensor behind an output: the output itself waits for every vocabulary's lookup, wanted or not."""
    return output.op.inputs[0] if output.op.type == "Identity" else output
