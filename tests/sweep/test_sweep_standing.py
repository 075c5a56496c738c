"""What another start of a sweep would do again, and what it would not."""

from __future__ import annotations

from pathlib import Path

from orchestrator.records.folder import write_json
from orchestrator.sweep.folder import SweepFolder
from orchestrator.sweep.journal import FAILED, FINISHED, Journal, Tried
from orchestrator.sweep.spec import Node, Stage
from orchestrator.sweep.standing import standing_of, to_mend


def test_a_failed_trial_of_a_search_with_a_winner_is_not_tried_again(tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path / "sweeps" / "mine")
    journal = Journal(folder.journal)
    stage = Stage(Node("policy", "rlvr", {}, {"": {}}, (0,)), "")
    for number, (name, outcome) in enumerate(((stage.name, FAILED), (stage.name, FINISHED), ("policy", FAILED))):
        journal.end(journal.begin(Tried(name, number, "", 0, {}, f"rlvr/{number}")), outcome)
    folder.definition.write_text("")
    write_json(folder.summary, {"failed": ["0", "2"], "skipped": {}})
    assert [one.number for one in to_mend(folder, journal.all())] == [0, 2]
    folder.close(stage, [])
    assert [one.number for one in to_mend(folder, journal.all())] == [2]
    assert standing_of(folder).status == "has failures"
    folder.close(Stage(stage.node), [])
    assert standing_of(folder).status == "finished"
