"""LegalΔ (arXiv 2508.12281): a policy reasons about a case before it answers, and is rewarded for the right answer as far as its own
reasoning made it surer of it (information gain).

Five tasks in Chinese: articles, charges, length of the sentence, amounts, multiple choice. Data: `mini`, a generated penal code with
exact answers, or files in the released form. Stage 1, reasoning that another model or an oracle wrote, is a run of its own
(`legal_delta.distill`). Importing this package imports neither torch nor transformers nor ray.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import ClassVar

from orchestrator.config.schema import RunConfig, group
from orchestrator.values import Episode, Group, Message, Scored, Task, stable_hash
from workloads.base import BaseWorkload, Lesson, PolicyLesson, Reward
from workloads.legal_delta import mini, oracle, prompts, world
from workloads.legal_delta.answers import said
from workloads.legal_delta.data import LegalDataConfig, check_data, cases_of
from workloads.legal_delta.gain import LegalReward, LegalRewardConfig
from workloads.legal_delta.scores import LARGEST, exact, legal_reward
from workloads.lessons import chat

MOST_EXAMPLES = 8192
"""Most generated examples of a lesson, which then repeat: reading them into tokens takes time as well."""
DIRECT = 0.25
"""Share of the warm-up's examples that are answered without reasoning, so that the policy knows what direct mode is."""
EXACT, REASONING = "exact", "reasoning"
