"""The files of clusters/: against the schemas of those who read them, and the Slurm script for real, with made-up commands."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer.main
import yaml
from kuberay_schema import schema_of

from orchestrator import cli
from orchestrator.config.compose import compose

ROOT = Path(__file__).parents[2]
CLUSTERS = ROOT / "clusters"
KUBERAY = sorted(CLUSTERS.glob("kuberay-*.yaml"))
RAY = Path(str(find_spec("ray").origin)).parent  # type: ignore[union-attr]
DEADLINE_S = 20.0


def documents(path: Path) -> list[Any]:
    return list(yaml.safe_load_all(path.read_text()))


def specs(path: Path) -> Iterator[dict[str, Any]]:
    """The clusters that a KubeRay file describes."""
    for document in documents(path):
        spec = document["spec"]
        if "headGroupSpec" in spec or "rayClusterSpec" in spec:
            yield spec.get("rayClusterSpec", spec)


def pods(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [group["template"]["spec"] for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"])]


def commands(text: str) -> list[list[str]]:
    """The words of every `python -m orchestrator …` in a text, up to what ends a shell's command."""
    joined = " ".join(text.replace("\\\n", " ").split())
    return [shlex.split(found) for found in re.findall(r"python -m orchestrator ([^;'&|]+)", joined)]


def check_command(words: Sequence[str]) -> None:
    """The verb, its options and its settings are there."""
    command: Any = typer.main.get_command(cli.app)
    given = command.commands[words[0]].make_context(words[0], list(words[1:])).params
    if given.get("target"):
        compose(given["target"], given["overrides"] or [])


@pytest.mark.parametrize("path", KUBERAY, ids=lambda path: path.stem)
def test_kuberay_knows_every_field(path: Path) -> None:
    for document in documents(path):
        jsonschema.validate(document, schema_of(document["kind"]))


def test_a_field_that_kuberay_does_not_know_is_found() -> None:
    document = next(item for item in documents(KUBERAY[0]) if item["kind"] == "RayCluster")
    for change in ({"headGroupSpecs": {}}, {"rayVersion": 2.6}, {"authOptions": {"mode": "yes"}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(document | {"spec": document["spec"] | change}, schema_of("RayCluster"))


@pytest.mark.parametrize("path", KUBERAY, ids=lambda path: path.stem)
def test_kuberay_clusters_keep_the_promises(path: Path) -> None:
    """A head without work, a token, one Ray version, one image, a shared folder on every node, secrets by reference."""
    pinned = re.search(r"^ray==(.+)$", (ROOT / "constraints/gpu.txt").read_text(), re.MULTILINE)
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert pinned
    assert version
    for spec in specs(path):
        assert spec["rayVersion"] == pinned[1]
        assert spec["authOptions"] == {"mode": "token"}
        start = spec["headGroupSpec"]["rayStartParams"]
        assert (start["num-cpus"], start["num-gpus"]) == ("0", "0")
        images = {container["image"] for pod in pods(spec) for container in pod["containers"]}
        assert {image.rpartition(":")[2] for image in images} == {f"{version[1]}-gpu"}
        for pod in pods(spec):
            volumes = {volume["name"] for volume in pod.get("volumes", [])}
            for container in pod["containers"]:
                assert {mount["name"] for mount in container.get("volumeMounts", [])} <= volumes
        for group in spec["workerGroupSpecs"]:
            container = group["template"]["spec"]["containers"][0]
            assert "/shared" in {mount["mountPath"] for mount in container["volumeMounts"]}
            assert container["envFrom"] == [{"secretRef": {"name": "orchestrate-secrets", "optional": True}}]
            assert group["minReplicas"] >= 1  # a driver needs a node to go to


def test_the_rayjob_begins_and_goes_on() -> None:
    spec = documents(CLUSTERS / "kuberay-rayjob.yaml")[0]["spec"]
    assert subprocess.run(["bash", "-n", "-c", spec["entrypoint"]], check=True)
    assert spec["entrypointNumCpus"] > 0  # of which the head has none
    told = commands(spec["entrypoint"])
    assert [words[:2] for words in told] == [["train", "--resume"], ["train", "rlvr"]]
    for words in told:
        check_command(words)
    assert list(yaml.safe_load(spec["runtimeEnvYAML"])["env_vars"]) == ["RAY_JOB_STOP_WAIT_TIME_S"]


def test_the_launcher_is_what_ray_reads() -> None:
    launcher = documents(CLUSTERS / "ray-launcher.yaml")[0]
    schema = json.loads((RAY / "autoscaler/ray-schema.json").read_text())
    jsonschema.validate(launcher, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(launcher | {"head_start_commands": []}, schema)
    assert "--num-cpus=0 --num-gpus=0" in launcher["head_start_ray_commands"][-1]
    assert "--env RAY_AUTH_MODE=token" in launcher["docker"]["run_options"]


def test_options_of_ray_start_exist() -> None:
    """Every option with which a file of clusters/ calls `ray start`."""
    # Read, not imported: it would take longer than all the other tests of this file.
    known = set(re.findall(r'"(--[a-z-]+)"', (RAY / "scripts/scripts.py").read_text()))
    for path in CLUSTERS.iterdir():
        text = path.read_text().replace("\\\n", " ")
        for line in re.findall(r"ray start ([^>\n]*)", text):
            assert set(re.findall(r"--[a-z-]+", line)) <= known, (path.name, line)


def test_the_page_names_files_that_are_there() -> None:
    page = (CLUSTERS / "README.md").read_text()
    for name in re.findall(r"[\w.-]+\.(?:sh|sbatch|yaml)", page):
        assert (CLUSTERS / name).is_file(), name
    assert len(page.splitlines()) < 60
    for path in (CLUSTERS / "local.sh", CLUSTERS / "slurm.sbatch"):
        assert subprocess.run(["bash", "-n", path], check=True)
        assert path.stat().st_mode & 0o100 or path.suffix == ".sbatch"
    assert path.read_text().startswith("#!/usr/bin/env bash\n")


# --- the Slurm script, run ---

RECORD = 'echo "$(basename "$0") $*" >> "$CALLS"\n'
STAND_INS = {
    "ray": RECORD
    + """case $1 in
start) exec sleep 60 ;;
health-check) grep '^ray start --head' "$CALLS" > /dev/null ;;
status) echo Active:; echo " 1 node_head"; grep ^srun "$CALLS" > /dev/null && printf " 1 node_x\\n 1 node_y\\n" ;;
esac
""",
    "srun": RECORD + '[ "$RAY_AUTH_MODE" = token ] && [ ${#RAY_AUTH_TOKEN} = 64 ] && exec sleep 60\n',
    "scontrol": RECORD,
    # The driver: one that is asked to stop writes a checkpoint and ends with 130, as `orchestrate train` does.
    "python": RECORD
    + """
folder=$STORAGE/rlvr/slurm-7/checkpoints
mkdir -p "$folder"
trap 'touch "$folder/LATEST"; exit 130' TERM
[ ! -e "$STORAGE/fail" ] || exit 3
[ ! -e "$STORAGE/endless" ] || for _ in $(seq 200); do sleep 0.1; done
""",
}


@pytest.fixture
def slurm(tmp_path: Path) -> Path:
    """A folder with made-up commands in bin/ and the storage beside it."""
    for name, script in STAND_INS.items():
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/usr/bin/env bash\n{script}")
        path.chmod(0o755)
    (tmp_path / "runs").mkdir()
    return tmp_path


def sbatch(folder: Path, *words: str, **more: str) -> subprocess.Popen[bytes]:
    environment = {"PATH": f"{folder}/bin:{os.environ['PATH']}", "CALLS": f"{folder}/calls", "HOME": str(folder)}
    environment |= {"STORAGE": f"{folder}/runs", "SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "2"} | more
    command = ["bash", str(CLUSTERS / "slurm.sbatch"), *words]
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def calls(folder: Path, name: str) -> list[str]:
    path = folder / "calls"
    lines = path.read_text().splitlines() if path.exists() else []
    return [line.removeprefix(f"{name} ") for line in lines if line.startswith(f"{name} ")]


def wait_for(folder: Path, name: str) -> str:
    """The first call of a command."""
    until = time.monotonic() + DEADLINE_S
    while time.monotonic() < until:
        if found := calls(folder, name):
            return found[0]
        time.sleep(0.05)
    raise AssertionError(f"{name} was not called")


def test_slurm_starts_ray_on_every_node_and_runs_the_verb(slurm: Path) -> None:
    job = sbatch(slurm, "train", "rlvr", "steps=100")
    assert job.wait(DEADLINE_S) == 0, job.stderr and job.stderr.read()
    assert "start --head --block" in "".join(calls(slurm, "ray"))
    assert "--num-cpus=0 --num-gpus=0" in "".join(calls(slurm, "ray"))
    address = next(line for line in calls(slurm, "ray") if line.startswith("health-check")).split()[-1]
    assert address.endswith(":20007")  # 20000 + the job's number
    assert calls(slurm, "srun")[0].startswith("--nodes=2 --ntasks=2 --ntasks-per-node=1 ray start --block")
    assert f"--address={address}" in calls(slurm, "srun")[0]
    words = ["train", "rlvr", "steps=100", "name=slurm-7", f"storage={slurm}/runs"]
    assert calls(slurm, "python") == [f"-m orchestrator {' '.join(words)}"]
    check_command(words)
    assert calls(slurm, "scontrol") == []
    assert re.search(r"[0-9a-f]{64}", (slurm / "calls").read_text()) is None  # the token is in no command


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_slurm_stops_before_the_limit_and_goes_on_when_it_is_queued_again(slurm: Path, number: int) -> None:
    (slurm / "runs/endless").touch()
    job = sbatch(slurm, "train", "rlvr")
    wait_for(slurm, "python")
    time.sleep(0.5)  # the script is waiting by now
    job.send_signal(number)
    assert job.wait(DEADLINE_S) == 130
    assert calls(slurm, "scontrol") == ["requeue 7"]
    assert (slurm / "runs/rlvr/slurm-7/checkpoints/LATEST").exists()
    (slurm / "runs/endless").unlink()
    (slurm / "calls").unlink()
    job = sbatch(slurm, "train", "rlvr", SLURM_RESTART_COUNT="1")
    assert job.wait(DEADLINE_S) == 0
    words = ["train", "--resume", "slurm-7", "--storage", f"{slurm}/runs"]
    assert calls(slurm, "python") == [f"-m orchestrator {' '.join(words)}"]
    check_command(words)


def test_slurm_does_not_queue_a_failure_again(slurm: Path) -> None:
    (slurm / "runs/fail").touch()
    assert sbatch(slurm, "train", "rlvr").wait(DEADLINE_S) == 3
    assert calls(slurm, "scontrol") == []
    # It ended before its first checkpoint, so that it begins again, and what it left stays.
    (slurm / "runs/fail").unlink()
    assert sbatch(slurm, "train", "rlvr", SLURM_RESTART_COUNT="1").wait(DEADLINE_S) == 0
    assert sorted(path.name for path in (slurm / "runs/rlvr").iterdir()) == ["slurm-7", "slurm-7.before-1"]


def test_slurm_gives_up_where_nodes_do_not_join(slurm: Path) -> None:
    job = sbatch(slurm, "train", "rlvr", SLURM_JOB_NUM_NODES="3", DEADLINE_S="2")
    assert job.wait(DEADLINE_S) == 1
    assert job.stderr
    assert b"3 of 4 Ray nodes after 2 s" in job.stderr.read()
    assert calls(slurm, "python") == []
    job = sbatch(slurm, "train", "rlvr", STORAGE="")
    assert job.wait(DEADLINE_S) != 0
