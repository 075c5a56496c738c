"""The canary of a model that the learner writes (`orchestrator.records.canary`): what it is asked, and what the learner answers.

Cases are texts of the model's own work: held-out episodes of a policy, the examples of a lesson. The canary goes wherever the model
goes, so that of sources that forbid passing their texts on it takes none; then the cases are a few sentences of this file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from orchestrator.learning.rows import Row, pack
from orchestrator.learning.teaching import tokenised
from orchestrator.records import episodes
from orchestrator.records.canary import Canary, Case, digests_of, rendered
from orchestrator.records.folder import RunFolder

if TYPE_CHECKING:
    from orchestrator.config.schema import ModelConfig
    from orchestrator.learning.engine import Engine
    from orchestrator.learning.lessons import Kind

CASES = 4
LONGEST = 64
"""Tokens of a completion that are asked about."""
PLAIN = (("Is snow white?", "Yes."), ("Name a colour.", "Blue"), ("What is 1 + 1?", "2"), ("Say no.", "No."))
"""Questions and answers of nobody in particular."""


def played_cases(folder: RunFolder, tokenizer: Any, thinking: bool) -> list[Case]:
    """Cases without their numbers: last turns of the policy in the newest held-out episodes, in the newest training episodes where
    there are none. The same of the same files.

    The shortest prompts, and to each the longest completion: one of a single token would prove little.
    """
    parts = episodes.parts(folder)
    newest = [part for part in parts if part[0] == "eval"][-1:] or parts[-1:]
    columns = ["id", "prompt", "restricted", "prompt_ids", "completion_ids"]
    rows = [row for split, step in newest for row in episodes.read(folder, split, [step], columns).to_pylist()]
    usable = [row for row in rows if not row["restricted"] and row["prompt_ids"] and row["completion_ids"]]
    usable.sort(key=lambda row: (len(row["prompt_ids"]), row["prompt_ids"], -len(row["completion_ids"]), row["id"]))
    cases = (Case(tuple(json.loads(row["prompt"])), *_ids(row["prompt_ids"], row["completion_ids"])) for row in usable)
    chosen = _differing(cases)
    # A turn after others, or of an environment that words the task otherwise, renders from messages that are not known here.
    known = [case.messages and rendered(tokenizer, case.messages, thinking) == case.prompt_ids for case in chosen]
    return [case if same else replace(case, messages=None) for case, same in zip(chosen, known, strict=True)]


def taught_cases(
    examples: Iterable[Any], kind: Kind, tokenizer: Any, end_token: bool, model: ModelConfig
) -> list[Case]:
    """Cases without their numbers: the first examples of a lesson, of each its first branch."""

    def cases() -> Iterable[Case]:
        for example in examples:
            branch = kind.first_branch(example)
            (prompt,), (target,) = tokenised(example.group, [branch], tokenizer, end_token, model)
            # A head reads the last token of the whole text.
            yield (
                Case(branch.messages, prompt, target)
                if kind.classes_of
                else Case(branch.messages, *_ids(prompt, target))
            )

    return _differing(cases())


def plain_cases(tokenizer: Any, thinking: bool) -> list[Case]:
    """Cases without their numbers, of sentences that anybody may pass on."""
    cases = []
    for question, answer in PLAIN:
        messages = ({"role": "user", "content": question},)
        answered = tokenizer(answer, add_special_tokens=False)["input_ids"]
        cases.append(Case(messages, *_ids(rendered(tokenizer, messages, thinking), answered)))
    return cases


def _ids(prompt: Sequence[int], completion: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return tuple(prompt), tuple(completion[:LONGEST])


def _differing(cases: Iterable[Case]) -> list[Case]:
    """The first few that have prompts of their own."""
    chosen: dict[tuple[int, ...], Case] = {}
    for case in cases:
        if len(chosen) == CASES:
            break
        chosen.setdefault(case.prompt_ids, case)
    return list(chosen.values())


def canary_of(
    engine: Engine,
    cases: Sequence[Case],
    tokenizer: Any,
    *,
    dtype: str,
    thinking: bool,
    rank: int,
    pad_id: int,
    tokens: int,
    sequences: bool = False,
) -> Canary:
    """The cases with the numbers of the engine's weights: one forward pass without gradients, which draws no random number.

    Collective. tokens: of a microbatch. sequences: whether the model scores whole texts with a head (`learning.head`).

    Of weights with adapters, W x + B A x is computed and W + B A is saved: in float32 they differ by rounding, far below the bound
    of `serving.parity`; in bfloat16 the sum is rounded once more, as much as each layer's result is anyway.
    """
    # A head reads the state before its target, whose id is not looked at.
    asked = [(*case.completion_ids, 0) if sequences else case.completion_ids for case in cases]
    learned = [1 if sequences else len(ids) for ids in asked]
    rows = [Row(case.prompt_ids, (ids,), (n,)) for case, ids, n in zip(cases, asked, learned, strict=True)]
    scores = engine.score(pack(rows, rank, engine.ranks, tokens, pad_id), sum(learned))
    if sequences:
        by_case = torch.stack(tuple(scores), 1).tolist()
        answered = [replace(case, scores=tuple(found)) for case, found in zip(cases, by_case, strict=True)]
    else:
        split = scores.logprobs.split(learned)
        answered = [replace(case, logprobs=tuple(found.tolist())) for case, found in zip(cases, split, strict=True)]
    return Canary(dtype, thinking, tuple(answered), *digests_of(tokenizer))
