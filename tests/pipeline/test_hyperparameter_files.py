"""What a search leaves is read as hyperparameters and as settings; anything else is told."""

import json

import pytest

from components.errors import InputError
from pipeline import hyperparameter_files, settings

VALUES = {"learning_rate": 1.5e-05, "num_epochs": 3, "dropout": 0.25}


@pytest.fixture
def path(tmp_path):
    found = tmp_path / "hyperparameters.toml"
    parts = [
        hyperparameter_files.table("retrieval", "two_tower", VALUES, "eval ndcg_at_10 0.1 in trial 2 of 5"),
        hyperparameter_files.table("ranking", "deep", {"factors": 8}, "eval rmse 0.9 in trial 1 of 5"),
    ]
    found.write_text("\n".join(parts))
    return found


def test_as_hyperparameters_and_as_settings_they_say_the_same(path, tmp_path):
    found = settings.load("ml-100k", hyperparameters_path=path)
    shipped = settings.load("ml-100k")
    assert found.retrieval.hyperparameters == {**shipped.retrieval.hyperparameters, **VALUES}
    assert found.ranking.hyperparameters == {"factors": 8}
    assert found.retrieval.gates == shipped.retrieval.gates
    assert found == settings.load("ml-100k", settings_path=path)
    as_json = tmp_path / "found.json"
    as_json.write_text(json.dumps(hyperparameter_files.read(path)))
    assert settings.load("ml-100k", hyperparameters_path=as_json) == found
    assert settings.load("ml-100k", hyperparameters_path=path, retrieval_family="two_tower") == found


@pytest.mark.parametrize(
    "name, content, said",
    [
        ("a.toml", "seed = 3\n", "wanted are tables retrieval and ranking"),
        ("a.toml", "", "wanted are tables"),
        ("a.json", "[1]", "wanted are tables"),
        ("a.toml", '[retrieval]\nfamily = "two_tower"\n', "wanted are tables"),
        ("a.json", "{", "not valid json"),
        ("a.toml", "seed = \n", "not valid toml"),
    ],
)
def test_other_files_are_refused(tmp_path, name, content, said):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=said):
        settings.load("ml-100k", hyperparameters_path=tmp_path / name)


def test_a_missing_file_another_family_and_a_wrong_value_are_told_at_once(path, tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.toml: No such file"):
        settings.load("ml-100k", hyperparameters_path=tmp_path / "nowhere.toml")
    with pytest.raises(InputError, match="are those of retrieval two_tower, and --retrieval names autorec"):
        settings.load("ml-100k", hyperparameters_path=path, retrieval_family="autorec")
    path.write_text(path.read_text().replace("num_epochs = 3", "num_epochs = 3.5"))
    with pytest.raises(InputError, match=r"hyperparameters of retrieval two_tower: TwoTower\.num_epochs is 3\.5"):
        settings.load("ml-100k", hyperparameters_path=path)


def test_nothing_to_search_is_told_and_one_of_two_is_searched():
    assert settings.load("ml-100k").tuned_models == ()
    assert set(settings.load("ml-100k", tune=3).tuned_models) == {"retrieval", "ranking"}
    assert settings.load("ml-100k", tune=3, retrieval_family="popularity").tuned_models == ("ranking",)
    assert settings.load("ml-100k", tune=3, split="random").tuned_models == ("ranking",)
