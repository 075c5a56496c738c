"""An environment of several turns in one file.   orchestrate train environment.py steps=5

The policy guesses a number and is told "more" or "less" until it has found it, at most four times. Every turn of the policy is
trained, with the reward of its whole episode.
"""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.values import POLICY, Call, Episode, Sampling, Scored, Task
from workloads.base import BaseWorkload, Branch, Example, Play, PolicyLesson

NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
SETTINGS = {"warmup.steps": 150, "learner.learning_rate": 3e-4, "rollout.max_completion_tokens": 4}


class Guessing:
    """Keeps nothing between episodes: many are played at once, and `play` is the whole of one."""

    def play(self, task: Task, sampling: Sampling) -> Play:
        """Yields whatever some model is to say next, and is sent the turn that it said."""
        messages = list(task.messages)
        for _ in range(4):
            turn = yield Call(key="", role=POLICY, messages=tuple(messages), sampling=sampling)
            guess = turn.text.strip()
            if guess == task.reference["secret"]:
                return
            messages += [{"role": "assistant", "content": guess}, {"role": "user", "content": hint(guess, task)}]


def hint(guess: str, task: Task) -> str:
    """What the world says to a wrong guess."""
    if guess not in NUMBERS:
        return "a number !"
    return "more" if NUMBERS.index(guess) < NUMBERS.index(task.reference["secret"]) else "less"


class Workload(BaseWorkload):
    def environment(self) -> Guessing:
        return Guessing()

    def tasks(self, split: str) -> Sequence[Task]:
        """The same numbers to train on and to evaluate with: in this game nothing can be learned by heart."""
        question = {"role": "user", "content": "guess a number : more or less ?"}
        return [Task(f"{split}-{secret}", (question,), {"secret": secret}) for secret in NUMBERS]

    def lessons(self) -> Sequence[PolicyLesson]:
        """Before RL: to answer with a number, whichever, at the beginning and after each wrong guess."""
        task = self.tasks("train")[0]
        told = [({"role": "assistant", "content": guess}, {"role": "user", "content": "more"}) for guess in NUMBERS]
        talks = [task.messages, *(task.messages + answer for answer in told)]
        return [PolicyLesson([Example("talk", tuple(Branch(talk, number) for number in NUMBERS)) for talk in talks])]


def reward(episodes: Sequence[Episode]) -> list[Scored]:
    """One for a number that was found at once, less for each further turn, nothing where it was not found."""
    found = [episode.text.strip() == episode.task.reference["secret"] for episode in episodes]
    return [Scored(hit * (1.2 - 0.2 * len(e.turns)), {"found": hit}) for hit, e in zip(found, episodes, strict=True)]
