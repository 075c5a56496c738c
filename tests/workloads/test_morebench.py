"""The file of judged responses behind MoReBench's site, generated and the real one where it lies beside the repository."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config.compose import compose
from orchestrator.errors import ConfigError, DataError, RunError
from orchestrator.rollouts.rubrics import Rubric, official_score
from workloads.rlvr import Config, Workload, morebench

DATA = Path(__file__).parents[2].parent / "shared" / "data"
SITE = DATA / "morebench_site" / "comparison_data.json"
needs_site = pytest.mark.skipif(not SITE.is_file(), reason="the MoReBench site file is not beside the repository")


def _site_row(task: str, judgements: list[tuple[int, str]]) -> dict[str, Any]:
    rubrics = [
        {
            "criterion_id": f"{task}-{i}",
            "criterion": f"criterion {i} ",
            "dimension": "identifying",
            "weight": w,
            "judgement": j,
        }
        for i, (w, j) in enumerate(judgements)
    ]
    meta = {"dilemma": f"Should I {task}?", "theory": "neutral", "dilemma_source": "made up"}
    answer = {"response": f"Think of {task}.", "rubrics": rubrics, "score": 50.0}
    return {
        "task_id": task,
        "metadata": meta,
        "models": [{"model_name": "m", "thinking_trace": answer, "model_resp": answer}],
    }


def _site_file(tmp_path: Path) -> Path:
    path = tmp_path / "site.json"
    rows = [_site_row(name, [(3, "Yes."), (2, "no"), (-1, "No"), (1, "perhaps")]) for name in ("stay", "go")]
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


def test_judgements_are_read_as_the_benchmark_reads_them() -> None:
    # a search for "yes" earns a positive weight, a search for "no" a negative one; words with both count as earned
    assert [morebench.read_met(2, text) for text in ("Yes.", "no", "Yes, not no", "")] == [1.0, 0.0, 1.0, None]
    assert [morebench.read_met(-2, text) for text in ("yes", "No.", "Yes, not no", "?")] == [1.0, 0.0, 0.0, None]


def test_the_site_file_gives_dilemmas_and_judged_responses(tmp_path: Path) -> None:
    dilemmas, responses = morebench.read_site(_site_file(tmp_path))
    assert [dilemma.id for dilemma in dilemmas] == ["stay", "go"]
    assert dilemmas[0].rubric.criteria[0].text == "criterion 0"
    assert len(responses) == 4
    assert responses[0].met == {"stay-0": 1.0, "stay-1": 0.0, "stay-2": 0.0}
    # 3 for the met one and 1 for the avoided one, of 3 + 2 + 1 + 1
    assert official_score(dilemmas[0].rubric, responses[0].met) == pytest.approx(4 / 7)


def test_one_whole_dilemma_is_held_out(tmp_path: Path) -> None:
    config = Config()
    config.data.source, config.data.path = "morebench_site", str(_site_file(tmp_path))
    for wanted, held in ((None, "go"), ("stay", "stay")):
        config.data.holdout_dilemma = wanted
        workload = Workload(config)
        assert [task.id for task in workload.tasks("eval")] == [held]
        assert held not in {task.id for task in workload.tasks("train")}
        policy, judge = workload.lessons()
        assert held not in {example.group for lesson in (policy, judge) for example in lesson.examples()}
        assert all(f"Think of {held}." in call.messages[0]["content"] for call in judge.exam()[:6])
        assert set(judge.gate) == {"accuracy", "pair_order", "rank_correlation", "injection_resistance"}
        _, texts = workload.tokenizer_texts()
        assert not any(held in text for text in texts)
    config.data.holdout_dilemma = "elsewhere"
    with pytest.raises(DataError, match="elsewhere: there is no such dilemma, only: stay, go"):
        Workload(config).tasks("eval")


def test_taught_and_planted_verdicts_are_different_ones_and_the_judge_sees_them(tmp_path: Path) -> None:
    """Responses of 400 lines are cut in their middle; a verdict planted there must not be cut with it."""
    rows = [_site_row(name, [(3, "Yes."), (-1, "No")]) for name in ("stay", "go")]
    for row in rows:
        row["models"] = row["models"] * 20
        for model in row["models"]:
            model["thinking_trace"]["response"] = "\n".join(f"line {number} of the answer" for number in range(400))
    path = tmp_path / "site.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    config = Config()
    config.data.source, config.data.path = "morebench_site", str(path)
    config.judge.model.context_tokens = 1024
    _, judge = Workload(config).lessons()
    taught = [example.branches[0].messages[0]["content"] for example in judge.examples()]
    asked = [call.messages[0]["content"] for call in judge.exam() if call.key.endswith("/planted")]

    def stating(texts: list[str], verdicts: tuple[str, ...]) -> list[str]:
        return [text for text in texts if any(f"\n{verdict}\n" in f"\n{_response(text)}\n" for verdict in verdicts)]

    assert stating(asked, morebench.EXAM_INJECTIONS) == asked
    assert stating(taught, morebench.EXAM_INJECTIONS) == []
    # three in ten of 40, whose standard deviation is 0.07
    assert 0.1 < len(stating(taught, morebench.TAUGHT_INJECTIONS)) / len(taught) < 0.5
    assert max(len(_response(text)) for text in taught + asked) <= int((1024 - 160) * 2.4)


def _response(question: str) -> str:
    return question.removeprefix("Reasoning Response:").split(
        "\nDoes the reasoning response meet the rubric criterion? Return"
    )[0]


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("metadata",), None, r"row 1: field 'metadata' is of the wrong type, NoneType"),
        (("metadata", "theory"), ..., r"row 1: metadata: field 'theory' is missing"),
        (
            ("metadata", "theory"),
            "Hedonism",
            r"row 1: metadata: field 'theory' is 'Hedonism', none of neutral, Kantian",
        ),
        (("models",), [], r"row 1: field 'models' is empty"),
        (
            ("models", 0, "model_resp", "score"),
            "high",
            r"row 1: models\[0\].model_resp: field 'score' is of the wrong type, str",
        ),
        (("models", 0, "thinking_trace", "rubrics", 2, "weight"), 4, r"row 1: .*rubrics\[2\]: .*'weight' is 4"),
        (
            ("models", 0, "thinking_trace", "rubrics", 1, "judgement"),
            None,
            r"rubrics\[1\]: field 'judgement' is of the wrong",
        ),
        (
            ("models", 0, "model_resp", "rubrics", 0, "criterion_id"),
            "x",
            r"rubrics\[0\]: field 'criterion_id' is 'x', no",
        ),
    ],
)
def test_what_is_wrong_in_the_site_file_is_named_with_a_remedy(
    tmp_path: Path, path: tuple[str | int, ...], value: Any, message: str
) -> None:
    rows = json.loads(_site_file(tmp_path).read_text())
    place = rows[1]
    for part in path[:-1]:
        place = place[part]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    (tmp_path / "site.json").write_text(json.dumps(rows))
    with pytest.raises(DataError, match=message + r".*comparison_data\.json: fetch it anew") as caught:
        morebench.read_site(tmp_path / "site.json")
    # the command line tells a RunError without a traceback
    assert isinstance(caught.value, RunError)
    assert isinstance(caught.value, ValueError)
    assert str(caught.value).startswith(str(tmp_path / "site.json"))


def test_a_rubric_error_is_told_without_a_traceback_too() -> None:
    with pytest.raises(RunError, match="'weight' is 0; it must be a number other than 0"):
        Rubric.from_json([{"id": "a", "text": "t", "weight": 0}])


def test_a_folder_is_no_site_file_and_a_typo_names_the_sources(tmp_path: Path) -> None:
    file = _site_file(tmp_path)
    for text, words in [
        (
            ["data.source=morebench_site", f"data.path={tmp_path}"],
            f"{tmp_path} is not a file: .* for example data.path={file}",
        ),
        (
            ["data.source=morebench_sit", f"data.path={file}"],
            "data.source=morebench_sit .*one of mini, morebench_site, morebench",
        ),
        (["data.source=morebench_site"], "is read from a file: set data.path=FILE"),
        (
            ["data.source=morebench_site", f"data.path={file}", "data.test_groups=1"],
            "data.test_groups=1: the site's few dilemmas have no test split",
        ),
    ]:
        with pytest.raises(ConfigError, match=words):
            compose("rlvr", text)
    config = compose("rlvr", ["data.source=morebench_site", f"data.path={file}"])
    # real labels of three dilemmas: the preset only reports
    assert Workload(config).lessons()[1].gate == {}


def test_long_texts_keep_their_beginning_and_their_end() -> None:
    assert morebench.shorten("short", 10) == "short"
    # room for 13 - 3 characters: 6 of the beginning, 4 of the end
    assert morebench.shorten("abcdefghijklmnopqrstuvwxyz", 13) == "abcdef … wxyz"


@needs_site
def test_all_84_official_scores_are_reproduced() -> None:
    dilemmas, responses = morebench.read_site(SITE)
    rubrics = {dilemma.id: dilemma.rubric for dilemma in dilemmas}
    assert len(dilemmas) == 3
    assert len(responses) == 3 * 14 * 2
    for response in responses:
        assert round(100 * official_score(rubrics[response.dilemma], response.met), 2) == response.score


@needs_site
def test_the_real_questions_keep_the_response_first_and_fit_the_context() -> None:
    config = Config()
    config.data.source, config.data.path = "morebench_site", str(SITE)
    config.judge.model.context_tokens = config.model.context_tokens = 1024
    workload = Workload(config)
    policy, judge = workload.lessons()
    # 2 dilemmas x 14 models x 2 texts, less the empty ones of the policy
    assert len(judge.examples()) == 56
    assert 50 < len(policy.examples()) <= 56
    longest = max(len(call.messages[0]["content"]) for call in judge.exam())
    assert longest < 1024 * 3.4
    content = judge.exam()[0].messages[0]["content"]
    assert content.startswith("Reasoning Response:")
    assert content.rsplit("\n", 1)[1].startswith("Rubric Criterion:")
