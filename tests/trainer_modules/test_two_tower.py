"""The two-tower by itself: its loss against NumPy, what a query may know, what training may not touch."""

import dataclasses

import numpy as np
import pytest
import scipy.special

from trainer_modules import features as f
from trainer_modules import inputs, two_tower
from trainer_modules.hyperparameters import TwoTower
from trainer_modules.training import compiled_step

import tensorflow as tf  # isort: skip  (after trainer_modules: they choose the Keras)

N, T = 12, 3
SMALL = TwoTower(embedding_dimension=4, hidden_units=6, targets_per_block=T)
SMOOTHING = SMALL.label_smoothing


@pytest.fixture(scope="module")
def catalog():
    """Movies 0 to 9 have rows. Movies 10 and 11 have none: 10 is like movie 0 in all but its id, 11 like nothing."""
    genres = np.zeros((N, 5), np.float32)
    genres[np.arange(N), 2 + np.arange(N) % 2] = 1
    genres[3, 4] = 1
    genres[11] = 0
    year = 2 + np.arange(N) % 5
    words = [[2, 3 + n] for n in range(10)] + [[2, 3], []]
    return inputs.Catalog(
        movie_id=np.array([f"m{n}" for n in range(N)], object), movie_title=np.array(["T"] * N, object),
        movie_index=np.array([2 + n for n in range(10)] + [f.OOV_INDEX] * 2), year_index=year, genres=genres,
        genre_name=np.array([], object), genre_row_splits=np.zeros(N + 1, np.int64),
        word_index=np.array([w for title in words for w in title]),
        word_row_splits=np.concatenate([[0], np.cumsum([len(title) for title in words])]),
    )  # fmt: skip


NUM_ROWS = np.array([9, 1, 4, 4, 2, 2, 2, 2, 1, 1, 0, 0])


def make(catalog, **changes):
    """A model with every weight away from where it starts."""
    tf.keras.utils.set_random_seed(3)
    features = two_tower.CandidateFeatures.of(catalog, NUM_ROWS > 0)
    model = two_tower.TwoTowerModel(dataclasses.replace(SMALL, **changes), features, NUM_ROWS, 7, 12)
    random = np.random.default_rng(5)
    for weight in model.trainable_variables:
        weight.assign(random.normal(0, 0.5, weight.shape))
    return model


@pytest.fixture(scope="module")
def model(catalog):
    return make(catalog)


@pytest.fixture
def batch():
    random = np.random.default_rng(1)
    width = f.HISTORY_LENGTH + T - 1
    position = random.integers(0, N, (2, width)).astype(np.int32)
    position[0, : f.HISTORY_LENGTH] = -1  # the first row of its user: an empty history
    timestamp = np.where(position >= 0, np.sort(random.integers(0, 10**9, (2, width)), axis=1), 0)
    target = np.array([[position[0, -2], position[0, -1], 4], [7, 7, -1]], np.int32)
    features = {
        "user_index": np.array([1, 3]), "position": position, "timestamp": timestamp, "target_position": target,
    }  # fmt: skip
    return {name: tf.constant(value) for name, value in features.items()}


def test_side_features_are_what_the_catalog_says(catalog):
    features = two_tower.CandidateFeatures.of(catalog, NUM_ROWS > 0)
    side = tf.sparse.to_dense(features.side).numpy()
    assert side.shape == (N, 5 + f.NUM_YEAR_INDICES + 2)  # two words are in more than one title
    np.testing.assert_allclose(np.sort(side[3, :5])[-2:], 2**-0.5)  # two genres
    assert side[0, 5 + catalog.year_index[0]] == 1.0
    np.testing.assert_allclose(side[0, -2:], 0.5)  # two shared words
    np.testing.assert_allclose(side[1, -2:], [1.0, 0.0])  # its second word is in no other title
    assert side[11].sum() == 1.0  # its year
    assert features.movie_index[10:].tolist() == [f.OOV_INDEX] * 2


def test_a_movie_without_rows_lives_from_its_facts(model, catalog):
    vectors = model.candidate_tower.vectors().numpy()
    side = tf.sparse.to_dense(two_tower.CandidateFeatures.of(catalog, NUM_ROWS > 0).side).numpy()
    tower = model.candidate_tower
    by_hand = tower.embedding.numpy()[f.OOV_INDEX] + side[10] @ tower.side_kernel.numpy()
    np.testing.assert_allclose(vectors[10], by_hand, rtol=1e-5)
    assert np.abs(vectors[10] - vectors[11]).max() > 0.1


def test_query_by_hand(model, batch):
    """Weighted mean of the history by place and age, linear layer, network, user: all of it once more in NumPy."""
    vectors = model.candidate_tower.vectors()
    result = model.queries(vectors, batch["user_index"], batch["position"], batch["timestamp"], T).numpy()
    tower = {name: value.numpy() for name, value in vars(model.query_tower).items() if isinstance(value, tf.Variable)}
    for block in range(2):
        for t in range(T):
            rows = np.arange(t, t + f.HISTORY_LENGTH)
            position, time = batch["position"].numpy()[block, rows], batch["timestamp"].numpy()[block, rows]
            known = position >= 0
            heads = []
            for head in range(SMALL.num_heads):
                if not known.any():
                    heads.append(np.zeros(4))
                    continue
                age = np.floor(np.log2(1.0 + time[known].max() - time[known])).astype(int)
                logit = tower["place_weight"][head][known] + tower["age_weight"][head][age]
                heads.append(scipy.special.softmax(logit) @ vectors.numpy()[position[known]])
            mean = np.concatenate(heads) @ tower["linear_kernel"] + tower["linear_bias"]
            x = mean @ tower["hidden_kernel"] + tower["hidden_bias"]
            gelu = x * scipy.special.ndtr(x)
            query = mean + gelu @ tower["output_kernel"] + tower["output_bias"]
            query += tower["user_embedding"][batch["user_index"].numpy()[block]]
            np.testing.assert_allclose(result[block, t], query, rtol=1e-4, atol=1e-5)


def test_a_query_knows_nothing_of_its_target_nor_of_later_rows(model, batch):
    vectors = model.candidate_tower.vectors()
    changed = batch["position"].numpy().copy()
    changed[1, f.HISTORY_LENGTH] = (changed[1, f.HISTORY_LENGTH] + 1) % N  # the first target
    before, after = (
        model.queries(vectors, batch["user_index"], position, batch["timestamp"], T).numpy()
        for position in (batch["position"], changed)
    )
    np.testing.assert_array_equal(before[1, 0], after[1, 0])
    assert np.abs(before[1, 1] - after[1, 1]).max() > 1e-3
    np.testing.assert_array_equal(before[0], after[0])


def test_one_query_per_user_is_the_last_of_a_block(model, batch):
    vectors = model.candidate_tower.vectors()
    block = model.queries(vectors, batch["user_index"], batch["position"], batch["timestamp"], T).numpy()
    alone = model.queries(
        vectors, batch["user_index"], batch["position"][:, -f.HISTORY_LENGTH :], batch["timestamp"][:, T - 1 :]
    ).numpy()
    np.testing.assert_allclose(block[:, -1], alone[:, 0], rtol=1e-5)


def test_lists_and_numpy_are_taken_where_tensors_are_wanted(model, batch):
    vectors = model.candidate_tower.vectors()
    arguments = [batch["user_index"], batch["position"][:, : f.HISTORY_LENGTH], batch["timestamp"][:, :50]]
    expected = model.queries(vectors, *arguments).numpy()
    np.testing.assert_array_equal(model.queries(vectors, *(a.numpy() for a in arguments)).numpy(), expected)
    np.testing.assert_array_equal(model.queries(vectors, *(a.numpy().tolist() for a in arguments)).numpy(), expected)


def test_loss_is_cross_entropy_over_the_whole_catalog(model, batch):
    vectors = model.candidate_tower.vectors()
    query = model.queries(vectors, batch["user_index"], batch["position"], batch["timestamp"], T).numpy()
    log_share = scipy.special.log_softmax(query.reshape(-1, 4) @ vectors.numpy().T, axis=1)
    target = batch["target_position"].numpy().ravel()
    smoothed = [
        (1 - SMOOTHING) * log_share[n, movie] + SMOOTHING * log_share[n].mean()
        for n, movie in enumerate(target)
        if movie >= 0
    ]
    assert model.compute_loss(batch).numpy() == pytest.approx(-np.mean(smoothed), rel=1e-4)


def test_sampled_loss_corrects_for_how_probable_a_negative_is(catalog, batch, monkeypatch):
    """The target as it is, each other sampled movie as often as drawn, divided by how often that was to be expected."""
    model = make(catalog, num_negatives=6, label_smoothing=0.0)
    sample = np.array([0, 0, 4, 7, 9, 11])
    probability = 0.5 / N + 0.5 * NUM_ROWS / NUM_ROWS.sum()
    expected_count = 6 * probability[sample]
    drawn = tf.constant(sample, tf.int32), tf.constant(expected_count, tf.float32)
    monkeypatch.setattr(model, "_negatives", lambda: drawn)
    vectors = model.candidate_tower.vectors()
    query = model.queries(vectors, batch["user_index"], batch["position"], batch["timestamp"], T).numpy().reshape(-1, 4)
    losses = []
    for q, movie in zip(query, batch["target_position"].numpy().ravel(), strict=True):
        if movie >= 0:
            own = q @ vectors.numpy()[movie]
            others = [
                q @ vectors.numpy()[n] - np.log(c) for n, c in zip(sample, expected_count, strict=True) if n != movie
            ]
            losses.append(scipy.special.logsumexp([own, *others]) - own)
    assert model.compute_loss(batch).numpy() == pytest.approx(np.mean(losses), rel=1e-4)


def test_a_samples_smoothing_is_the_catalogs_on_average(catalog, batch, monkeypatch):
    """Two draws that together hold each movie as often as expected: the mean of their extra terms is the whole one."""
    extra = []
    for sample in (range(N), range(6), range(6, N)):
        sample = np.array(sample)
        drawn = tf.constant(sample, tf.int32), tf.fill([len(sample)], 1.0 if len(sample) == N else 0.5)
        losses = []
        for smoothing in (0.0, 0.3):
            model = make(catalog, num_negatives=N - 1, label_smoothing=smoothing)
            monkeypatch.setattr(model, "_negatives", lambda drawn=drawn: drawn)
            losses.append(float(model.compute_loss(batch)))
        extra.append(losses[1] - losses[0])
    assert np.mean(extra[1:]) == pytest.approx(extra[0], rel=1e-3)


def test_a_common_movie_expected_more_than_once_is_corrected_in_full(catalog, batch, monkeypatch):
    """The task itself cuts expected counts off at 1: then the loss would not change here."""
    model = make(catalog, num_negatives=N - 1)
    losses = []
    for count in (1.0, 4.0):
        drawn = tf.range(N), tf.constant([count] + [1.0] * (N - 1), tf.float32)
        monkeypatch.setattr(model, "_negatives", lambda drawn=drawn: drawn)
        losses.append(float(model.compute_loss(batch)))
    assert losses[1] < losses[0] - 1e-3


def test_a_sample_of_every_movie_gives_the_loss_and_the_gradients_of_the_whole_catalog(
    model, catalog, batch, monkeypatch
):
    sampled = make(catalog, num_negatives=N - 1)
    monkeypatch.setattr(sampled, "_negatives", lambda: (tf.range(N), tf.ones([N])))
    found = []
    for each in (model, sampled):
        with tf.GradientTape() as tape:
            loss = each.compute_loss(batch)
        found.append([loss, *map(tf.convert_to_tensor, tape.gradient(loss, each.trainable_variables))])
    for whole, of_sample in zip(*found, strict=True):
        np.testing.assert_allclose(whole, of_sample, rtol=1e-3, atol=1e-6)


def test_negatives_are_drawn_as_often_as_they_say(catalog):
    model = make(catalog, num_negatives=11)
    draws = [model._negatives() for _ in range(300)]
    counts = np.bincount(np.concatenate([sample.numpy() for sample, _ in draws]), minlength=N) / len(draws)
    said = np.zeros(N)
    for sample, expected in draws:
        said[sample.numpy()] = expected.numpy()
    np.testing.assert_allclose(counts, said, atol=0.25)
    assert said.sum() == pytest.approx(11)


def test_compute_loss_leaves_its_features_as_they_are(model, batch):
    before = {name: value.numpy().copy() for name, value in batch.items()}
    model.compute_loss(batch, training=True)
    assert set(batch) == set(before)
    for name, value in before.items():
        np.testing.assert_array_equal(batch[name].numpy(), value)


def test_dropped_user_ids_train_the_unknown_users_vector(catalog, batch):
    batch["user_index"] = tf.constant([3, 3], tf.int64)
    for dropout, trains_unknown in ((0.0, False), (1.0, True)):
        model = make(catalog, user_id_dropout=dropout)
        with tf.GradientTape() as tape:
            loss = model.compute_loss(batch, training=True)
        gradient = tf.convert_to_tensor(tape.gradient(loss, model.query_tower.user_embedding)).numpy()
        assert (np.abs(gradient[f.OOV_INDEX]).max() > 0) == trains_unknown
        assert (np.abs(gradient[3]).max() > 0) != trains_unknown


def test_a_step_lowers_the_loss_and_needs_no_autograph(catalog, batch):
    model = make(catalog, dropout=0.0, user_id_dropout=0.0, movie_id_dropout=0.0)
    model.compile(optimizer=tf.keras.optimizers.Adam(0.05))
    step = compiled_step(model)
    losses = [float(step(batch)["loss"]) for _ in range(15)]
    assert losses[-1] < 0.5 * losses[0]


def test_weight_decay_is_for_embeddings_alone(model):
    names = {weight.name.split(":")[0] for weight in model.trainable_variables}
    unshrunk = {weight.name.split(":")[0] for weight in model.unshrunk_weights()}
    assert names - unshrunk == {"movie_embedding", "side_kernel", "user_embedding"}
