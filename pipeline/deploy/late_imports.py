"""Spares a task what TFX imports for tasks of other kinds: most of them do little else than import.

Whatever task it runs, kubeflow_v2_run_executor imports every component of TFX, TFDV, TFMA (with nltk and scikit-learn),
Kubernetes' client, all of Google Cloud's and, by way of TensorFlow, Keras. Here

* packages are put off: their modules can be imported one by one as ever, and the first attribute that is asked of the
  package itself loads it whole;
* packages whose users do without where they are not installed are not there;
* Keras, which TensorFlow loads at once though it would load it late, is loaded late.

Nothing is known of the kinds of tasks: one that uses TFMA loads it.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import sys
import types
from typing import Any

PUT_OFF = ("tensorflow_model_analysis", "tensorflow_data_validation", "tfx.components")
DONE_WITHOUT = ("google.cloud",)
"""Beam's connectors: no stage of ours uses them, for the launcher copies or mounts buckets."""
_KERAS = "tf_keras.src.optimizers"
"""What TensorFlow tries to import at its end, and does without where it cannot."""
_EVALUATOR = "tfx.components.evaluator.executor"


class _PutOff(types.ModuleType):
    """A package that is loaded when something is asked of it that is none of its modules."""

    def __init__(self, spec: importlib.machinery.ModuleSpec):
        super().__init__(spec.name)
        self.__spec__, self.__loader__, self.__file__ = spec, spec.loader, spec.origin
        self.__path__ = list(spec.submodule_search_locations or ())

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if importlib.util.find_spec(f"{self.__name__}.{name}"):
            return importlib.import_module(f"{self.__name__}.{name}")
        assert self.__spec__ and self.__spec__.loader
        self.__class__ = types.ModuleType  # type: ignore[assignment]  # from here on like any other
        self.__spec__.loader.exec_module(self)
        return getattr(self, name)


def prepare() -> None:
    """To be called before TensorFlow and TFX are imported; imports TensorFlow."""
    for name in DONE_WITHOUT:
        sys.modules[name] = None  # type: ignore[assignment]  # Python's way to say that it cannot be imported
    for name in PUT_OFF:
        spec = importlib.util.find_spec(name)
        assert spec, f"{name} is not installed"
        sys.modules[name] = _PutOff(spec)
    sys.modules[_KERAS] = None  # type: ignore[assignment]
    import tensorflow  # noqa: F401

    del sys.modules[_KERAS]


def leave_out_the_evaluator() -> None:
    """To be called when the task's executor is imported, before kubeflow_v2_run_executor is.

    That asks of every executor whether it is an Evaluator. Where none has been imported, it cannot be one.
    """
    if _EVALUATOR not in sys.modules:
        module = types.ModuleType(_EVALUATOR)
        module.Executor = type("Executor", (), {})  # type: ignore[attr-defined]
        sys.modules[_EVALUATOR] = module
