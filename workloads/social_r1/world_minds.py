"""Who saw, heard and believes what in a story of the miniature world: a small machine that plays its events.

One rule makes every nested belief. "anna thinks ben thinks the ball is in the box" changes with an event that both took
part in and knew each other to take part in; what is told rather than seen changes it only if one of the two is taken in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

ALL = "all"
"""Who is told where the speaker tells everybody."""
SECRETLY = "secretly"


@dataclass(frozen=True, slots=True)
class Event:
    """One event or fact, which is one sentence of a story.

    kind: facts are "scene", "motive", "trusts", "doubts" and "hopes"; "leaves", "returns", "away" and "back" (an agent's eyes), "out"
    and "on" (the lamp) change who sees what; "puts", "says" and "tells" change what is believed; "claims" and "finds" end a story.
    value: the place or thing that it names; a motive's verb, a scene's room. to: who is trusted, doubted or told. manner: of "puts".
    """

    kind: str
    actor: str = ""
    value: str = ""
    to: str = ""
    manner: str = ""


Missed = Mapping[str, int]
"""Of an event that changes beliefs: by each agent who took no part in it, the index of the event because of which."""


@dataclass(frozen=True, slots=True)
class Belief:
    """What is believed. grounds: indices of the events that it rests on. missed: of the one why the next change went unnoticed."""

    value: str
    grounds: tuple[int, ...]
    missed: int | None = None

    @property
    def cues(self) -> tuple[int, ...]:
        """The deciding events, in the story's order."""
        return tuple(sorted({*self.grounds, *(() if self.missed is None else (self.missed,))}))


def watch(events: Sequence[Event], cast: Sequence[str]) -> dict[int, Missed] | None:
    """Who missed each event that changes beliefs, by its index; None where the story is impossible (who is out leaves)."""
    gone: dict[str, int] = {}
    averted: dict[str, int] = {}
    dark: int | None = None
    views: dict[int, Missed] = {}
    for index, event in enumerate(events):
        if not _possible(event, gone, averted, dark):
            return None
        match event.kind:
            case "leaves":
                gone[event.actor] = index
            case "returns":
                del gone[event.actor]
            case "away":
                averted[event.actor] = index
            case "back":
                del averted[event.actor]
            case "out" | "on":
                dark = index if event.kind == "out" else None
            case "puts" | "says" | "tells":
                # Those who look away hear, and so do all in the dark.
                blind = {} if event.kind != "puts" else averted if dark is None else dict.fromkeys(cast, dark)
                unaware = [a for a in cast if event.manner == SECRETLY or event.to not in ("", ALL, a)]
                missed = {**blind, **gone, **dict.fromkeys(unaware, index)}
                views[index] = {agent: why for agent, why in missed.items() if agent != event.actor}
    return views


def _possible(event: Event, gone: Mapping[str, int], averted: Mapping[str, int], dark: int | None) -> bool:
    match event.kind:
        case "scene" | "motive" | "trusts" | "doubts" | "hopes":
            return True
        case "returns":
            return event.actor in gone
        case "back":
            return event.actor in averted and event.actor not in gone
        case "out" | "on":
            return (dark is None) == (event.kind == "out")
        case "away" | "puts":
            return event.actor not in gone and event.actor not in averted
    return event.actor not in gone and event.to not in gone


def truth(events: Sequence[Event]) -> Belief:
    """How things are after the events. Raises ValueError where nothing was put anywhere."""
    last = max(index for index, event in enumerate(events) if event.kind == "puts")
    return Belief(events[last].value, (last,))


def believed(events: Sequence[Event], views: Mapping[int, Missed], chain: Sequence[str]) -> Belief | None:
    """What chain[0] thinks that chain[1] thinks … is the case after the events; None where they never shared any.

    views: `watch(events)`, or its beginning. Where nobody of the chain missed it, "puts" is taken up at once; "says" and "tells" are
    where somebody of the chain, the speaker aside, does not doubt the speaker.
    """
    belief: Belief | None = None
    for index, missed in views.items():
        event = events[index]
        if event.kind != "puts" and tuple(chain) == (event.actor,):
            continue  # Nobody is taken in by their own words.
        why = next((missed[agent] for agent in chain if agent in missed), None)
        grounds: tuple[int, ...] = (index,)
        value = event.value
        if why is None and event.kind != "puts":
            why, trust = _taken_in(events, event.actor, chain)
            grounds = (*trust, index)
        if why is None and event.kind == "tells":
            own = believed(events, {i: v for i, v in views.items() if i < index}, (event.actor,))
            if own is None:
                return None
            value, grounds = own.value, (*own.grounds, *grounds)
        if why is None:
            belief = Belief(value, grounds)
        elif belief is not None and belief.missed is None:
            belief = Belief(belief.value, belief.grounds, why)
    return belief


def _taken_in(events: Sequence[Event], speaker: str, chain: Sequence[str]) -> tuple[int | None, tuple[int, ...]]:
    """(None, the trust that is stated) where somebody of the chain believes the speaker, else (the doubt that is stated, ())."""
    stated = {
        event.actor: (i, event.kind)
        for i, event in enumerate(events)
        if event.kind in ("trusts", "doubts") and event.to == speaker
    }
    listeners = [agent for agent in chain if agent != speaker]
    for agent in listeners:
        index, kind = stated.get(agent, (None, "trusts"))
        if kind == "trusts":
            return None, () if index is None else (index,)
    return stated[listeners[0]][0], ()
