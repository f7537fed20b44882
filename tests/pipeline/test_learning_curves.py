"""The figure of learning curves: what the Trainers noted is what is drawn."""

import csv
import types

import pytest

from pipeline import learning_curves

NOTES = [
    {"phase": "tuning", "epoch": 1, "train_loss": 6.5, "eval_loss": 6.25, "eval_ndcg_at_10": 0.05},
    {"phase": "tuning", "epoch": 2, "train_loss": 6.0, "eval_loss": 6.125, "eval_ndcg_at_10": 0.1},
    {"phase": "refit", "epoch": 1, "train_loss": 6.4},
]


def trainer(folder, name, notes=None):
    """A ComponentRun as far as it is read."""
    if notes:
        folder.mkdir()
        with (folder / "epochs.csv").open("w") as file:
            writer = csv.DictWriter(file, list(notes[0]))
            writer.writeheader()
            writer.writerows(notes)
    return types.SimpleNamespace(
        component=name,
        output=lambda key: types.SimpleNamespace(uri=str(folder)) if key == "model_run" and notes is not None else None,
    )


@pytest.fixture
def drawn(monkeypatch):
    """(title, y label, {label: [(epoch, value)]}) of every panel that is saved."""
    from matplotlib import figure

    panels, save = [], figure.Figure.savefig

    def keep(self, *args, **kwargs):
        panels.extend(
            (axes.get_title(), axes.get_ylabel(), {line.get_label(): line.get_xydata().tolist() for line in axes.lines})
            for axes in self.axes
        )
        save(self, *args, **kwargs)

    monkeypatch.setattr(figure.Figure, "savefig", keep)
    return panels


def test_each_measure_of_each_model_has_a_panel(tmp_path, drawn):
    ranking = [{"phase": "tuning", "epoch": 1, "train_rmse": 1.0, "eval_rmse": 1.25}]
    runs = [
        trainer(tmp_path / "a", "RetrievalTrainer", NOTES), trainer(tmp_path / "b", "RankingTrainer", ranking),
        trainer(tmp_path / "c", "AtomicPush"),
    ]  # fmt: skip
    path = tmp_path / "report" / learning_curves.FILE
    assert learning_curves.draw(runs, path)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert drawn == [
        ("retrieval", "cross-entropy, nats a row", {
            "train": [[1, 6.5], [2, 6.0]], "eval": [[1, 6.25], [2, 6.125]], "train + eval, the refit": [[1, 6.4]],
        }),
        ("retrieval", "NDCG@10", {"eval": [[1, 0.05], [2, 0.1]]}),
        ("ranking", "RMSE (of the training's target)", {"train": [[1, 1.0]], "eval": [[1, 1.25]]}),
    ]  # fmt: skip


def test_where_nothing_was_learned_in_epochs_there_is_no_figure(tmp_path):
    path = tmp_path / learning_curves.FILE
    assert not learning_curves.draw([trainer(tmp_path / "a", "RetrievalTrainer", [])], path)
    assert not path.exists()
