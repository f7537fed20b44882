"""The tables by slice, as a terminal shows them."""

import io

import rich.console

from pipeline import slice_screen

RETRIEVAL = {
    "num_queries": 3,
    "metrics": {"ndcg_at_10": 0.5, "recall_at_10": 0.6, "recall_at_100": 0.7},
    "slices": [
        {
            "slice": "genre=Film-Noir", "num": 2,
            "metrics": {"ndcg_at_10": 0.25, "recall_at_10": 0.5, "recall_at_100": 1.0},
            "beside": {"popularity": {"ndcg_at_10": 0.125}},
        },
        {"slice": "cold", "num": 1, "metrics": {"ndcg_at_10": 0.0}, "beside": {"last_blessed": {"ndcg_at_10": 0.75}}},
    ],
}  # fmt: skip
RANKING = {
    "num_rows": 9, "metrics": {"rmse": 0.9}, "slices": [{"slice": "warm", "num": 9, "metrics": {"rmse": 0.9}}],
    "calibration_buckets": [
        {"from": 4.5, "to": 5.0, "num": 8, "prediction": 4.75, "rating": 4.5, "calibration": 1.0556},
    ],
}  # fmt: skip


def test_each_slice_has_its_line_and_what_stands_beside():
    text = io.StringIO()
    console = rich.console.Console(file=text, width=160)
    for table in slice_screen.tables({"retrieval": RETRIEVAL, "ranking": RANKING, "none": {"slices": []}}):
        console.print(table)
    lines = [line.split() for line in text.getvalue().splitlines()]
    assert ["genre", "Film-Noir", "2", "0.2500", "0.5000", "1.0000", "0.1250"] in lines
    assert ["cold", "1", "0.0000", "0.7500"] in lines
    assert ["warm", "9", "0.9000"] in lines
    assert ["4.5", "to", "5", "8", "4.7500", "4.5000", "1.0556"] in lines
    assert "last blessed" in text.getvalue() and "users" in text.getvalue() and "ratings" in text.getvalue()
