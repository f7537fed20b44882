"""Names of the served models, their signatures and tensors, and their limits. Standard library only.

A signature is a public API: whoever changes this file changes what every client sends.
B requests in a batch, H history rows, S seen movies, E exclusions, M movies to rank.
"""

RETRIEVAL = "retrieval"
RANKING = "ranking"
BOTH = "both"
"""Optional: retrieval and ranking in one graph, for one call instead of two."""
MODELS = (RANKING, RETRIEVAL)
"""In the order they are pushed: retrieval's answers must find a ranking model that knows their movies."""
SERVED = (*MODELS, BOTH)
"""Everything a server may hold, in the order it is pushed."""

# Signatures.
RECOMMEND = "recommend"
"""user_id [B], exclude_movie_id [B, E], k [B] -> movie_id, movie_title, score [B, max k]. State: the snapshot."""
RECOMMEND_FILTERED = "recommend_filtered"
"""RECOMMEND's inputs and genre [B, G], min_year [B], max_year [B] -> as RECOMMEND, of the movies alone that have one of
the genres and were released from min_year to max_year, both included. No genre but "", and 0 for a year: no filter by
it. A movie without a known year passes no bound."""
RECOMMEND_FOR_HISTORY = "recommend_for_history"
"""user_id [B], history_movie_id, history_rating and history_timestamp [B, H] oldest first, query_timestamp [B],
seen_movie_id [B, S], exclude_movie_id [B, E], k [B] -> as RECOMMEND. State: the caller's; of what is stored only the
user's facts are used (age group, gender, occupation)."""
RECOMMEND_FILTERED_FOR_HISTORY = "recommend_filtered_for_history"
"""RECOMMEND_FOR_HISTORY's inputs and genre, min_year, max_year as in RECOMMEND_FILTERED -> as RECOMMEND."""
SERVING_DEFAULT = "serving_default"
"""examples: serialized tf.Examples [B]. Retrieval: as RECOMMEND with k = DEFAULT_K, or, where an example brings a
history, as RECOMMEND_FOR_HISTORY with that history as the seen movies; facts of the user that it brings come before
the stored ones. Ranking: stars [B, 1] of the example's
user, movie and history, never of the snapshot."""
SIMILAR = "similar"
"""movie_id [B], k [B] -> as RECOMMEND: the candidates nearest by cosine, the movie itself left out."""
POPULAR = "popular"
"""k [B] -> as RECOMMEND: the movies with most fit rows; what anyone may be shown. score: the number of fit rows."""
EVALUATE = "evaluate"
"""RECOMMEND_FOR_HISTORY's inputs but k, and positive_movie_id [B, P] ("" pads) -> rank int32 [B, P]: 1 is best, over
the whole catalog less seen and excluded; 0 for padding and for what is masked or not in the catalog."""
EMBED_QUERY = "embed_query"
"""user_id [B], history_* [B, H], query_timestamp [B] -> embedding float32 [B, D]."""
EMBED_CANDIDATE = "embed_candidate"
"""movie_id [B] -> embedding float32 [B, D]; zeros for a movie that is not in the catalog."""
RANK = "rank"
"""user_id [B], movie_id [B, M] ("" pads) -> stars float32 [B, M]. State: the stored snapshot."""
RANK_FOR_HISTORY = "rank_for_history"
"""user_id [B], history_* [B, H], query_timestamp [B], movie_id [B, M] -> stars float32 [B, M]. State: the caller's."""

RETRIEVAL_SIGNATURES = (
    SERVING_DEFAULT, RECOMMEND, RECOMMEND_FILTERED, RECOMMEND_FOR_HISTORY, RECOMMEND_FILTERED_FOR_HISTORY, SIMILAR,
    POPULAR, EVALUATE, EMBED_QUERY, EMBED_CANDIDATE,
)
RANKING_SIGNATURES = (SERVING_DEFAULT, RANK, RANK_FOR_HISTORY, POPULAR)
BOTH_SIGNATURES = (
    RECOMMEND, RECOMMEND_FILTERED, RECOMMEND_FOR_HISTORY, RECOMMEND_FILTERED_FOR_HISTORY, POPULAR,
)
"""As retrieval's, in retrieval's order; all but POPULAR answer with stars [B, max k] too, 0 where movie_id is ""."""

# Tensors in.
EXAMPLES = "examples"
USER_ID = "user_id"  # string
HISTORY_MOVIE_ID = "history_movie_id"  # string, "" pads
HISTORY_RATING = "history_rating"  # float32, stars
HISTORY_TIMESTAMP = "history_timestamp"  # int64, seconds since 1970-01-01 UTC
QUERY_TIMESTAMP = "query_timestamp"  # int64, seconds since 1970-01-01 UTC
SEEN_MOVIE_ID = "seen_movie_id"  # string, "" pads
EXCLUDE_MOVIE_ID = "exclude_movie_id"  # string, "" pads
POSITIVE_MOVIE_ID = "positive_movie_id"  # string, "" pads
GENRE = "genre"  # string, as the catalog writes it, "" pads
MIN_YEAR = "min_year"  # int32, of release; 0: no bound
MAX_YEAR = "max_year"  # int32, of release; 0: no bound
K = "k"  # int32

# Tensors in and out.
MOVIE_ID = "movie_id"  # string, "" pads

# Tensors out.
MOVIE_TITLE = "movie_title"  # string, "" pads
SCORE = "score"  # float32, no unit, -inf pads
STARS = "stars"  # float32, the edition's range
RANK_OUT = "rank"  # int32, 1 is best
EMBEDDING = "embedding"  # float32

DEFAULT_K = 10

# Limits, asserted in the graph: a stock server checks no shapes.
MAX_BATCH = 1024
MAX_K = 1000
MAX_HISTORY = 10_000
MAX_EXCLUDE = 10_000
MAX_GENRES = 100
MAX_RANK = 1000
