"""The story of `orchestrate judge`: answers that are there already, a rubric, a judge; scores, and a row an answer.

file and rubric -> episodes of one turn -> the judge's fleet or URL -> verdicts -> table and rows
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from orchestrator.config.compose import compose
from orchestrator.config.schema import RunConfig
from orchestrator.config.workloads import find_workload
from orchestrator.data import TableConfig, answers_of, as_text, same_prompt, task_of
from orchestrator.data.tables import Row, read_rows
from orchestrator.errors import ConfigError, RunError
from orchestrator.fleets.alone import serving
from orchestrator.fleets.fleet import Answerer
from orchestrator.fleets.remote import RemoteFleet
from orchestrator.fleets.specs import specs_of
from orchestrator.learning.starting import TOKENISED, load_tokenizer, starting_model
from orchestrator.rollouts.judging import ask
from orchestrator.rollouts.rubric_files import QUESTION_TOKENS, RubricFile, read_rubric, with_rubric
from orchestrator.rollouts.rubrics import JUDGE, mass_of, rubric_of
from orchestrator.sweep.statistics import Interval, mean_interval
from orchestrator.values import POLICY, Answer, Episode, Fault, Scored, Task, Turn, Verdict

WORKLOAD = "rubric"
"""Whose settings, question and formula are used."""
RESPONSE = "response"
AT_ONCE = 64
"""Answers of a batch: a fleet's deadline is for one batch."""
OWN = "(criteria of single rows)"
KINDS = (".jsonl", ".parquet")


@dataclass(frozen=True, slots=True)
class Judgement:
    """One answer with what the judge said of it, a reply a criterion."""

    episode: Episode
    replies: Sequence[Answer]
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class CriterionRow:
    """met: share of the n scored answers that meet it. mass: mean P(yes) + P(no) of the judge's replies."""

    name: str
    weight: str
    n: int
    met: float
    mass: float


@dataclass(frozen=True, slots=True)
class Scores:
    """score: on the 0–1 scale of the official formula; reward: by reward.formula. Both over scored answers, with intervals over
    prompts (their `n`). unscored: answers that the judge failed on; reason: of the first. unreadable: scored answers that the
    judge refuses to read (too long for it) and that count in the worst way."""

    score: Interval
    reward: Interval
    answers: int
    unscored: int
    reason: str | None
    unreadable: int
    criteria: tuple[CriterionRow, ...]


def score_file(file: Path, rubric: Path, overrides: Sequence[str], out: Path | None = None) -> Scores:
    """Score the answers of a table (prompt or messages, and response or answer) and write a row an answer to `out`.

    overrides: settings of the workload `rubric`, such as judge=URL. Raises RunError naming what is wrong, or where the judge could
    score nothing.
    """
    if out is not None and out.suffix.lower() not in KINDS:
        raise ConfigError(f"{out}: scores are written as one of {', '.join(KINDS)}: rename it.")
    config = compose(WORKLOAD, [f"data.path={file}", f"rubric.path={rubric}", *overrides, "placement=split"])
    workload: Any = find_workload(WORKLOAD).workload(config)
    common = read_rubric(rubric.expanduser())
    assert isinstance(config.data, TableConfig)
    episodes = read_answers(file.expanduser(), config.data, common)
    with judge_of(config, workload, episodes) as judge:
        judgements = list(judged(episodes, workload.reward(), judge, config.judge.retries))
    if out is not None:
        write_judgements(out, judgements)
    return summarise(judgements, common)


def read_answers(file: Path, data: TableConfig, common: RubricFile) -> list[Episode]:
    """An episode an answer, numbered within its task. Raises DataError naming row and field."""
    episodes = []
    seen: Counter[str] = Counter()
    for row in read_rows(file):
        task = with_rubric(task_of(row, data), common)
        for text in _responses(row, answers_of(task, data), data):
            episodes.append(answered(task, text, seen[task.id]))
            seen[task.id] += 1
    return episodes


def answered(task: Task, response: str, sample: int) -> Episode:
    """The episode of a response that is there already, which ended by itself."""
    return Episode(task, 0, sample, (Turn(POLICY, (), (), (), response, "stop", 1.0, 0, 0),))


def _responses(row: Row, answers: list[str], data: TableConfig) -> list[str]:
    """A row's `response`, or else its reference answers."""
    response = row.values.get(RESPONSE)
    if response is None and not answers:
        raise row.error(f"neither field {RESPONSE!r} nor {data.answer_field!r} is there: what should be judged?")
    if response is None:
        return answers
    if not isinstance(response, str):
        raise row.error(f"field {RESPONSE!r} is {response!r}: it must be a text.")
    return [response]


@contextmanager
def judge_of(config: RunConfig, workload: Any, episodes: Sequence[Episode]) -> Iterator[Answerer]:
    """The judge of a run's settings without the run: its URL, or servers of its own that end with the block.

    Their context is made long enough for the episodes; without any it is as set.
    """
    role, judge = config.roles()[JUDGE], config.judge
    if role.elsewhere:
        key = os.environ.get(judge.api_key_env)
        yield RemoteFleet.of(judge, key)
        return
    model = starting_model(JUDGE, role, config.learner, workload, (), Path(config.storage).resolve())
    needed = _longest(load_tokenizer(model.folder), episodes) + QUESTION_TOKENS if episodes else 0
    shape = replace(role.model, context_tokens=max(role.model.context_tokens, needed))
    specs = specs_of(config, model)
    with serving(config, [replace(spec, model=shape) for spec in specs]) as fleet:
        yield fleet


def _longest(tokenizer: Any, episodes: Sequence[Episode]) -> int:
    """Tokens of the longest prompt and response together."""
    texts = sorted((as_text(item.task.messages) + item.text for item in episodes), key=len, reverse=True)
    return max(len(ids) for ids in tokenizer(texts[:TOKENISED])["input_ids"])


def judged(episodes: Sequence[Episode], reward: Any, judge: Answerer, retries: int) -> Iterator[Judgement]:
    """Every episode with its verdict, in order. A fault of the judge leaves it unscored."""
    for start in range(0, len(episodes), AT_ONCE):
        some = episodes[start : start + AT_ONCE]
        judge.begin_step("judge")
        replies, _ = ask(some, reward, {JUDGE: judge}, {JUDGE: retries})
        verdicts = reward.score(some, replies, [()] * len(some))
        yield from map(Judgement, some, replies, verdicts)


def summarise(judgements: Sequence[Judgement], common: RubricFile) -> Scores:
    """Means with intervals over prompts, and a row a criterion: those of the file, then the rows' own together."""
    scored = [(item.episode, item.verdict) for item in judgements if isinstance(item.verdict, Scored)]
    reasons = [item.verdict.reason for item in judgements if not isinstance(item.verdict, Scored)]
    if not scored:
        raise RunError(f"none of the {len(judgements)} answers could be scored. The first reason: {reasons[0]}")
    prompts = [same_prompt(episode.task.messages) for episode, _ in scored]
    return Scores(
        mean_interval([verdict.components["official"] for _, verdict in scored], prompts),
        mean_interval([verdict.reward for _, verdict in scored], prompts),
        len(judgements),
        len(reasons),
        reasons[0] if reasons else None,
        sum(
            isinstance(item.verdict, Scored) and any(isinstance(reply, Fault) for reply in item.replies)
            for item in judgements
        ),
        tuple(_criteria(judgements, common)),
    )


def _criteria(judgements: Sequence[Judgement], common: RubricFile) -> Iterator[CriterionRow]:
    weights = {criterion.id: f"{criterion.weight:g}" for criterion in common.rubric.criteria} | {OWN: ""}
    found: dict[str, list[tuple[bool, Answer]]] = {name: [] for name in weights}
    for item in judgements:
        if isinstance(item.verdict, Scored):
            for criterion, reply in zip(rubric_of(item.episode).criteria, item.replies, strict=True):
                met = item.verdict.judgements[criterion.id] > 0.5
                found[criterion.id if criterion.id in weights else OWN].append((met, reply))
    for name, replies in found.items():
        if replies:
            share, mass = fmean(met for met, _ in replies), fmean(mass_of(reply) for _, reply in replies)
            yield CriterionRow(name, weights[name], len(replies), share, mass)


def write_judgements(path: Path, judgements: Sequence[Judgement]) -> None:
    """A row an answer: id, where, prompt (messages as JSON), response, reward, components, verdicts (criterion -> P(yes)), unscored.

    What was not scored has null as reward, and the reason in `unscored`.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from orchestrator.records.folder import atomic_path, atomic_write

    rows = [_row(item) for item in judgements]
    if path.suffix.lower() == ".jsonl":
        atomic_write(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        return
    numbers = pa.map_(pa.string(), pa.float64())
    texts = [(name, pa.string()) for name in ("id", "where", "prompt", "response")]
    schema = pa.schema(
        [*texts, ("reward", pa.float64()), ("components", numbers), ("verdicts", numbers), ("unscored", pa.string())]
    )
    with atomic_path(path) as temporary:
        maps = [
            row | {name: row[name] and list(row[name].items()) for name in ("components", "verdicts")} for row in rows
        ]
        pq.write_table(pa.Table.from_pylist(maps, schema=schema), temporary, compression="zstd")


def _row(item: Judgement) -> dict[str, Any]:
    task, verdict = item.episode.task, item.verdict
    scored = verdict if isinstance(verdict, Scored) else None
    return {
        "id": task.id,
        "where": task.reference["where"],
        "prompt": json.dumps([dict(message) for message in task.messages], ensure_ascii=False),
        "response": item.episode.text,
        "reward": scored and scored.reward,
        "components": scored and dict(scored.components),
        "verdicts": scored and dict(scored.judgements),
        "unscored": None if isinstance(verdict, Scored) else verdict.reason,
    }
