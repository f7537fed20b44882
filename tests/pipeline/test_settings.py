import dataclasses
import pathlib

import numpy as np
import pytest

from components import editions, splits
from components.errors import InputError
from pipeline import setting_layers, settings


def test_file_and_command_line_lie_over_the_preset(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('seed = 3\nkeep_versions = 2\n[ranking.hyperparameters]\nfactors = 3\n')
    found = settings.load("ml-100k", path, seed=11, split=None)
    assert (found.seed, found.keep_versions, found.ranking.hyperparameters) == (11, 2, {"factors": 3})
    assert found.retrieval == settings.load("ml-100k").retrieval
    assert found.root_path.name == "ml-100k-leave_last_out"


def test_another_family_inherits_nothing(tmp_path):
    found = settings.load("ml-latest-small", retrieval_family="autorec").retrieval
    assert (found.family, found.hyperparameters, found.gates) == ("autorec", {}, {})
    assert settings.load("ml-latest-small", retrieval_family="two_tower") == settings.load("ml-latest-small")
    path = tmp_path / "mine.toml"
    path.write_text('[retrieval]\nfamily = "autorec"\nhyperparameters = { hidden_units = 8 }\n')
    assert settings.load("ml-100k", path).retrieval.hyperparameters == {"hidden_units": 8}
    assert settings.load("ml-100k", path).retrieval.gates == {}
    assert settings.load("ml-100k", path, retrieval_family="popularity").retrieval.hyperparameters == {}


def test_a_named_preset_lies_between_the_data_sets_and_the_file(tmp_path):
    found = settings.load("ml-100k", preset="tutorial")
    assert (found.retrieval.family, found.retrieval.hyperparameters, found.retrieval.gates) == ("tutorial", {}, {})
    assert found.limits == settings.load("ml-100k").limits
    path = tmp_path / "mine.toml"
    path.write_text('[retrieval.hyperparameters]\nnum_epochs = 1\n')
    over = settings.load("ml-100k", path, preset="tutorial").retrieval
    assert (over.family, over.hyperparameters) == ("tutorial", {"num_epochs": 1})
    with pytest.raises(InputError, match="preset is 'ml-100k'; known are: tutorial"):
        settings.load("sample", preset="ml-100k")


def test_another_family_has_the_presets_of_its_own(tmp_path):
    preset = tmp_path / "preset.toml"
    preset.write_text("""
        [ranking]
        family = "deep"
        hyperparameters = { factors = 8 }
        gates.random.rmse.max = 0.9
        [ranking.families.bias]
        hyperparameters = { user_shrinkage = 2.0, movie_shrinkage = 1.0 }
        gates.random.rmse.max = 0.99
    """)
    under = setting_layers.parse(preset.read_bytes(), "preset")
    over = {"ranking": {"family": "bias", "hyperparameters": {"movie_shrinkage": 4.0}}}
    found = settings.Settings(**setting_layers.merged(under, over)).ranking
    assert found.hyperparameters == {"user_shrinkage": 2.0, "movie_shrinkage": 4.0}
    assert found.gates_of(splits.parse("random"))["rmse"].max == 0.99
    same = settings.Settings(**setting_layers.merged(under, {"ranking": {"family": "deep"}})).ranking
    assert same.hyperparameters == {"factors": 8} and same.gates["random"]["rmse"].max == 0.9
    back = setting_layers.merged(setting_layers.merged(under, over), {"ranking": {"family": "bias"}})
    assert settings.Settings(**back).ranking == found
    with pytest.raises(ValueError, match="by_moon"):
        settings.Model("deep", families={"bias": settings.FamilyPreset(gates={"by_moon": {}})})


def test_what_the_users_file_has_of_a_family_holds_when_it_is_chosen(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("""
        [ranking.families.deep.hyperparameters]
        factors = 8
        [ranking.families.deep.gates]
        leave_last_out.rmse.max = 0.5
        random.rmse.max = 0.6
    """)
    for dataset, family in (("ml-100k", "deep"), ("ml-32m", "deep"), ("ml-latest-small", "deep")):
        found = settings.load(dataset, path, ranking_family=family).ranking
        assert found.hyperparameters == {"factors": 8}
        assert found.gates["leave_last_out"]["rmse"].max == 0.5 and found.gates["random"]["rmse"].max == 0.6
    corridor = settings.load("ml-100k", ranking_family="deep").ranking.gates["leave_last_out"]["rmse"]
    kept = settings.load("ml-100k", path, ranking_family="deep").ranking.gates["leave_last_out"]["rmse"]
    assert kept.min == corridor.min is not None, "what the file leaves unsaid is the data set's"
    other = settings.load("ml-100k", path)
    assert other.ranking == dataclasses.replace(
        settings.load("ml-100k").ranking, families=other.ranking.families
    )
    path.write_text(path.read_text() + '[ranking]\nfamily = "deep"\nhyperparameters = { factors = 9 }\n')
    assert settings.load("ml-100k", path).ranking.hyperparameters == {"factors": 9}


@pytest.mark.parametrize(
    "content, named",
    [
        ("sede = 3\n", "sede"),
        ("[ranking.families.depe.gates]\n", "ranking is 'depe'; the families are"),
        ("[ranking.families.deep.hyperparameters]\nfactor = 8\n", "ranking deep: .*no hyperparameter factor"),
        ("seed = 4294967296\n", "seed"),
        ("[ranking.gates.random]\nrmes = { max = 0.9 }\n", "gates of ranking rmes: what is measured is rmse, mae"),
        ("[retrieval.gates.global_time]\nrmse = { max = 0.9 }\n", "gates of retrieval rmse: what is measured is ndcg"),
        ('seed = "three"\n', "seed"),
        ("max_bad_share = 1.5\n", "max_bad_share"),
        ('[retrieval]\nfamily = "two_tower"\nlayers = 3\n', "layers"),
        ('split = "by_moon"\n', "by_moon"),
        ('[retrieval]\nfamily = "als"\n', "two_tower, matrix_factorization, autorec, tutorial, popularity"),
        ("seed = \n", "not valid TOML"),
        ('[index]\nkind = "scann"\n', "the kinds are exact and inverted_file"),
        ("[index]\nprobe = 3\n", "probe"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path, content, named):
    path = tmp_path / "mine.toml"
    path.write_text(content)
    with pytest.raises(InputError, match=named):
        settings.load("sample", path)


def test_unknown_dataset_and_missing_file():
    with pytest.raises(InputError, match="known are: sample"):
        settings.load("ml-1b")
    with pytest.raises(InputError, match=r"nowhere\.toml"):
        settings.load("sample", settings_path=pathlib.Path("nowhere.toml"))


@pytest.mark.parametrize("dataset", editions.EDITIONS)
def test_every_preset_loads(dataset):
    found = settings.load(dataset)
    assert found.dataset == dataset
    assert found.synthetic == (dataset == "sample")


def test_what_may_be_gated_is_what_is_measured():
    from components import ranking_figures, ranking_slices, retrieval_protocol  # here: TensorFlow comes with them

    figures = ranking_figures.figures(np.array([b"u", b"u"]), np.array([1.0, 4.0]), np.array([2.0, 3.0]))
    assert set(settings.MEASURED["ranking"]) == {*figures, ranking_slices.WORST_SLICE}
    retrieval = {*retrieval_protocol.QUERY_METRICS, retrieval_protocol.COVERAGE, retrieval_protocol.GINI}
    assert set(settings.MEASURED["retrieval"]) == retrieval


def test_a_data_set_without_a_preset_has_the_defaults():
    assert settings.load("ml-32m") == settings.Settings(dataset="ml-32m")


@pytest.mark.parametrize(
    "split, name, models",
    [
        ("leave_last_out", "leave_last_out", {"ranking", "retrieval"}),
        ("global_time", "global_time", {"ranking", "retrieval"}),
        ("global_time:0.80,0.1", "global_time", {"ranking", "retrieval"}),
        ("global_time:1998-01-01,1998-02-01", "global_time-1998-01-01-1998-02-01", {"ranking", "retrieval"}),
        ("random", "random", {"ranking"}),
        ("fold:u5", "fold-u5", {"ranking"}),
    ],
)
def test_every_split_has_a_root_of_its_own_and_its_models(split, name, models):
    found = settings.load("ml-100k", split=split)
    assert found.root_path.name == f"ml-100k-{name}" and set(found.models) == models


@pytest.mark.parametrize(
    "dataset, split, said",
    [
        ("sample", "fold:u1", "sample has no fold 'u1'"), ("ml-100k", "fold:ua", "no fold 'ua'"),
        ("ml-1m", "global_time:0.9,0.1", "together below 1"),
    ],
)  # fmt: skip
def test_a_split_that_cannot_be_is_refused_at_once(dataset, split, said):
    with pytest.raises(InputError, match=said):
        settings.load(dataset, split=split)


def test_files_of_ones_own_have_no_folds():
    with pytest.raises(InputError, match="files of your own have no official folds"):
        settings.load("csv", ratings=pathlib.Path("r.csv"), movies=pathlib.Path("m.csv"), split="fold:u1")


def test_gates_are_a_splits_own_and_those_of_fold_every_folds():
    ranking = settings.load("ml-100k").ranking
    names = ("random", "fold:u1", "fold:u5", "global_time:.5,.2")
    gates = {name: ranking.gates_of(splits.parse(name)) for name in names}
    assert gates["fold:u1"] == gates["fold:u5"] and gates["fold:u1"]["rmse"].min and gates["fold:u1"]["rmse"].max
    assert gates["random"]["rmse"] and gates["global_time:.5,.2"] == {}
    own = settings.Model("deep", gates={"fold": {"rmse": {"max": 1}}, "fold:u2": {"rmse": {"max": 2}}})
    assert [own.gates_of(splits.parse(name))["rmse"].max for name in ("fold:u1", "fold:u2")] == [1, 2]


@pytest.mark.parametrize(
    "gates, named", [({"by_moon": {}}, "by_moon"), ({"global_time:0.8,0.10": {}}, "write 'global_time'")]
)
def test_gates_of_no_split_would_bind_nothing(gates, named):
    with pytest.raises(ValueError, match=named):
        settings.Model("deep", gates=gates)


def test_files_of_ones_own_are_settings_too(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('ratings = "r.csv"\nmovies = "m.csv"\nrating_range = [1, 10]\n[ratings_columns]\nuser_id = "who"\n')
    found = settings.load("csv", path, ratings_columns={"rating": "score"})
    assert found.ratings == pathlib.Path("r.csv") and found.rating_range == (1.0, 10.0)
    assert found.ratings_columns == {"user_id": "who", "rating": "score"}
    with pytest.raises(InputError, match=r"^settings: dataset csv needs --ratings FILE and --movies FILE"):
        settings.load("csv", ratings=pathlib.Path("r.csv"))


@pytest.mark.parametrize("chosen", [{}, {"ranking_family": "deep"}, {"ranking_family": "bias"}])
def test_what_the_file_says_of_a_model_holds_for_whichever_family_is_trained(tmp_path, chosen):
    path = tmp_path / "mine.toml"
    path.write_text("[ranking.gates.random]\nrmse = { max = 0.1 }\n")
    found = settings.load("sample", path, **chosen).ranking
    assert found.family == chosen.get("ranking_family", "factorization_machine")
    assert found.gates_of(splits.parse("random"))["rmse"].max == 0.1


def test_what_the_file_says_of_another_family_does_not(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('[ranking]\nfamily = "deep"\nhyperparameters = { factors = 8 }\n')
    assert settings.load("sample", path).ranking.hyperparameters["factors"] == 8
    assert "factors" not in settings.load("sample", path, ranking_family="bias").ranking.hyperparameters
    path.write_text("[ranking]\nhyperparameters = { num_steps = 700 }\n")  # of the sample's own family
    assert settings.load("sample", path).ranking.hyperparameters["num_steps"] == 700
    assert "num_steps" not in settings.load("sample", path, ranking_family="bias").ranking.hyperparameters


@pytest.mark.parametrize(
    "content",
    [
        'ranking = "deep"\n', "[ranking]\nfamilies = 3\n", "[ranking.families]\ndeep = 3\n", 'family = "deep"\n',
        "[ranking.gates]\nrandm = {}\n", "[ranking.gates.random]\nrmse = 0.1\n", "seed = -1\n",
        '[ranking]\nfamily = "deep"\nhyperparameters = { factors = 0 }\n', '[ranking]\nfamily = ["deep"]\n',
    ],
)  # fmt: skip
def test_a_table_that_is_none_is_refused(tmp_path, content):
    path = tmp_path / "mine.toml"
    path.write_text(content)
    with pytest.raises(InputError):
        settings.load("sample", path, ranking_family="deep" if "[\"deep\"]" not in content else None)
