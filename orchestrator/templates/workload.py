"""A workload in one file: tasks, a warm-up and a reward.   orchestrate train workload.py steps=5

The policy is asked which of two numbers is more. The warm-up teaches it to answer with either; which one, RL has to find out.
With a pretrained model (`model=hf:Qwen/Qwen3-0.6B`, on a GPU) no warm-up is needed: leave out `lessons`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from orchestrator.values import Episode, Task
from workloads.base import BaseWorkload, Branch, Example, PolicyLesson

NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]

# Defaults of this workload: any key of `orchestrate config explain`. What the command line says goes above them.
SETTINGS = {
    "warmup.steps": 150,
    "learner.learning_rate": 3e-4,
    "rollout.max_completion_tokens": 4,
    "rollout.prompts_per_step": 16,
    "eval.every_steps": 5,
}


class Workload(BaseWorkload):
    """Only `tasks` must be there; `workloads/base.py` lists what else can be."""

    def tasks(self, split: str) -> Sequence[Task]:
        """The tasks to train on ("train") or those that are held out ("eval"); none is in both."""
        pairs = [(left, right) for left in range(len(NUMBERS)) for right in range(len(NUMBERS)) if left != right]
        random.Random(self.config.data.seed).shuffle(pairs)
        chosen = pairs[24:] if split == "train" else pairs[:24]
        return [self.task(NUMBERS[left], NUMBERS[right], NUMBERS[max(left, right)]) for left, right in chosen]

    def task(self, left: str, right: str, answer: str) -> Task:
        """A task: its own id, what the model is shown, and what only the reward may see."""
        question = {"role": "user", "content": f"which is more , {left} or {right} ?"}
        return Task(f"{left}-{right}", (question,), {"options": [left, right], "answer": answer})

    def lessons(self) -> Sequence[PolicyLesson]:
        """What the policy is taught before RL: each question with both answers, the wrong one as often as the right one."""
        tasks = self.tasks("train")
        examples = [
            Example(task.id, tuple(Branch(task.messages, option) for option in task.reference["options"]))
            for task in tasks
        ]
        return [PolicyLesson(examples)]


def reward(episodes: Sequence[Episode]) -> list[float]:
    """One number for each answer to one task. It runs in a process of its own: it may be slow, and it may fail."""
    return [float(episode.text.strip() == episode.task.reference["answer"]) for episode in episodes]
