"""Texts as unit vectors: by their words, which needs nothing, or by a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from threadpoolctl import threadpool_limits

from orchestrator.config.references import ModelReference, resolve
from orchestrator.errors import ConfigError

WORDS = "words"
TERMS = 20_000
"""Words and pairs of neighbours that count: the most frequent ones."""
DIMENSIONS = 128


@dataclass(frozen=True, slots=True)
class Embedded:
    """vectors: [texts, D], float64, of length 1; equal texts have equal ones. facts: what is worth knowing of how they came about."""

    vectors: np.ndarray
    facts: Mapping[str, Any]


def embed(texts: Sequence[str], what: str, storage: Path, seed: int) -> Embedded:
    """Embed texts, none of which is blank. what: `words`, or a model: hf:ID, path:FOLDER, run:NAME@STEP.

    How often a text is there does not move the space, nor does the order of texts. Raises ConfigError for what cannot embed.
    """
    distinct = sorted(set(texts))
    found = _by_words(distinct, seed) if what == WORDS else _by_model(distinct, what, storage)
    number = {text: place for place, text in enumerate(distinct)}
    return Embedded(found.vectors[[number[text] for text in texts]], {"embed": what, **found.facts})


def _by_words(texts: Sequence[str], seed: int) -> Embedded:
    """TF-IDF of words and pairs of neighbours, reduced by a truncated SVD of all texts together (latent semantic analysis).

    Signs count as words: of a calculation they say most. A text without any of the terms has a dimension of its own.
    """
    terms = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"\w+|[^\w\s]", max_features=TERMS, sublinear_tf=True)
    # One thread: sums in another order would be another map.
    with threadpool_limits(1):
        matrix = terms.fit_transform(texts)
        reduced: np.ndarray = matrix.toarray() if matrix.shape[1] <= DIMENSIONS else _reduced(matrix, seed)
    lengths = np.linalg.norm(reduced, axis=1, keepdims=True)
    unknown = lengths < 1e-9
    vectors = np.hstack([np.where(unknown, 0, reduced / np.where(unknown, 1, lengths)), unknown])
    facts = {
        "terms": matrix.shape[1],
        "dimensions": reduced.shape[1],
        "variance_kept": float(np.sum(reduced**2) / matrix.multiply(matrix).sum()),
    }
    return Embedded(vectors, facts)


def _reduced(matrix: Any, seed: int) -> np.ndarray:
    components = max(1, min(DIMENSIONS, matrix.shape[0] - 1))
    return np.asarray(TruncatedSVD(components, random_state=seed).fit_transform(matrix))


def _by_model(texts: Sequence[str], what: str, storage: Path) -> Embedded:
    try:
        reference = ModelReference.parse(what)
    except ConfigError:
        reference = None
    if reference is None or reference.kind in ("mini", "url"):
        raise ConfigError(f"--embed {what}: write {WORDS}, hf:ID, path:FOLDER or run:NAME@STEP.")
    from orchestrator.learning.embedding import mean_pooled

    pooled = mean_pooled(str(resolve(reference, storage)), texts)
    facts = {
        "dimensions": pooled.vectors.shape[1],
        "longest": pooled.longest,
        "cut_texts": pooled.cut,
        "device": pooled.device,
    }
    return Embedded(pooled.vectors.astype(np.float64), facts)
