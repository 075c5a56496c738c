"""What a job takes along, and what it must not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.sending import _parsed
from orchestrator.cluster import upload
from orchestrator.cluster.upload import OWN, Upload, keep, pack, project_files
from orchestrator.config import job
from orchestrator.config.compose import compose
from orchestrator.errors import ConfigError

ROOT = Path(__file__).parents[2]
STORAGE = Path("/shared/runs")
REWARD = "import helper\nimport json\n\n\ndef score(episodes):\n    return [helper.ONE] * len(episodes)\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of one's own, as it may look: with what is to be sent and what is not."""
    (tmp_path / "rewards").mkdir()
    (tmp_path / "rewards/my.py").write_text(REWARD)
    (tmp_path / "rewards/helper.py").write_text("ONE = 1.0\n")
    (tmp_path / "rewards/unused.py").write_text("")
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "x"}\n')
    (tmp_path / "rubric.yaml").write_text("version: 1\n")
    (tmp_path / "my.yaml").write_text("workload: rlvr\nsteps: 3\nreward: {name: rewards/my.py:score}\n")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git/config").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_JOB_CONFIG_JSON_ENV_VAR", raising=False)
    return tmp_path


def packed(*words: str, storage: Path | None = STORAGE) -> Upload:
    return pack(*_parsed(words), storage)


def own(found: Upload) -> dict[str, str]:
    return {place: path.name for place, path in found.files.items() if place.startswith(OWN)}


def test_the_project_is_its_packages_alone() -> None:
    places = dict(project_files())
    assert {"orchestrator/cli/app.py", "workloads/rlvr/presets/mini.yaml", "pyproject.toml"} <= places.keys()
    assert "orchestrator/records/page/page.css" in places
    tops = {place.partition("/")[0] for place in places}
    assert tops <= {"orchestrator", "workloads", "sweeps", "pyproject.toml"}
    assert not [place for place in places if "__pycache__" in place or "/." in place]
    assert sum(path.stat().st_size for path in places.values()) < 4 * 2**20


def test_a_verb_without_files_is_sent_as_it_stands() -> None:
    found = packed("train", "rlvr", "steps=3", "reward.deadline_s=5")
    assert found.words == ("train", "--storage", "/shared/runs", "rlvr", "steps=3", "reward.deadline_s=5")
    assert own(found) == {}
    assert packed("config", "show", "rlvr").words == ("config", "show", "rlvr")


def test_the_files_that_settings_name_come_along(folder: Path) -> None:
    found = packed(
        "train", "rubric", "data.path=prompts.jsonl", "rubric.path=rubric.yaml", "reward=rewards/my.py:score"
    )
    # The reward's file imports helper, which lies beside it; json does not, and nothing imports unused.
    assert own(found) == {
        "own/0/my.py": "my.py",
        "own/0/helper.py": "helper.py",
        "own/1/prompts.jsonl": "prompts.jsonl",
        "own/1/rubric.yaml": "rubric.yaml",
    }
    assert found.words[3:] == (
        "rubric",
        "reward.name=own/0/my.py:score",
        "data.path=own/1/prompts.jsonl",
        "rubric.path=own/1/rubric.yaml",
    )


def test_a_yaml_of_ones_own_brings_what_it_names(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    found = packed("train", "my.yaml", "steps=5")
    assert found.words[3:] == ("own/0/my.yaml", "steps=5", "reward.name=own/1/my.py:score")
    there = tmp_path_factory.mktemp("there")
    found.write(there)
    assert sorted(path.name for path in there.iterdir())[:2] == ["orchestrator", "own"]
    assert (there / "own/1/my.py").read_text() == REWARD


def test_a_workload_of_ones_own_brings_its_presets(folder: Path) -> None:
    (folder / "world.py").write_text("class Workload:\n    def __init__(self, config): ...\n")
    (folder / "world/presets").mkdir(parents=True)
    (folder / "world/presets/big.yaml").write_text("steps: 9\n")
    assert own(packed("train", "world.py", "preset=big")).keys() == {"own/0/world.py", "own/0/world/presets/big.yaml"}
    (folder / "below").mkdir()
    (folder / "below/far.yaml").write_text("workload: world.py\n")
    with pytest.raises(ConfigError, match="into one folder"):
        packed("train", "below/far.yaml")


def test_files_of_the_cluster_are_named_and_not_sent() -> None:
    found = packed("train", "rubric", "data.path=/far/prompts.jsonl", "model=path:/far/model", "judge=run:first@20")
    assert own(found) == {}
    assert "data.path=/far/prompts.jsonl" in found.words


def test_words_of_other_verbs_that_are_files_come_along() -> None:
    found = packed("judge", "prompts.jsonl", "rubric.yaml", "reward.gold=rewards/my.py:score", storage=None)
    assert found.words == ("judge", "own/0/prompts.jsonl", "own/0/rubric.yaml", "reward.gold=own/1/my.py:score")
    assert packed("train", "--resume", "my-run", "steps=9").words[-3:] == ("--resume", "my-run", "steps=9")


@pytest.mark.parametrize(
    ("words", "storage", "message"),
    [
        (("train", "rlvr", "stepz=3"), STORAGE, "Did you mean steps"),
        (("train", "rlvr", "rollout.samples_per_prompt=1"), STORAGE, "sample at least 2"),
        (("train", "rlvr", "reward=missing.py:f"), STORAGE, "missing.py"),
        (("train", "rlvr"), None, "--storage /shared/runs"),
        (("train", "rlvr", "storage=runs"), STORAGE, "--storage /shared/runs"),
        (("list",), None, "--storage /shared/runs"),
        (("trane", "rlvr"), STORAGE, "not trane"),
        (("submit", "list"), STORAGE, "not submit"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_sent(
    words: tuple[str, ...], storage: Path | None, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        packed(*words, storage=storage)


def test_too_much_is_refused_with_the_largest(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # 3 MiB of data and 1 MiB of project at the most, of 2 MiB that are allowed; eleven files, of which ten are named.
    monkeypatch.setattr(upload, "MOST_BYTES", 2 * 2**20)
    for number in range(11):
        (folder / f"part{number:02}.jsonl").write_bytes(b"x" * (300_000 + number))
    files = {path.name: path for path in folder.glob("part*")}
    with pytest.raises(ConfigError, match="would be 3 MiB, and 2 are allowed") as caught:
        Upload(files, ()).write(folder / "there")
    lines = str(caught.value).splitlines()[1:]
    assert [line.rpartition("/")[2] for line in lines] == [f"part{number:02}.jsonl" for number in range(10, 0, -1)]
    assert not (folder / "there").exists()


def test_the_value_of_a_secret_is_not_sent(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_API_KEY", "sk-abcdefgh")
    with pytest.raises(ConfigError, match="the command holds the value of MY_API_KEY"):
        packed("train", "rlvr", "judge.api_key_env=sk-abcdefgh")
    (folder / "rewards/helper.py").write_text("ONE = 1.0\nKEY = 'sk-abcdefgh'\n")
    with pytest.raises(ConfigError, match=r"helper\.py holds the value of MY_API_KEY") as caught:
        packed("train", "my.yaml")
    assert "sk-abcdefgh" not in str(caught.value)
    assert packed("train", "rlvr", "judge.api_key_env=MY_API_KEY").words[-1] == "judge.api_key_env=MY_API_KEY"


def in_job(monkeypatch: pytest.MonkeyPatch, **given: Any) -> None:
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps(given))


def test_in_a_job_runs_and_files_outlive_the_upload(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder / "home"))
    assert compose("rlvr").storage == "runs"
    in_job(monkeypatch, runtime_env={"working_dir": "gcs://x.zip"})
    assert compose("rlvr").storage == str(folder / "home/runs")
    config = keep(compose("my.yaml", ["storage=/shared/runs", f"storage={folder}/kept"]))
    path = Path(str(config.reward.name).removesuffix(":score"))
    assert path.is_relative_to(folder / "kept/.cache/files")
    assert (path.read_text(), (path.parent / "helper.py").is_file()) == (REWARD, True)
    # The same files are found in the same place when the run is sent again; others elsewhere.
    again = keep(compose("my.yaml", [f"storage={folder}/kept"]))
    assert again.reward.name == config.reward.name
    (folder / "rewards/helper.py").write_text("ONE = 2.0\n")
    assert keep(compose("my.yaml", [f"storage={folder}/kept"])).reward.name != config.reward.name


def test_outside_a_job_nothing_is_moved(folder: Path) -> None:
    assert keep(compose("my.yaml")).reward.name == f"{folder}/rewards/my.py:score"
    assert job.lasting(Path("runs")) == Path("runs")


def test_a_job_without_its_secret_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    in_job(monkeypatch, metadata={job.SECRETS: "WANDB_API_KEY,MY_TOKEN"})
    monkeypatch.setenv("WANDB_API_KEY", "x")
    monkeypatch.delenv("MY_TOKEN", raising=False)
    with pytest.raises(ConfigError, match="MY_TOKEN: not set in the environment of the cluster's nodes"):
        job.check_secrets()
    monkeypatch.setenv("MY_TOKEN", "y")
    job.check_secrets()
