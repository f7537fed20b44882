"""New data every day: spans are added whole, once, and a run reads the base and what was added."""

import dataclasses
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import threading

import polars as pl
import pytest
from data_files import write_100k, write_latest, write_lines
from example_gen_run import examples, run_example_gen
from hypothesis import given, settings
from hypothesis import strategies as st
from tfx.components.example_gen import utils as example_gen_utils
from tfx.proto import example_gen_pb2

from components import movielens, own_files, source_files, span_ingestion, spans
from components.errors import InputError

PROJECT = pathlib.Path(__file__).resolve().parents[2]
NO_COLUMNS = {"ratings": {}, "movies": {}}
HEADER = "userId,movieId,rating,timestamp"
DAY = [f"{user},{movie},3.5,{900_000_000 + user}" for user, movie in ((1, 11), (2, 12), (20, 1), (20, 2))]


def base_of(folder, name="ml-latest-small"):
    edition = movielens.get_edition(name)
    digest = source_files.content_digest(folder, edition)
    return lambda: span_ingestion.Base(edition, digest, lambda: movielens.read(folder, edition))


def nothing_yet():
    return span_ingestion.Base(own_files.layout((0.5, 5.0)), "", None)


@dataclasses.dataclass
class Root:
    """A root's spans, and a folder to write the days' files into."""

    path: pathlib.Path
    base: object

    @property
    def folder(self):
        return self.path / "spans"

    def file(self, name, lines, header=HEADER):
        self.path.mkdir(exist_ok=True)
        write_lines(self.path / name, [header, *lines] if header else lines, "utf-8")
        return self.path / name

    def ingest(self, *files, movies=(), columns=NO_COLUMNS, max_bad_share=0.01):
        rejected = self.path / "rejected"
        return span_ingestion.ingest(self.folder, files, movies, self.base, columns, max_bad_share, rejected)

    def numbers(self):
        return [span.number for span in spans.listed(self.folder).spans]

    def rows(self, numbers=None):
        dataset = spans.read(self.folder, self.numbers() if numbers is None else numbers)
        content = dataset.ratings.select("user_id", "movie_id", "rating", "timestamp").rows()
        assert dataset.num_rows_in == len(content) + dataset.num_duplicates + dataset.num_rejected
        return sorted(content)


@pytest.fixture
def root(tmp_path):
    return Root(tmp_path / "root", base_of(write_latest(tmp_path / "ml-latest-small")))


@pytest.fixture
def own(tmp_path):
    root = Root(tmp_path / "own", nothing_yet)
    movies = root.file("m.csv", ["1,A", "2,B", "11,C", "12,D"], "movieId,title")
    root.ingest(root.file("day0.csv", DAY), movies=[movies])
    return root


def test_the_first_ingest_makes_a_span_of_what_the_root_has_and_one_of_what_is_new(root):
    found = root.ingest(root.file("day1.csv", DAY))
    assert found.is_new and (found.span.number, found.span.num_rows) == (1, 4)
    assert root.numbers() == [0, 1]
    assert len(root.rows()) == 100 + 4
    assert root.rows([1]) == sorted((*row.split(",")[:2], 3.5, int(row.split(",")[3])) for row in DAY)
    # Every row says where it stood, and the base comes before the days.
    lines = spans.read(root.folder, [0, 1]).ratings["source_line"].to_list()
    assert lines[:2] == [2, 3] and lines[-4:] == [1_000_000_002 + n for n in range(4)]


def test_the_same_file_twice_adds_nothing(root):
    file = root.file("day1.csv", DAY)
    root.ingest(file)
    listed = (root.folder / "spans.json").read_bytes()
    again = root.ingest(file)
    assert not again.is_new and (again.span.num_rows, again.span.num_duplicates) == (0, 4)
    assert (root.folder / "spans.json").read_bytes() == listed
    assert sorted(path.name for path in root.folder.iterdir()) == [".lock", "span-0", "span-1", "spans.json"]


def test_a_row_that_is_there_is_not_doubled_and_a_newer_rating_wins(root):
    root.ingest(root.file("day1.csv", DAY))
    news = [DAY[1], "1,11,5,900000002", "1,12,4,900000000"]
    found = root.ingest(root.file("day2.csv", news))
    assert (found.span.num_rows, found.span.num_duplicates) == (2, 1)
    rows = {row[:2]: row[2:] for row in root.rows()}
    assert rows["1", "11"] == (5.0, 900_000_002) and rows["1", "12"] == (4.0, 900_000_000)
    assert len(root.rows()) == len(rows)
    assert spans.read(root.folder, [0, 1, 2]).num_rejected == 1  # the corrected one is counted
    # What was corrected does not come back, and a window knows the new version.
    assert not root.ingest(root.file("day1.csv", DAY)).is_new
    assert ("1", "11", 5.0, 900_000_002) in root.rows([2])


def test_what_is_not_newer_than_what_it_would_correct_is_set_aside_and_listed(root):
    root.ingest(root.file("day1.csv", DAY))
    found = root.ingest(root.file("late.csv", ["1,11,1,900000001", "2,12,1,5", "3,11,1,900000009"]))
    assert (found.span.num_rows, found.span.num_rejected) == (1, 2)
    listed = pl.read_csv(root.path / "rejected" / "span-2.csv")
    assert listed["line"].to_list() == [2, 3] and "a correction is newer" in listed["reason"][0]


def test_new_movies_come_with_a_file_and_others_are_unknown(root):
    file = root.file("day1.csv", [*DAY, "1,500,4,900000000"])
    with pytest.raises(InputError, match=r"day1.csv:6: movie id '500' is not in the catalog"):
        root.ingest(file)
    assert spans.listed(root.folder) is None and not list(root.folder.glob("span-*"))
    movies = root.file("m.csv", ['500,"New, The (2001)",Drama|War', '2,"Movie, Renamed (1982)",Drama'],
                       "movieId,title,genres")
    found = root.ingest(file, movies=[movies])
    assert (found.span.num_rows, found.span.num_movies) == (5, 2)
    catalog = {row[0]: row[1:] for row in spans.read(root.folder, [0, 1]).movies.iter_rows()}
    assert catalog["500"] == ("New, The (2001)", ["Drama", "War"]) and catalog["2"][0] == "Movie, Renamed (1982)"
    assert list(catalog)[:2] == ["1", "2"] and len(catalog) == 13  # a new description keeps the place
    assert root.ingest(file, movies=[movies]).is_new is False


def test_bad_rows_stop_an_ingest_before_anything_is_written(root):
    root.ingest(root.file("day1.csv", DAY))
    listed = (root.folder / "spans.json").read_bytes()
    bad = root.file("day2.csv", ["1,1,9,900000000", "1,2,4,900000777"])
    with pytest.raises(InputError, match=r"day2.csv:2: rating '9' is outside 0.5 to 5 stars"):
        root.ingest(bad)
    assert (root.folder / "spans.json").read_bytes() == listed and root.numbers() == [0, 1]
    found = root.ingest(bad, max_bad_share=0.5)
    assert (found.span.num_rows, found.span.num_rejected) == (1, 1)
    assert "outside" in (root.path / "rejected" / "span-2.csv").read_text()


def test_a_window_reads_its_spans_and_the_whole_catalog(root):
    root.ingest(root.file("day1.csv", DAY))
    root.ingest(root.file("day2.csv", ["7,11,4,900009999"]))
    listed = spans.listed(root.folder)
    assert (listed.newest(None), listed.newest(2), listed.newest(9)) == ([0, 1, 2], [1, 2], [0, 1, 2])
    window = spans.read(root.folder, listed.newest(1))
    assert window.ratings["user_id"].to_list() == ["7"] and window.movies.height == 12


def test_the_digest_covers_exactly_the_spans_that_are_read(root):
    root.ingest(root.file("day1.csv", DAY))
    whole, base, day1 = (spans.content_digest(root.folder, numbers) for numbers in ([0, 1], [0], [1]))
    assert len({whole, base, day1}) == 3
    root.ingest(root.file("day2.csv", ["7,11,4,900009999"]))
    assert [spans.content_digest(root.folder, numbers) for numbers in ([0, 1], [0], [1])] == [whole, base, day1]
    file = root.folder / "span-1" / "ratings.parquet"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    with pytest.raises(InputError, match="not what was ingested"):
        spans.content_digest(root.folder, [1])


def test_days_in_an_editions_own_format_and_in_parquet(tmp_path):
    root = Root(tmp_path / "root", base_of(write_100k(tmp_path / "ml-100k"), "ml-100k"))
    found = root.ingest(root.file("day1.data", ["1\t11\t5\t900000000", "1\t12\t5\t900000000"], header=None))
    assert found.span.num_rows == 2
    day2 = pl.DataFrame({"who": ["2"], "what": ["12"], "rating": [4], "timestamp": [900_000_000]})
    day2.write_parquet(root.path / "day2.parquet")
    columns = {"ratings": {"user_id": "who", "movie_id": "what"}, "movies": {}}
    assert root.ingest(root.path / "day2.parquet", columns=columns).span.num_rows == 1
    # What the columns are called need not be said again.
    assert not root.ingest(root.path / "day2.parquet").is_new
    users = spans.read(root.folder, [2]).users
    assert users.height == 11 and "raw_user_age" in users.columns
    with pytest.raises(InputError, match="list of genres"):
        root.ingest(root.path / "day1.data", movies=[root.file("m.item", ["1|X"], header=None)])


def test_ones_own_data_begins_with_the_first_file(own):
    assert own.numbers() == [0] and len(own.rows()) == 4
    own.ingest(own.file("day1.csv", ["5,1,4,900000100"]), own.file("day1b.csv", ["5,2,4,900000101", "5,1,4,900000100"]))
    assert own.numbers() == [0, 1] and len(own.rows()) == 6
    lines = spans.read(own.folder, [1]).ratings["source_line"].to_list()
    sources = spans.listed(own.folder).spans[1].sources
    assert [source["lines_before"] for source in sources] == [0, 2]
    assert lines == [1_000_000_002, 1_000_000_004]


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_any_days_in_any_order_again_add_nothing_and_the_newest_wins(tmp_path_factory, data):
    rows = st.tuples(st.integers(1, 3), st.sampled_from([1, 2, 11]), st.integers(1, 5), st.integers(1, 4))
    days = data.draw(st.lists(st.lists(rows, min_size=1, max_size=6), min_size=1, max_size=4))
    root = Root(tmp_path_factory.mktemp("any"), nothing_yet)
    movies = root.file("m.csv", ["1,A", "2,B", "11,C"], "movieId,title")
    files = [root.file(f"{i}.csv", [",".join(map(str, row)) for row in day]) for i, day in enumerate(days)]
    for file, day in zip(files, days, strict=True):
        span = root.ingest(file, movies=[movies]).span
        assert span.num_rows_in == len(day) == span.num_rows + span.num_duplicates + span.num_rejected
    newest = {}
    for day in days:
        # In a file the last of equal times wins; between files the first.
        for user, movie, stars, time in sorted(day, key=lambda row: row[3]):
            known = newest.get((user, movie))
            if known is None or time > known[1] or (time == known[1] and known[2] is day):
                newest[user, movie] = (stars, time, day)
    rows = root.rows()
    assert rows == sorted((str(u), str(m), float(s), t) for (u, m), (s, t, _) in newest.items())
    for file in data.draw(st.permutations(files)):
        assert not root.ingest(file).is_new
    assert root.rows() == rows


def test_a_run_of_spans_says_which(root, tmp_path):
    root.ingest(root.file("day1.csv", [f"{user},12,4,{900_000_000 + user}" for user in range(1, 11)]))
    output = run_example_gen(
        tmp_path / "run", root.folder, "ml-latest-small", spans="[0, 1]",
        data_digest=spans.content_digest(root.folder, [0, 1]),
    )  # fmt: skip
    artifact = output["examples"]
    assert artifact.span == 1 and artifact.get_string_custom_property("spans") == "[0, 1]"
    # Every user's newest row came with the new span.
    tests = examples(artifact, "test")
    assert len(tests) == 10 and {row["movie_id"][0] for row in tests} == {"12"}
    assert all(row["source_line"][0] > 1_000_000_000 for row in tests)


def test_tfx_finds_the_newest_span_by_its_pattern(root):
    root.ingest(root.file("day1.csv", DAY))
    split = example_gen_pb2.Input.Split(name="all", pattern="span-{SPAN}/ratings.parquet")
    _, span, _ = example_gen_utils.calculate_splits_fingerprint_span_and_version(str(root.folder), [split])
    assert span == 1


def test_two_ingests_at_once_wait_for_each_other(own):
    files = [own.file(f"at-once-{n}.csv", [f"{n},1,4,{900_000_200 + n}"]) for n in range(30, 34)]
    threads = [threading.Thread(target=own.ingest, args=(file,)) for file in files]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert own.numbers() == [0, 1, 2, 3, 4] and len(own.rows()) == 8


# Ingests, and kills itself (as kill -9 does) before the given line of the ingest; says how many there are when it was
# not killed.
KILLED_INGEST = """
import json, os, pathlib, signal, sys
from components import durable_files, movielens, source_files, span_ingestion, spans

countdown = int(sys.argv[1])
watched = {durable_files.__file__, span_ingestion.__file__, spans.__file__}

def trace(frame, event, argument):
    global countdown
    if frame.f_code.co_filename not in watched:
        return None
    countdown -= 1
    if countdown == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return trace

root, base, day = map(pathlib.Path, sys.argv[2:])
edition = movielens.get_edition("ml-latest-small")
start = span_ingestion.Base(edition, "of the base", lambda: movielens.read(base, edition))
sys.settrace(trace)
span_ingestion.ingest(
    root / "spans", [day], [], lambda: start, {"ratings": {}, "movies": {}}, 0.01, root / "rejected"
)
sys.settrace(None)
print(int(sys.argv[1]) - countdown)
"""


def kill_ingests(tmp_path, kills, seed):
    """Kills ingests at random lines, into a new root and into one with spans by turns, and looks at what is there."""
    base = write_latest(tmp_path / "ml-latest-small")
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    chance, came_through, num_lines = random.Random(seed), 0, {}

    def run(line, root, day):
        command = [sys.executable, "-c", KILLED_INGEST, str(line), str(root.path), str(base), str(day)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)

    for kill in range(-1, kills):
        root = Root(tmp_path / str(kill), base_of(base))
        for is_later in (False, True):
            before = root.numbers() if is_later else []
            rows = root.rows() if is_later else None
            day = root.file(f"day{int(is_later)}.csv", [f"{30 + kill},{1 + int(is_later)},3,{900_000_000 + kill}"])
            if kill < 0:  # once whole, to count
                num_lines[is_later] = int(run(10**9, root, day).stdout)
            elif kill % 2 == int(is_later):
                killed = run(chance.randint(1, num_lines[is_later]), root, day)
                assert killed.returncode == -signal.SIGKILL, killed.stderr
                after = spans.listed(root.folder)
                after = [span.number for span in after.spans] if after else []
                new = [*before, 1 + int(is_later)] if is_later else [0, 1]
                assert after in (before, new)
                came_through += after == new
                if after:
                    spans.content_digest(root.folder, after)  # all of it is there, whole
                if after == before and is_later:
                    assert root.rows() == rows
            found = root.ingest(day)
            assert found.spans == spans.listed(root.folder).spans and root.numbers() == list(range(2 + int(is_later)))
            left = {path.name for path in root.folder.iterdir()} - {"spans.json", ".lock"}
            assert left == {f"span-{number}" for number in root.numbers()}
    return came_through


def test_an_ingest_killed_anywhere_leaves_the_old_spans_or_the_new_ones(tmp_path):
    kill_ingests(tmp_path, kills=5, seed=3)


@pytest.mark.slow
def test_fifty_killed_ingests_leave_the_old_spans_or_the_new_ones(tmp_path):
    came_through = kill_ingests(tmp_path, kills=50, seed=11)
    assert 0 < came_through < 50


def test_spans_json_is_plain(root):
    root.ingest(root.file("day1.csv", DAY))
    listed = json.loads((root.folder / "spans.json").read_text())
    assert [span["num_rows"] for span in listed["spans"]][1] == 4
    assert listed["spans"][1]["sources"] == [{"file": "day1.csv", "lines_before": 0}]
