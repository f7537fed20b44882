"""The models. This package imports none of our other packages, so it can travel to a worker alone."""

from trainer_modules import legacy_keras

legacy_keras.require()
