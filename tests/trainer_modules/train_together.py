"""One worker of several: trains both models as TF_CONFIG says. Arguments: JSON of the artifacts, folder."""

import json
import logging
import pathlib
import sys

from trainer_modules import ranking, retrieval

import toy_world  # isort: skip  (after trainer_modules: it chooses the Keras)

SMALL = {
    "two_tower": {"embedding_dimension": 16, "hidden_units": 16, "num_epochs": 2, "blocks_per_batch": 8},
    "deep": {"max_epochs": 2, "batch_size": 64},
}
CONFIGS = {
    name: {
        "family": family, "hyperparameters": SMALL[family], "seed": 7, "user_snapshot": True,
        "rating_range": [1.0, 5.0],
    }
    for name, family in (("retrieval", "two_tower"), ("ranking", "deep"))
}  # fmt: skip


def main(artifacts, folder):
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
    logging.getLogger("absl").setLevel(logging.WARNING)
    told = toy_world.Artifacts(**json.loads(artifacts))
    for name, module in (("retrieval", retrieval), ("ranking", ranking)):
        module.run_fn(told.fn_args(pathlib.Path(folder) / name / "Format-Serving", CONFIGS[name]))


if __name__ == "__main__":
    main(*sys.argv[1:])
