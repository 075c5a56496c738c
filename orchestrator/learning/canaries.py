"""The canary of a model that the learner writes (`orchestrator.records.canary`): what it is asked, and what the learner answers.

Cases are texts of the model's own work: held-out episodes of a policy, the examples of a lesson. The canary goes wherever the model
goes, so that of sources that forbid passing their texts on it takes none; then the cases are a few sentences of this file.
"""

from __future__ import annotations

import itertools
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
from orchestrator.values import Message

if TYPE_CHECKING:
    from orchestrator.config.schema import ModelConfig
    from orchestrator.learning.engine import Engine
    from orchestrator.learning.lessons import Kind

CASES = 4
FEWEST, LONGEST = 16, 64
"""Tokens of a completion that are asked about, where the context has room for them."""
PLAIN = (("Is snow white?", "Yes."), ("Name a colour.", "Blue"), ("What is 1 + 1?", "2"), ("Please say no.", "No."))
"""Questions and answers of nobody in particular."""


def played_cases(folder: RunFolder, tokenizer: Any, model: ModelConfig) -> list[Case]:
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
    longest = [next(same) for _, same in itertools.groupby(usable, key=lambda row: row["prompt_ids"])]
    chosen = _differing(
        _case(json.loads(row["prompt"]), row["prompt_ids"], row["completion_ids"], model) for row in longest
    )
    # A turn after others, or of an environment that words the task otherwise, renders from messages that are not known here.
    known = [case.messages and rendered(tokenizer, case.messages, model.thinking) == case.prompt_ids for case in chosen]
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
            whole = Case(branch.messages, prompt, target)
            yield whole if kind.classes_of else _case(branch.messages, prompt, target, model)

    return _differing(cases())


def plain_cases(tokenizer: Any, model: ModelConfig) -> list[Case]:
    """Cases without their numbers, of sentences that anybody may pass on."""
    cases: list[Case] = []
    for question, answer in PLAIN:
        messages = ({"role": "user", "content": question},)
        answered = tokenizer(answer, add_special_tokens=False)["input_ids"]
        cases.append(_case(messages, rendered(tokenizer, messages, model.thinking), answered, model))
    return _differing(cases)


def _case(messages: Sequence[Message], prompt: Sequence[int], completion: Sequence[int], model: ModelConfig) -> Case:
    """A completion that is cut, or is followed by the beginning of the prompt once more.

    Of a word that it is sure of, a judge says log p = 0, and so does many another judge. The context keeps room for a token more,
    since a server that is asked about given tokens wants to generate one.
    """
    room = model.context_tokens - len(prompt) - 1
    padded = (*completion, *prompt[: max(0, FEWEST - len(completion))])
    return Case(tuple(messages), tuple(prompt), padded[: max(0, min(LONGEST, room))])


def _differing(cases: Iterable[Case]) -> list[Case]:
    """The first few that ask anything and do not ask the same."""
    chosen: dict[tuple[int, ...], Case] = {}
    for case in cases:
        if len(chosen) == CASES:
            break
        if case.completion_ids:
            chosen.setdefault(case.prompt_ids + case.completion_ids, case)
    return list(chosen.values())


def canary_of(
    engine: Engine,
    cases: Sequence[Case],
    tokenizer: Any,
    model: ModelConfig,
    *,
    rank: int,
    pad_id: int,
    tokens: int,
    sequences: bool = False,
) -> Canary:
    """The cases, or `plain_cases` where there are none, with the numbers of the engine's weights: one forward pass without gradients,
    which draws no random number.

    Collective. tokens: of a microbatch. sequences: whether the model scores whole texts with a head (`learning.head`).

    Of weights with adapters, W x + B A x is computed and W + B A is saved: in float32 they differ by rounding, far below the bound
    of `serving.parity`; in bfloat16 the sum is rounded once more, as much as each layer's result is anyway.
    """
    cases = cases or plain_cases(tokenizer, model)
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
    return Canary(model.dtype, model.thinking, tuple(answered), *digests_of(tokenizer))
