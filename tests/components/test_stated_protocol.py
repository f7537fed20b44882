"""The popularity baselines of ml-100k come out as known: splits, masks, candidates and metrics are what they claim.

Each figure needs all of it right: which rows are held out, that the fit rows are train and eval, that every movie of
the catalog is ranked, that the user's fit rows are masked, and how NDCG counts. No model is in it.
"""

import pytest

from components import evaluation_data, retrieval_protocol
from trainer_modules import baselines

WITHIN = 0.002


@pytest.fixture(scope="module", params=["leave_last_out", "global_time"])
def measured(request, examples_of_ml_100k):
    """Split, queries, and how the two baselines do, query by query."""
    output = examples_of_ml_100k(request.param)
    catalog = evaluation_data.read_catalog(output["catalog"].uri)
    queries = retrieval_protocol.read_queries(output["examples"].uri, output["user_state"].uri, catalog)
    seen = retrieval_protocol.seen_positions(queries, catalog)
    fit_rows = catalog.positions(queries.states.movie_id)
    scores = {
        "popularity": baselines.popularity(fit_rows, catalog.num_movies),
        "recent_popularity": baselines.recent_popularity(
            fit_rows, queries.states.timestamp, catalog.num_movies, half_life_days=3
        ),
    }
    found = {}
    for name, score in scores.items():
        recommended = retrieval_protocol.recommend_by_score(score, queries, seen)
        found[name] = retrieval_protocol.measure(recommended, queries.positives)
    return request.param, queries, found


def test_popularity_is_what_is_known_of_it(measured):
    split, queries, found = measured
    if split == "leave_last_out":
        assert len(queries.user_id) == 943 and (queries.state >= 0).all()
        of_all = retrieval_protocol.summary(found["popularity"])
        assert of_all["ndcg_at_10"] == pytest.approx(0.0450, abs=WITHIN)
        assert of_all["recall_at_10"] == pytest.approx(0.086, abs=WITHIN)
        assert of_all["recall_at_100"] == pytest.approx(0.317, abs=WITHIN)
    else:
        warm = queries.state >= 0
        assert (len(warm), warm.sum()) == (166, 90)
        of_warm = {name: retrieval_protocol.summary(values, warm)["ndcg_at_10"] for name, values in found.items()}
        assert of_warm == {
            "popularity": pytest.approx(0.150, abs=WITHIN),
            "recent_popularity": pytest.approx(0.212, abs=WITHIN),
        }
