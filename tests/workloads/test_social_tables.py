"""Metrics of the tables of social_r1 on single episodes, its sweeps as they are read, and the two published recipes."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.config.compose import compose
from orchestrator.sweep.reading import read_sweep
from orchestrator.tables import Measured
from orchestrator.values import Episode, Scored, Task, Turn, Unscored, Verdict
from workloads.social_r1.tables import TABLES, early_mention, oracle, thinking

SOUND = "<think> cue : anna leaves . </think> <Answer> B </Answer>"


FAULT = Unscored("fault")


def measured(text: str = SOUND, verdict: Verdict = FAULT) -> Measured:
    turn = Turn("policy", (1,), (2,), (-0.1,), text, "stop", 1.0, 0, 0)
    task = Task("t", ({"role": "user", "content": "?"},), {})
    return Measured(Episode(task, 0, 0, (turn,)), verdict, 1.0, {"structure": 0.4}, lambda scored: scored.reward)


def test_the_oracle_tells_what_it_knows() -> None:
    """It told the structure (0.4) and not the content."""
    assert (oracle("structure")(measured()), oracle("content")(measured())) == (0.4, None)


def test_thinking_is_counted_in_characters() -> None:
    """Between the tags stand " cue : anna leaves . ", 21 characters with the blanks at the ends; a broken format has none."""
    assert thinking(measured()) == 21
    assert thinking(measured("cue : anna leaves . <Answer> B </Answer>")) == 0


@pytest.mark.parametrize(("place", "said"), [(0.2, 1.0), (0.5, 0.0), (1.0, 0.0)])
def test_a_mention_in_the_first_half_is_early(place: float, said: float) -> None:
    """0.5 is where the second half begins; without a valid format, or a verdict, nothing is said."""
    components = {"format": 1.0, "early_option": place}
    assert early_mention(measured(verdict=Scored(1.0, components))) == said
    assert early_mention(measured(verdict=Scored(0.0, components | {"format": 0.0}))) is None
    assert early_mention(measured()) is None


def test_every_row_and_column_of_the_tables_is_a_node_of_their_sweeps() -> None:
    for table in TABLES.values():
        nodes = {node.name: node for node in read_sweep(table.sweep).nodes}
        for row in (row for row in table.rows if row.node):
            assert row.arm in nodes[str(row.node)].arms


def test_the_search_is_over_tau_and_the_curricula() -> None:
    (policy,) = (node for node in read_sweep("social_r1_search").nodes if node.search)
    assert {item.key for item in policy.search} == {
        "reward.tau_wrong",
        "reward.structure_start",
        "reward.content_end",
    }
    # No point wins by one seed, nor by one that the winner is run with.
    assert policy.tuning is not None
    assert (len(policy.tuning.seeds), set(policy.tuning.seeds) & set(policy.seeds)) == (2, set())


def test_both_published_recipes_can_be_chosen(tmp_path: Path) -> None:
    """The script has 300 steps at 1e-6 with KL 0.001, the card 600 at 5e-7 with 0.04; both take groups of five."""
    file = tmp_path / "questions.jsonl"
    file.touch()
    found = {}
    for words in ([], ["recipe=card"]):
        config = compose("social_r1", ["preset=paper", f"data.path={file}", *words])
        found[config.recipe.name] = (  # type: ignore[attr-defined]
            config.steps,
            config.learner.learning_rate,
            config.algorithm.kl_weight,
            config.rollout.samples_per_prompt,
        )
    assert found == {"script": (300, 1e-6, 0.001, 5), "card": (600, 5e-7, 0.04, 5)}
