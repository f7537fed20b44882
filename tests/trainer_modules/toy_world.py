"""Small worlds and what the pipeline would make of them before a Trainer: artifacts on disk, without the pipeline.

    world = toy_world.checkerboard()
    artifacts = toy_world.write_artifacts(world, folder)
    run_fn(artifacts.fn_args(folder / "model", {"family": "two_tower", ...}))

The rows get the splits of leave_last_out, and each example what was known of its user before it.
"""

import csv
import dataclasses
import pathlib
import types

from trainer_modules import features as f  # isort: skip  (before TensorFlow: it chooses the Keras)

import apache_beam as beam
import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from apache_beam.options.pipeline_options import PipelineOptions
from tensorflow_transform.tf_metadata import dataset_metadata, schema_utils
from tfx_bsl.tfxio import tf_example_record

from components import example_batches, transformed_examples
from trainer_modules.inputs import parsing_spec
from trainer_modules.preprocessing import preprocessing_fn

DATA = pathlib.Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
"""Where real MovieLens copies lie beside a development checkout."""


NUM_STAR_USERS, NUM_STAR_MOVIES = 40, 20
COLD = ("m18", "m19")
"""In the catalog of checkerboard_of_stars, rated by nobody: an even and an odd one."""


@dataclasses.dataclass
class World:
    ratings: list  # of (user_id, movie_id, stars, timestamp), in the order of the file
    movies: dict  # movie_id -> (title, [genres])
    users: dict  # user_id -> {fact feature's name: value}; may be empty


@dataclasses.dataclass
class Artifacts:
    transform_graph: str
    transformed_examples: str
    catalog_uri: str
    user_state_uri: str
    examples: str

    @property
    def transform_output(self):
        return tft.TFTransformOutput(self.transform_graph)

    def transformed_files(self, split):
        return [f"{self.transformed_examples}/Split-{split}/*"]

    def fn_args(self, serving_model_dir, custom_config):
        """What run_fn is called with."""
        return types.SimpleNamespace(
            train_files=self.transformed_files("train"),
            eval_files=self.transformed_files("eval"),
            transform_output=self.transform_graph,
            transform_graph_path=self.transform_graph,
            catalog_uri=self.catalog_uri,
            user_state_uri=self.user_state_uri,
            serving_model_dir=str(serving_model_dir),
            model_run_dir=str(serving_model_dir) + "-run",
            custom_config=custom_config,
            hyperparameters=None,
            working_dir=str(serving_model_dir) + "-tmp",
        )


def checkerboard(num_users=40, num_movies=16):
    """Even users rate even movies, odd users odd ones: all of them, each user in another order.

    The last two of a user's rows are eval and test, so the one movie of the user's colour that the fit rows lack is
    the answer to the test query. What it knows: movie "m3" is odd and named "Movie odd 3 (1993)".
    """
    ratings, per_user = [], num_movies // 2
    for user in range(num_users):
        for row in range(per_user):
            movie = 2 * ((user // 2 * 3 + row) % per_user) + user % 2
            time = 880_000_000 + user * 500 + row * 3_600
            ratings.append((f"u{user}", f"m{movie}", float(3 + (user + row) % 3), time))
    colours = ("even", "odd")
    movies = {f"m{m}": (f"Movie {colours[m % 2]} {m} ({1990 + m})", [colours[m % 2]]) for m in range(num_movies)}
    facts = ({f.RAW_USER_AGE.name: 24.0, f.USER_GENDER.name: 0, f.USER_OCCUPATION_TEXT.name: "student"}, {})
    users = {f"u{u}": facts[u // 2 % 2] for u in range(num_users)}
    return World(ratings, movies, users)


def checkerboard_of_stars():
    """Even users give even movies five stars and odd movies one, odd users the reverse: on average all are alike."""
    random = np.random.default_rng(0)
    ratings = []
    for user in range(NUM_STAR_USERS):
        for row, movie in enumerate(random.permutation(NUM_STAR_MOVIES - len(COLD))[:14]):
            stars = 5.0 if movie % 2 == user % 2 else 1.0
            ratings.append((f"u{user}", f"m{movie}", stars, 880_000_000 + user * 500 + row * 3_600))
    colours = ("even", "odd")
    movies = {f"m{m}": (f"Movie {m} ({1990 + m})", [colours[m % 2]]) for m in range(NUM_STAR_MOVIES)}
    facts = {f.RAW_USER_AGE.name: 24.0, f.USER_GENDER.name: 0, f.USER_OCCUPATION_TEXT.name: "student"}
    return World(ratings, movies, {f"u{u}": facts if u % 3 else {} for u in range(NUM_STAR_USERS)})


def ml_100k(folder=DATA / "ml-100k"):
    genres = [line.split("|")[0] for line in (folder / "u.genre").read_text().splitlines() if line.strip()]
    movies, users = {}, {}
    for line in (folder / "u.item").read_text(encoding="latin-1").splitlines():
        movie, title, *rest = line.split("|")
        movies[movie] = (title, [g for g, flag in zip(genres, rest[3:], strict=True) if flag == "1"])
    for line in (folder / "u.user").read_text().splitlines():
        user, age, gender, occupation, zip_code = line.split("|")
        users[user] = {
            f.RAW_USER_AGE.name: float(age),
            f.USER_GENDER.name: int(gender == "M"),
            f.USER_OCCUPATION_TEXT.name: occupation,
            f.USER_ZIP_CODE.name: zip_code,
        }
    rows = (line.split("\t") for line in (folder / "u.data").read_text().splitlines())
    return World([(u, m, float(r), int(t)) for u, m, r, t in rows], movies, users)


def ml_latest_small(folder=DATA / "ml-latest-small"):
    with (folder / "movies.csv").open(encoding="utf-8") as file:
        movies = {row["movieId"]: (row["title"], row["genres"].split("|")) for row in csv.DictReader(file)}
    with (folder / "ratings.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    ratings = [(r["userId"], r["movieId"], float(r["rating"]), int(r["timestamp"])) for r in rows]
    return World(ratings, movies, {})


def leave_last_out(world):
    """user_id -> [(movie_id, stars, timestamp, line, split)], oldest first, the line breaking ties."""
    states = {}
    for line, (user, movie, stars, time) in enumerate(world.ratings, start=1):
        states.setdefault(user, []).append((movie, stars, time, line))
    for user, rows in states.items():
        rows.sort(key=lambda row: (row[2], row[3]))
        held_out = {1: [], 2: ["test"]}.get(len(rows), ["eval", "test"])
        splits = ["train"] * (len(rows) - len(held_out)) + held_out
        states[user] = [(*row, split) for row, split in zip(rows, splits, strict=True)]
    return states


def rating_examples(world):
    """split -> [tf.train.Example], each with what was known of its user before it."""
    examples = {split: [] for split in f.SPLITS}
    for user, rows in leave_last_out(world).items():
        facts = world.users.get(user, {})
        for n, (movie, stars, time, line, split) in enumerate(rows):
            past = rows[max(0, n - f.HISTORY_LENGTH) : n]
            pad = f.HISTORY_LENGTH - len(past)
            title, genres = world.movies[movie]
            values = {
                "user_id": user, "movie_id": movie, "movie_title": title, "movie_genres": genres,
                "user_rating": stars, "timestamp": time, "source_line": line, **facts,
                "history_movie_id": [""] * pad + [row[0] for row in past],
                "history_rating": [0.0] * pad + [row[1] for row in past],
                "history_timestamp": [0] * pad + [row[2] for row in past],
            }  # fmt: skip
            examples[split].append(example(values, f.RATING_EXAMPLE))
    return examples


def user_state_examples(world):
    """split -> [tf.train.Example], each user's rows of that split alone."""
    examples = {split: [] for split in f.SPLITS}
    states = leave_last_out(world)
    for user in {**states, **world.users}:
        for split in f.SPLITS:
            rows = [row for row in states.get(user, []) if row[4] == split]
            if rows or (split == f.TRAIN and user not in states):
                values = {
                    "user_id": user, **world.users.get(user, {}), "state_movie_id": [row[0] for row in rows],
                    "state_rating": [row[1] for row in rows], "state_timestamp": [row[2] for row in rows],
                }  # fmt: skip
                examples[split].append(example(values, f.USER_STATE_EXAMPLE))
    return examples


def catalog_examples(world):
    rows = ({"movie_id": m, "movie_title": t, "movie_genres": g} for m, (t, g) in world.movies.items())
    return {f.ALL: [example(values, f.CATALOG_EXAMPLE) for values in rows]}


def example(values, features):
    """A tf.train.Example of the given features; those without a value are absent."""
    result = tf.train.Example()
    for feature in features:
        if feature.name not in values:
            continue
        value = values[feature.name]
        value = value if isinstance(value, list) else [value]
        if feature.dtype == "string":
            result.features.feature[feature.name].bytes_list.value[:] = [v.encode() for v in value]
        elif feature.dtype == "int64":
            result.features.feature[feature.name].int64_list.value[:] = value
        else:
            result.features.feature[feature.name].float_list.value[:] = value
    return result


def write_examples(splits, uri):
    """Writes {split: [tf.train.Example]} as an Examples artifact."""
    for split, examples in splits.items():
        folder = pathlib.Path(uri) / f"Split-{split}"
        folder.mkdir(parents=True)
        path = str(folder / "data_tfrecord-00000-of-00001.gz")
        with tf.io.TFRecordWriter(path, tf.io.TFRecordOptions(compression_type="GZIP")) as writer:
            for row in examples:
                writer.write(row.SerializeToString())


def write_artifacts(world, folder, transform_graph=None):
    """Everything a Trainer is given, under a new folder. Transform analyses train + eval and transforms all three; a
    graph that is given is another world's, of the same users and movies."""
    folder = pathlib.Path(folder)
    uris = {name: str(folder / name) for name in ("examples", "catalog", "user_state", "transformed", "transform")}
    write_examples(rating_examples(world), uris["examples"])
    write_examples(catalog_examples(world), uris["catalog"])
    write_examples(user_state_examples(world), uris["user_state"])
    temporary = str(folder / "temporary")
    if transform_graph:
        apply(transform_graph, uris["examples"], uris["transformed"], temporary)
    else:
        transform(uris["examples"], uris["transform"], uris["transformed"], temporary)
    return Artifacts(
        transform_graph=transform_graph or uris["transform"], transformed_examples=uris["transformed"],
        catalog_uri=uris["catalog"], user_state_uri=uris["user_state"], examples=uris["examples"],
    )  # fmt: skip


def transform(examples_uri, transform_uri, transformed_uri, temporary, features=f.RATING_EXAMPLE):
    """Analyses the fit splits; transforms all three, unless transformed_uri is None. The pipeline's Transform does both
    in the same way, but that here no file is read in Beam, which would plan longer than it reads."""
    schema = schema_utils.schema_from_feature_spec(parsing_spec(features))
    files = [path for split in f.FIT_SPLITS for path in example_batches.paths(f"{examples_uri}/Split-{split}")]
    source = tf_example_record.TFExampleRecord(files, schema=schema, telemetry_descriptors=["test"])
    columns = sorted(features, key=lambda feature: source.ArrowSchema().names.index(feature.name))
    batches = [batch for path in files for batch in example_batches.read(path, columns, batch_rows=4096)]
    options = PipelineOptions(runner="apache_beam.runners.portability.fn_api_runner.FnApiRunner")
    with beam.Pipeline(options=options) as pipeline, tft_beam.Context(temp_dir=temporary):
        rows = pipeline | beam.Create(batches), source.TensorAdapterConfig()
        transform_fn = rows | tft_beam.AnalyzeDataset(preprocessing_fn)
        transform_fn | tft_beam.WriteTransformFn(transform_uri)
        metadata = dataset_metadata.DatasetMetadata(schema)
        metadata | tft_beam.WriteMetadata(f"{transform_uri}/metadata", pipeline=pipeline)
    if transformed_uri:
        apply(transform_uri, examples_uri, transformed_uri, temporary)


def apply(transform_uri, examples_uri, transformed_uri, temporary):
    """Transforms all splits."""
    pathlib.Path(temporary).mkdir(parents=True, exist_ok=True)
    transformation = transformed_examples.Transformation(tft.TFTransformOutput(transform_uri))
    for split in f.SPLITS:
        folder = pathlib.Path(transformed_uri) / f"Split-{split}"
        folder.mkdir(parents=True)
        for path in example_batches.paths(f"{examples_uri}/Split-{split}"):
            transformation.write(path, str(folder / pathlib.Path(path).name), temporary)
