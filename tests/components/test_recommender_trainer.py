"""The Trainer's other way to its code: a module file, packed into a wheel and installed when it runs."""

import pathlib

import toy_components
from tfx.components.trainer.component import Trainer
from tfx.proto import trainer_pb2

from components import recommender_trainer

MODULE = """
import sibling
import tensorflow as tf


class Constant(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def stars(self, user_id):
        return {"stars": tf.fill([tf.shape(user_id)[0]], sibling.STARS)}


def run_fn(fn_args):
    model = Constant()
    tf.saved_model.save(model, fn_args.serving_model_dir, signatures={"rank": model.stars})
"""


def test_a_module_file_still_trains(tmp_path):
    # Packing and installing the wheel asks no package index: it has no dependencies.
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "module_file_ranking.py").write_text(MODULE)
    (tmp_path / "code" / "sibling.py").write_text("STARS = 3.5\n")
    data = toy_components.ToyData(num_cold_users=1)
    trainer = Trainer(
        examples=data.outputs["examples"],
        schema=data.outputs["schema"],
        module_file=str(tmp_path / "code" / "module_file_ranking.py"),
        train_args=trainer_pb2.TrainArgs(splits=["train"]),
        eval_args=trainer_pb2.EvalArgs(splits=["eval"]),
    )
    found = toy_components.run(tmp_path, [data, trainer])
    model_uri = found["Trainer"][1]["model"].uri
    assert (pathlib.Path(model_uri) / "Format-Serving" / "saved_model.pb").is_file()
    assert list((tmp_path / "artifacts" / "_wheels").glob("*.whl"))


def test_two_trainers_live_in_one_graph():
    data = toy_components.ToyData(num_cold_users=1)
    channels = {name: data.outputs[name] for name in ("examples", "catalog", "user_state", "transform_graph", "schema")}
    trainers = [
        recommender_trainer.RecommenderTrainer(
            **channels, run_fn=f"trainer_modules.{name}.run_fn", custom_config={"code": name}
        ).with_id(name)
        for name in ("retrieval", "ranking")
    ]
    assert [trainer.id for trainer in trainers] == ["retrieval", "ranking"]
    assert trainers[0].outputs["model"].producer_component_id == "retrieval"
    assert trainers[0].exec_properties["run_fn"] == "trainer_modules.retrieval.run_fn"
    assert {"catalog", "user_state"} <= set(trainers[1].inputs)
