"""A reward function of one's own, inside its process: calling it, and what it may return.

    def reward(episodes: Sequence[Episode]) -> Sequence[float | Scored | Unscored]

It is given the episodes of one task and returns one verdict each, in their order. `orchestrator.rollouts.pool` runs it in
processes that can be killed.
"""

from __future__ import annotations

import math
import os
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from orchestrator.config.functions import FunctionReference
from orchestrator.config.own_code import described
from orchestrator.errors import ConfigError
from orchestrator.values import Episode, Scored, Unscored, Verdict


@dataclass(frozen=True, slots=True)
class Problem:
    """Why the episodes of a task have no verdict."""

    reason: str
    traceback: str = ""


Outcome = list[Verdict] | Problem


class WrongVerdictsError(ValueError):
    """A function did not return one verdict an episode."""


class Scorer:
    """The process' side of `Pool`, a Ray actor. content: of the function's file, as it was when the run began."""

    def __init__(self, function: FunctionReference, content: bytes) -> None:
        self._function, self._content = function, content
        self._pid = os.getpid()

    def start(self) -> int | Problem:
        """Load the function. Returns the process group, which holds this process and whatever the function starts."""
        if os.getpgrp() != self._pid:
            os.setsid()
        try:
            self._call = self._function.load(self._content)
        except ConfigError as error:
            return Problem(str(error), traceback.format_exc())
        return self._pid

    def score(self, episodes: Sequence[Episode]) -> Outcome:
        """The function's verdicts on the episodes of one task."""
        try:
            return verdicts_of(self._call(episodes), len(episodes))
        except WrongVerdictsError as error:
            return Problem(str(error))
        # Code of one's own may raise anything, `sys.exit` among it.
        except (Exception, SystemExit) as error:
            return Problem(described(error, self._function.path.parent), traceback.format_exc())
        finally:
            if os.getpid() != self._pid:
                # A child that the function forked and let run on: to answer is its parent's part.
                os._exit(0)


def verdicts_of(returned: object, episodes: int) -> list[Verdict]:
    """What a function returned, as plain verdicts. Raises WrongVerdictsError that says what is wrong with it."""
    if not isinstance(returned, Iterable) or isinstance(returned, (str, bytes, Mapping)):
        raise WrongVerdictsError(f"it returned {_shown(returned)}, not a list with one verdict an episode")
    # One more than there should be: it need not end.
    values = list(islice(returned, episodes + 1))
    if len(values) != episodes:
        count = "more" if len(values) > episodes else f"only {len(values)}"
        raise WrongVerdictsError(f"it returned {count} verdicts for {episodes} episodes")
    return [_verdict(value, f"verdict {number} of {episodes}") for number, value in enumerate(values, start=1)]


def _verdict(value: object, where: str) -> Verdict:
    if isinstance(value, Unscored):
        return Unscored(str(value.reason))
    if not isinstance(value, Scored):
        return Scored(_number(value, where))
    components, judgements = (
        {str(name): _number(part, f"{where}, {name}") for name, part in parts.items()}
        for parts in (value.components, value.judgements)
    )
    return Scored(_number(value.reward, where), components, judgements)


def _number(value: object, where: str) -> float:
    """A finite float of anything that stands for a number: those of numpy and torch, and true and false, as well."""
    try:
        # Text is no number, even where it could be read as one.
        number = math.nan if isinstance(value, (str, bytes)) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = math.nan
    if math.isfinite(number):
        return number
    raise WrongVerdictsError(f"{where} is {_shown(value)}, not a finite number, Scored or Unscored")


def _shown(value: object) -> str:
    """A value in a few words, with its type where that is not plain."""
    text = " ".join(repr(value).split())[:60]
    return text if isinstance(value, float) or value is None else f"{text} ({type(value).__name__})"
