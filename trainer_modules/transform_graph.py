"""The transform graph inside a served model."""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf
import tensorflow_transform as tft
from tensorflow_transform.saved import saved_transform_io_v2


class TransformGraph(tf.Module):
    """What TFTransformOutput.transform_features_layer() does, without being a Keras layer.

    Saving a Keras layer has AutoGraph rewrite the Keras code that calls it: some 8 s of CPU for every model.
    """

    def __init__(self, transform_output: tft.TFTransformOutput) -> None:
        """Loads the graph."""
        super().__init__(name="transform_graph")
        loader = saved_transform_io_v2.SavedModelLoader(transform_output.transform_savedmodel_dir)
        # The loader itself is nothing that a SavedModel can hold; the vocabularies it has loaded must be.
        self._loaded = loader._imported
        self._apply = loader.apply_transform_model

    def __call__(self, raw: Mapping[str, tf.Tensor | tf.SparseTensor]) -> dict[str, tf.Tensor | tf.SparseTensor]:
        """Some raw features of preprocessing_fn by name -> the transformed features that follow from them alone."""
        return self._apply(dict(raw))
