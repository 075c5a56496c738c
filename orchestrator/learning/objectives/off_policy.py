"""Weights that correct for answers of older weights: pi / mu, the learner's policy before the update over the one that sampled.

The ratio can be huge where a token became likely since, so each form bounds it. A weight multiplies the token's loss and has no
gradient; where both policies agree it is 1.
"""

from __future__ import annotations

import torch


def correction(form: str, log_ratio_T: torch.Tensor, episode_T: torch.Tensor, bound: float) -> torch.Tensor:
    """Weights of all tokens, [T]. log_ratio_T: log pi - log mu. episode_T: index of the token's episode. bound: above 1.

    "token_truncate": min(ratio, bound) a token (truncated importance sampling, arXiv 1802.01561 eq. 1 without the trace).
    "sequence_truncate": min(product of the episode's ratios, bound).
    "token_mask": 1 where 1/bound <= ratio <= bound, else 0.
    "sequence_mask": 1 where the geometric mean of the episode's ratios lies in the same range, else 0.
    "none": 1.
    """
    if form == "none":
        return torch.ones_like(log_ratio_T)
    log_bound = torch.tensor(bound, dtype=log_ratio_T.dtype).log()
    if form.startswith("sequence"):
        log_ratio_T = _of_episodes(log_ratio_T, episode_T, mean=form == "sequence_mask")
    if form.endswith("truncate"):
        return log_ratio_T.clamp_max(log_bound).exp()
    return (log_ratio_T.abs() <= log_bound).to(log_ratio_T)


def _of_episodes(values_T: torch.Tensor, episode_T: torch.Tensor, mean: bool) -> torch.Tensor:
    """The sum (or mean) over the whole episode, at each of its tokens."""
    _, index_T, tokens_E = episode_T.unique(return_inverse=True, return_counts=True)
    sums_E = torch.zeros(len(tokens_E), dtype=values_T.dtype).index_add(0, index_T, values_T)
    return (sums_E / tokens_E if mean else sums_E)[index_T]
