"""The graph's top k against NumPy's, on anything."""

import hypothesis
import hypothesis.extra.numpy as hnp
import numpy as np
from hypothesis import strategies as st

from trainer_modules import top_k as t


@st.composite
def questions(draw):
    num_queries, num_candidates = draw(st.integers(1, 4)), draw(st.integers(1, 12))
    # Few distinct scores: ties have to come out alike.
    few = st.sampled_from([-1.0, 0.0, 0.5, 2.0])
    scores = draw(hnp.arrays(np.float32, (num_queries, num_candidates), elements=few))
    positions = st.integers(-1, num_candidates - 1)
    hidden = draw(hnp.arrays(np.int32, (num_queries, draw(st.integers(1, 5))), elements=positions))
    k = draw(hnp.arrays(np.int32, num_queries, elements=st.integers(1, 15)))
    return scores, hidden, k


@hypothesis.settings(deadline=None, max_examples=150)
@hypothesis.given(questions())
def test_tensorflow_and_numpy_agree(question):
    scores, hidden, k = question
    masked = t.mask(scores, hidden)
    np.testing.assert_array_equal(masked, t.mask_numpy(scores, hidden))
    found, expected = t.top_k(masked, k), t.top_k_numpy(np.asarray(masked), k)
    np.testing.assert_array_equal(found.position, expected.position)
    np.testing.assert_array_equal(found.score, expected.score)


@hypothesis.settings(deadline=None, max_examples=100)
@hypothesis.given(questions())
def test_the_answer_is_what_was_asked_for(question):
    scores, hidden, k = question
    found = t.top_k_numpy(t.mask_numpy(scores, hidden), k)
    assert found.position.shape == (len(k), k.max())
    for row in range(len(k)):
        shown = found.position[row][found.position[row] >= 0]
        allowed = set(range(scores.shape[1])) - set(hidden[row])
        assert len(shown) == min(k[row], len(allowed))
        assert set(shown) <= allowed and len(set(shown)) == len(shown)
        left_out = allowed - set(shown)
        assert not left_out or scores[row, shown].min() >= scores[row, list(left_out)].max()
        order = [(-scores[row, position], position) for position in shown]
        assert order == sorted(order), "equal scores: the lower position first"


@hypothesis.settings(deadline=None, max_examples=100)
@hypothesis.given(questions())
def test_ranks_are_places_in_the_list(question):
    scores, hidden, _ = question
    masked = t.mask_numpy(scores, hidden)
    everything = np.tile(np.arange(scores.shape[1], dtype=np.int32), (len(scores), 1))
    rank = t.ranks(masked, everything).numpy()
    order = t.top_k_numpy(masked, np.full(len(scores), scores.shape[1])).position
    for row in range(len(scores)):
        for place, position in enumerate(order[row], start=1):
            if position >= 0:
                assert rank[row, position] == place
        assert (rank[row, list(set(hidden[row]) - {-1})] == 0).all()
    assert (t.ranks(masked, np.full((len(scores), 1), -1, np.int32)).numpy() == 0).all()
