"""The kinds of items of the miniature world: how a story of each is drawn, what it asks, and which fact its twin changes.

Four values (containers or toys) are named by the events of every story, each once and in the same words: which is believed is a
matter of the events' order alone, so that counting words tells nothing. All stories of a kind have the same sentences but for
names. A twin moves one sentence, or changes one word that decides nothing without the order.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from workloads.social_r1.world_minds import ALL, SECRETLY, Belief, Event, believed, truth, watch
from workloads.social_r1.world_words import (
    CONTENT,
    FEELING,
    FEELINGS,
    MEANING,
    MOTIVES,
    OPENLY,
    PEOPLE,
    PLACE,
    ROOMS,
    SENTENCES,
    WISH,
    Topic,
)

_MOVES = ("leaves", "returns", "away", "back", "out", "on")


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of item. order: of the belief asked for, None where a feeling or a meaning is. edit: which fact a twin changes:
    "move" (when somebody or the lamp comes or goes), "trust", "manner", "audience" or "claim".
    """

    ability: str
    order: int | None
    topic: Topic = PLACE
    edit: str = "move"

    @property
    def options(self) -> Topic:
        """What the options are of."""
        return {"emotion": FEELING, "speech": MEANING}.get(self.ability, self.topic)


KINDS = (
    *(Kind("belief", order) for order in range(5)),
    *(Kind("perception", order) for order in (1, 2)),
    *(Kind("information", order, edit="audience") for order in (1, 2)),
    *(Kind("change", order, edit="manner") for order in (1, 2)),
    *(Kind("deception", order, edit="trust") for order in (1, 2)),
    *(Kind("desire", order, WISH) for order in (1, 2)),
    *(Kind("intention", order, CONTENT) for order in (1, 2)),
    *[Kind("emotion", None), Kind("speech", None, edit="claim")] * 2,
)
"""In the order in which they are drawn, round and round; emotion and speech come twice a round, as the others do."""
ABILITIES = tuple(dict.fromkeys(kind.ability for kind in KINDS))


@dataclass(frozen=True, slots=True)
class Draft:
    """A story before it is written. chain: whose belief about whose belief … is asked for (order 0: who leaves then)."""

    kind: Kind
    cast: tuple[str, ...]
    chain: tuple[str, ...]
    thing: str
    events: tuple[Event, ...]

    def sentence(self, event: Event) -> str:
        """The event in words."""
        if event.kind == "scene":
            return f"{' '.join(self.cast)} are in {event.value} ."
        name = "whispers" if event.kind == "tells" and event.to != ALL else event.kind
        text = self.kind.topic.puts if name == "puts" else SENTENCES[name]
        actor = f"{event.actor} {event.manner}".strip()
        for slot, word in (("ACTOR", actor), ("THING", self.thing), ("VALUE", event.value), ("TO", event.to)):
            text = text.replace(slot, word)
        return text

    def state(self, value: str, chain: Sequence[str] = ()) -> str:
        """That the value is the case, or that chain[0] thinks that chain[1] thinks … that it is."""
        state = self.kind.topic.state.replace("THING", self.thing).replace("VALUE", value)
        return " ".join([*(f"{agent} thinks" for agent in chain), state, "."])

    @property
    def question(self) -> str:
        """What is asked, in words."""
        first, *others = self.chain
        thoughts = "".join(f"{agent} thinks " for agent in others)
        match self.kind.ability:
            case "emotion":
                return f"how does {first} feel then ?"
            case "speech":
                return f"what does {first} tell {others[0]} ?"
            case "desire":
                asked = f"does {first} think {others[0]} will" if others else f"will {first}"
                return f"what {asked} bring to please {self.thing} ?"
            case "intention":
                opener = self.chain[-1]
                asked = f"does {first} think {opener} means" if others else f"does {first} mean"
                return f"{opener} opens {self.thing} : what {asked} to take ?"
        if self.kind.order == 0:
            return f"where was {self.thing} when {first} left ?"
        return f"where does {first} think {thoughts}{self.thing} is ?"

    @property
    def values(self) -> tuple[str, ...]:
        """What the options say: what the story names, in its order, or the fixed four."""
        named = tuple(event.value for event in self.events if event.kind in ("puts", "says"))
        return named if self.kind.options is self.kind.topic else self.kind.options.values


@dataclass(frozen=True, slots=True)
class Solution:
    """The truth about a story. answer: of its `values`. cues: indices of the deciding events. minds: what the agents think."""

    answer: str
    cues: tuple[int, ...]
    minds: tuple[str, ...]


def solve(draft: Draft) -> Solution | None:
    """Plays the story; None where it is impossible or does not decide the answer."""
    events, chain = draft.events, draft.chain
    views = watch(events, draft.cast)
    if views is None or not _plausible(draft):
        return None
    if draft.kind.order == 0:
        left = events.index(Event("leaves", chain[0]))
        then = truth(events[:left])
        return Solution(then.value, (*then.grounds, left), (draft.state(then.value, chain),))
    own = believed(events, views, chain[:1])
    shared = believed(events, views, chain)
    if own is None or shared is None:
        return None
    match draft.kind.ability:
        case "emotion":
            return _feeling(draft, own)
        case "speech":
            return _meaning(draft, own, shared)
    return Solution(shared.value, shared.cues, (draft.state(shared.value, chain),))


def _plausible(draft: Draft) -> bool:
    """Whether nobody of the chain is told by somebody who saw less than they did: it would be no news to believe."""
    told = next((index for index, event in enumerate(draft.events) if event.kind == "tells"), None)
    if told is None:
        return True
    before = draft.events[:told]
    views = watch(before, draft.cast) or {}
    seen = {agent: believed(before, views, (agent,)) for agent in (draft.events[told].actor, *draft.chain)}
    last = {agent: belief.grounds[-1] if belief else -1 for agent, belief in seen.items()}
    return max(last.values()) == last[draft.events[told].actor]


def _feeling(draft: Draft, own: Belief) -> Solution:
    """By appraisal of what is found: hoped for or not, expected or not."""
    hope = next(index for index, event in enumerate(draft.events) if event.kind == "hopes")
    found = truth(draft.events)
    hoped, expected = draft.events[hope].value == found.value, own.value == found.value
    cues = tuple(sorted({hope, *own.cues, *found.grounds}))
    return Solution(FEELINGS[2 * (not hoped) + (not expected)], cues, (draft.state(own.value, draft.chain),))


def _meaning(draft: Draft, own: Belief, shared: Belief) -> Solution | None:
    """What the last words are, by what the speaker thinks and thinks that the listener thinks; None where a liar knows no better."""
    said, fact = draft.events[-1].value, truth(draft.events)
    if own.value != said and (own.value != fact.value or said == fact.value):
        return None
    thought, last = draft.state(own.value, draft.chain[:1]), len(draft.events) - 1
    if own.value == said:
        meaning = "truth" if said == fact.value else "mistake"
        return Solution(meaning, tuple(sorted({*own.cues, *fact.grounds, last})), (thought,))
    meaning = "joke" if shared.value == own.value else "lie"
    cues = tuple(sorted({*own.grounds, *shared.cues, last}))
    return Solution(meaning, cues, (thought, draft.state(shared.value, draft.chain)))


def draw(kind: Kind, rng: random.Random) -> Draft:
    """One story of the kind, possible or not (`solve` tells)."""
    cast = rng.sample(PEOPLE, 4)
    count = {"emotion": 1, "speech": 2}.get(kind.ability, max(kind.order or 0, 1))
    chain, leavers = tuple(cast[:count]), rng.sample(cast[: max(count, 2)], 2)
    steady = [agent for agent in cast if agent not in leavers]
    values = rng.sample(kind.topic.values, 4)
    thing = steady[0] if kind.topic is WISH else rng.choice(kind.topic.things)
    timeline = [*_changes(kind, values, steady, rng), *_moves(kind, leavers, rng)]
    if kind.ability == "information":
        speaker = rng.choice([agent for agent in leavers if agent not in chain] or chain)
        others = [agent for agent in cast if agent not in (speaker, *chain)]
        timeline.append(
            (rng.choice((rng.uniform(2, 5), 5.0)), Event("tells", speaker, to=rng.choice((ALL, rng.choice(others)))))
        )
    timeline.sort(key=lambda moment: moment[0])
    events = [*_facts(kind, cast, chain, steady, values, rng), *(event for _, event in timeline)]
    if kind.ability == "emotion":
        events.append(Event("finds", chain[0]))
    if kind.ability == "speech":
        events.append(Event("claims", chain[0], rng.choice(values), chain[1]))
    rng.shuffle(cast)
    return Draft(kind, tuple(cast), chain, thing, tuple(events))


def _facts(
    kind: Kind,
    cast: Sequence[str],
    chain: Sequence[str],
    steady: Sequence[str],
    values: Sequence[str],
    rng: random.Random,
) -> list[Event]:
    """The room, what two of them want (the protagonist is one), and whom two trust or what one hopes."""
    other = rng.choice([agent for agent in cast if agent != chain[0]])
    wants = [
        Event("motive", agent, verb) for agent, verb in zip((chain[0], other), rng.sample(MOTIVES, 2), strict=True)
    ]
    rng.shuffle(wants)
    facts = [Event("scene", value=rng.choice(ROOMS)), *wants]
    if kind.ability == "deception":
        listeners = rng.sample([agent for agent in cast if agent not in steady], 2)
        facts += [Event(rng.choice(("trusts", "doubts")), agent, to=steady[0]) for agent in listeners]
    if kind.ability == "emotion":
        facts.append(Event("hopes", chain[0], rng.choice((values[-1], rng.choice(values[:-1])))))
    return facts


def _changes(kind: Kind, values: Sequence[str], steady: Sequence[str], rng: random.Random) -> list[tuple[float, Event]]:
    """The four events that name the values, at the times 1 to 4. The first is seen by all."""
    kinds, manners, actors = ["puts"] * 4, [""] * 4, [rng.choice(steady) for _ in values]
    if kind.topic is WISH:
        actors = [steady[0]] * 4
    if kind.ability == "deception":
        kinds[1:] = rng.sample(["puts", "says", "says"], 3)
        actors = [steady[0] if name == "says" else actor for name, actor in zip(kinds, actors, strict=True)]
    if kind.ability == "change":
        manners = [OPENLY, *(rng.choice((OPENLY, SECRETLY)) for _ in range(3))]
    rows = zip(kinds, actors, values, manners, strict=True)
    return [(float(time), Event(n, a, v, manner=m)) for time, (n, a, v, m) in enumerate(rows, 1)]


def _moves(kind: Kind, leavers: Sequence[str], rng: random.Random) -> list[tuple[float, Event]]:
    """When two agents go and come back (or look away and back, and when the lamp is out), after the first change."""
    pairs = [("leaves", "returns", agent) for agent in leavers]
    if kind.ability == "perception":
        pairs = [*(("away", "back", agent) for agent in leavers), ("out", "on", "")]
    moves = []
    for away, back, agent in pairs:
        time = rng.uniform(1, 5)
        until = rng.uniform(max(time, rng.choice((1, 4))), 5)
        moves += [(time, Event(away, agent)), (until, Event(back, agent))]
    return moves


def edited(draft: Draft, rng: random.Random) -> Draft:
    """The story with one fact changed, possible or not."""
    events = list(draft.events)
    edit = "move" if draft.kind.edit == "claim" and rng.random() < 0.5 else draft.kind.edit
    targets = {
        "move": (*_MOVES, "puts") if draft.kind.ability == "speech" else _MOVES,
        "trust": ("trusts", "doubts"),
        "manner": ("puts",),
        "audience": ("tells",),
        "claim": ("claims",),
    }
    index = rng.choice([i for i, event in enumerate(events) if event.kind in targets[edit]])
    event = events[index]
    match edit:
        case "move":
            first = next(i for i, other in enumerate(events) if other.kind == "puts")
            del events[index]
            last = len(events) - (draft.kind.ability in ("emotion", "speech"))
            events.insert(rng.randint(first + 1, last), event)
        case "trust":
            events[index] = replace(event, kind="doubts" if event.kind == "trusts" else "trusts")
        case "manner":
            events[index] = replace(event, manner=OPENLY if event.manner == SECRETLY else SECRETLY)
        case "audience":
            others = [agent for agent in draft.cast if agent not in (event.actor, *draft.chain)]
            events[index] = replace(event, to=rng.choice(others) if event.to == ALL else ALL)
        case _:
            events[index] = replace(event, value=rng.choice([e.value for e in events if e.kind == "puts"]))
    return replace(draft, events=tuple(events))


def targets_of(kind: Kind) -> tuple[tuple[int, int], ...]:
    """Which two of the four `values` are the answers of a pair: each value equally often, whatever the kind makes likely."""
    if kind.ability == "emotion":  # Coming and going changes what is expected, not what was hoped.
        return ((0, 1), (2, 3))
    return tuple(combinations(range(4), 2))


def draw_pair(
    kind: Kind, target: tuple[int, int], rng: random.Random
) -> tuple[tuple[Draft, Solution], tuple[Draft, Solution]]:
    """Two stories that differ in one fact, with their answers, of the two values of `target`; which is first is drawn."""
    while True:
        draft = draw(kind, rng)
        solution = solve(draft)
        if solution is None or draft.values.index(solution.answer) not in target:
            continue
        for _ in range(8):
            other = edited(draft, rng)
            second = solve(other)
            if second and {draft.values.index(s.answer) for s in (solution, second)} == set(target):
                pair = ((draft, solution), (other, second))
                return pair if rng.random() < 0.5 else (pair[1], pair[0])
