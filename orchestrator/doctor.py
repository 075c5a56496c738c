"""`orchestrate doctor`: whether this machine and this installation can run an experiment, and what to do where they cannot.

Each check is a function of facts, so that its failures can be tested; `examine` collects the facts. What may crash, hang or
import for long (Ray, vLLM, DeepSpeed) runs in a process of its own, with a deadline.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from orchestrator.cluster.session import OBJECT_STORE_BYTES
from orchestrator.config.schema import ClusterConfig, FleetConfig, LearnerConfig, ModelConfig, SftConfig
from orchestrator.records.folder import nearest, unwritable

OK, WARNING, FAILED = "ok", "warning", "failed"
OLDEST_PYTHON = (3, 11)
OLDEST_DRIVER = {12: 525, 13: 580}
"""CUDA's major version -> the first driver branch that runs it (NVIDIA's table of minor-version compatibility)."""
LEAST_BYTES, COMFORTABLE_BYTES = 2**30, 10 * 2**30
"""Free disk: the miniature writes some 100 MB a run; a model of 0.6 billion weights about 8 GB a checkpoint."""
PORTS = 32
"""Ports that are opened at once: a local Ray listens on about twenty."""
WANDB_KEY_CHARACTERS = 40
DEADLINE_S = 300.0
"""Longest wait for one self-test; on two idle cores the slowest takes half a minute."""
CONSTRAINTS = Path(__file__).resolve().parents[1] / "constraints"
REINSTALL = "rm -rf .venv && make install"


@dataclass(frozen=True, slots=True)
class Check:
    """One finding. state: OK, WARNING (some runs fail or are slow) or FAILED (none works). remedy: what to do, where not OK."""

    name: str
    state: str
    found: str
    remedy: str = ""


def examine(storage: Path, quick: bool) -> Iterator[Check]:
    """Every check in turn. storage: the folder of all runs, which need not exist. quick: without Ray and the self-tests."""
    installed = installed_packages()
    stack = stack_of(installed)
    cuda = installed.get("nvidia-cuda-runtime") or installed.get("nvidia-cuda-runtime-cu12")
    pins = CONSTRAINTS / f"{stack}.txt"
    yield python(sys.version_info[:2], sys.platform, platform.machine())
    yield compiler(stack, shutil.which("g++"))
    yield driver(stack, driver_version(Path("/proc/driver/nvidia/version")), cuda)
    yield packages(installed, required_packages(stack), pinned(pins.read_text()) if pins.is_file() else None)
    yield torch(stack, installed.get("torch"))
    yield disk(storage, shutil.disk_usage(nearest(storage)).free, unwritable(storage))
    yield shared_memory(shutil.disk_usage("/dev/shm").total if Path("/dev/shm").is_dir() else 0)
    yield loopback(connect_to_oneself())
    yield tracking(os.environ)
    hub = Path(os.environ.get("HF_HUB_CACHE") or os.environ.get("HF_HOME") or "~/.cache/huggingface").expanduser()
    yield hub_cache(hub, unwritable(hub))
    for name in () if quick else SELF_TESTS:
        yield self_test(name, *run_self_test(name))


# --- the checks: functions of facts ---


def python(version: tuple[int, ...], system: str, machine: str) -> Check:
    """Whether the pinned packages have wheels for this Python and this machine."""
    found = f"{'.'.join(map(str, version))} on {system} {machine}"
    if version < OLDEST_PYTHON:
        return Check("Python", FAILED, found, "Install Python 3.11 or newer, then make PYTHON=python3.11 install.")
    if (system, machine) != ("linux", "x86_64"):
        return Check("Python", FAILED, found, "vLLM has no wheels for this platform: use clusters/Dockerfile.")
    return Check("Python", OK, found)


def compiler(stack: str, path: str | None) -> Check:
    """g++, without which some GPU kernels cannot be built at the first use."""
    if path or stack != "gpu":
        return Check("compiler", OK, path or "no g++; only GPU kernels need one")
    return Check("compiler", WARNING, "no g++", "Some GPU kernels are compiled at first use: install g++.")


def driver(stack: str, version: str | None, cuda: str | None) -> Check:
    """The NVIDIA driver against the installed stack. version: of the driver, None without one. cuda: the stack's own."""
    found = f"{version or 'no NVIDIA driver'}, {stack.upper()} stack"
    if stack == "gpu" and version is None:
        return Check("driver", FAILED, found, "Install the NVIDIA driver, or the CPU stack: STACK=cpu make install.")
    if stack == "cpu" and version is not None:
        return Check(
            "driver", WARNING, found, "The GPUs are not used. For the GPU stack: make install (without STACK=cpu)."
        )
    oldest = OLDEST_DRIVER.get(int(cuda.split(".")[0])) if cuda else None
    if stack == "gpu" and version and oldest and int(version.split(".")[0]) < oldest:
        remedy = f"CUDA {cuda} needs driver {oldest} or newer: update it, or STACK=cpu make install."
        return Check("driver", FAILED, found, remedy)
    return Check("driver", OK, found)


def packages(installed: Mapping[str, str], required: Sequence[str], pins: Mapping[str, str] | None) -> Check:
    """Versions by normalised name. required: names without which nothing runs. pins: the versions that were run together."""
    missing = [name for name in required if name not in installed]
    if missing:
        return Check("packages", FAILED, f"missing: {_some(missing)}", f"Install them: {REINSTALL}.")
    if pins is None:
        return Check("packages", OK, f"{len(installed)} installed (no constraints here to compare them with)")
    other = [
        f"{name} {installed[name]} (not {version})"
        for name, version in pins.items()
        if name in installed and installed[name].partition("+")[0] != version.partition("+")[0]
    ]
    if other:
        remedy = f"These were not run together. The pinned versions: {REINSTALL}."
        return Check("packages", WARNING, _some(other), remedy)
    return Check("packages", OK, f"{len(installed)} installed, as constraints/ pins them")


def torch(stack: str, version: str | None) -> Check:
    """Whether torch's build (its local version) is that of the stack."""
    if version is None:
        return Check("torch", FAILED, "not installed", f"Install it: {REINSTALL}.")
    on_cpu = version.partition("+")[2] == "cpu"
    if stack == "gpu" and on_cpu:
        return Check("torch", FAILED, f"{version} on the GPU stack", f"This build knows no GPU: {REINSTALL}.")
    if stack == "cpu" and not on_cpu:
        remedy = f"vLLM's CPU build was made for torch's CPU build, which is also smaller by gigabytes: {REINSTALL}."
        return Check("torch", WARNING, f"{version} on the CPU stack", remedy)
    return Check("torch", OK, version)


def disk(storage: Path, free: int, problem: str | None) -> Check:
    """Room for runs. problem: why nothing can be written there."""
    found = f"{_gib(free)} free in {storage}"
    if problem:
        return Check("disk", FAILED, f"{storage}: {problem}", "Name a folder that can be written: storage=FOLDER.")
    if free < LEAST_BYTES:
        return Check("disk", FAILED, found, "Make room, or name a folder on another disk: storage=FOLDER.")
    if free < COMFORTABLE_BYTES:
        return Check("disk", WARNING, found, "Enough for the miniature only. On another disk: storage=FOLDER.")
    return Check("disk", OK, found)


def shared_memory(total: int) -> Check:
    """/dev/shm, where Ray keeps its objects."""
    if total < OBJECT_STORE_BYTES:
        remedy = "Ray will keep its objects on disk, slowly. In a container: docker run --shm-size 4g."
        return Check("/dev/shm", WARNING, _gib(total), remedy)
    return Check("/dev/shm", OK, _gib(total))


def loopback(problem: str | None) -> Check:
    """Whether processes of this machine can reach each other. problem: what failed."""
    if problem:
        remedy = "Ray needs free ports and a loopback device: ip link set lo up, and see ulimit -n."
        return Check("ports", FAILED, problem, remedy)
    return Check("ports", OK, f"{PORTS} free ports on 127.0.0.1")


def tracking(environment: Mapping[str, str]) -> Check:
    """How a run with tracking.mode=auto is mirrored. Says nothing of the key but whether it can be one."""
    key = environment.get("WANDB_API_KEY")
    if not key:
        return Check("W&B", OK, "offline (WANDB_API_KEY is not set); runs are complete without it")
    if len(key.strip()) < WANDB_KEY_CHARACTERS:
        remedy = "Set the whole key, or unset WANDB_API_KEY to stay offline."
        return Check("W&B", WARNING, "WANDB_API_KEY is set, but too short for a key", remedy)
    return Check("W&B", OK, "online (WANDB_API_KEY is set)")


def hub_cache(folder: Path, problem: str | None) -> Check:
    """Whether models of the hub can be kept. problem: why not."""
    if problem:
        return Check("HF_HOME", WARNING, f"{folder}: {problem}", "For hf:ID models set HF_HOME to a folder of yours.")
    return Check("HF_HOME", OK, str(folder))


def self_test(name: str, seconds: float, result: str | None, words: str) -> Check:
    """A self-test that ran. result: what it found; None where it failed, for the reason in `words`."""
    if result is not None:
        return Check(name, OK, f"{result} ({seconds:.0f} s)")
    return Check(name, FAILED, f"after {seconds:.0f} s: {words}", REMEDIES[name])


def _some(items: Sequence[str], most: int = 5) -> str:
    return ", ".join(items[:most]) + (f" and {len(items) - most} more" if len(items) > most else "")


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"


# --- collecting facts ---


def installed_packages() -> dict[str, str]:
    """Normalised name -> version of everything that is installed."""
    named = [(item.metadata["Name"] if item.metadata else None, item) for item in metadata.distributions()]
    return {_normalised(name): item.version for name, item in named if name}


def stack_of(installed: Mapping[str, str]) -> str:
    """`gpu` where vLLM's own build is installed, else `cpu`."""
    return "gpu" if "vllm" in installed else "cpu"


def required_packages(stack: str) -> list[str]:
    """Normalised names that the project's own metadata asks for on this stack."""
    from packaging.requirements import Requirement

    try:
        lines = metadata.requires("orchestrator") or []
    except metadata.PackageNotFoundError:
        return ["orchestrator"]
    wanted = [Requirement(line) for line in lines]
    return [_normalised(item.name) for item in wanted if item.marker is None or item.marker.evaluate({"extra": stack})]


def pinned(text: str) -> dict[str, str]:
    """Normalised name -> version of the `name==version` lines of a constraints file."""
    lines = (re.match(r"([\w.-]+)==([^\s;]+)", line) for line in text.splitlines())
    return {_normalised(line[1]): line[2] for line in lines if line}


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def driver_version(path: Path) -> str | None:
    """The NVIDIA driver's version, such as 580.65.06, from the file in which its kernel module tells it."""
    told = re.search(r"\b(\d{3,}\.\d+(?:\.\d+)?)\b", path.read_text()) if path.is_file() else None
    return told[1] if told else None


def connect_to_oneself() -> str | None:
    """Listen on PORTS ports at once and reach the last through the loopback device. Returns what failed."""
    try:
        with ExitStack() as stack:
            servers = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(PORTS)]
            stack.enter_context(socket.create_connection(servers[-1].getsockname(), timeout=5))
            stack.enter_context(servers[-1].accept()[0])
    except OSError as error:
        return f"cannot listen on and connect to 127.0.0.1: {error}"
    return None


# --- self-tests: each runs as `python -m orchestrator.doctor NAME FOLDER` and returns what it found ---


def start_ray(folder: Path) -> str:
    """Connect as a run does, and have a worker do one task."""
    from orchestrator.cluster.session import connected

    with connected(ClusterConfig()) as ray:
        task = ray.remote(num_cpus=0)(lambda: platform.node())
        where = ray.get(task.remote(), timeout=DEADLINE_S / 2)
        return f"{ray.cluster_resources().get('CPU', 0):g} logical CPUs, a task was done on {where}"


def ask_vllm(folder: Path) -> str:
    """Serve a tiny model with placeholder weights and ask it for a verdict. Raises ValueError where that is none."""
    from orchestrator.fleets.server import VllmServer
    from orchestrator.fleets.specs import ServerSpec
    from orchestrator.values import Call, Choice

    on_gpu = stack_of(installed_packages()) == "gpu"
    fleet = FleetConfig(gpus_per_server=int(on_gpu), gpu_memory_share=0.2, kv_cache_bytes=2**26)
    shape = _tiny_model(folder)
    server = VllmServer(ServerSpec("judge", 0, str(folder / "model"), False, shape, fleet))
    question = ({"role": "user", "content": "is this a test ?"},)
    answers, _ = server.complete([Call("doctor", "judge", question, choices=("yes", "no"))], version=-1, number=0)
    if not isinstance(answers[0], Choice) or not 0 < sum(answers[0].probabilities.values()) <= 1 + 1e-6:
        raise ValueError(f"asked for a choice of yes and no, the engine answered {answers[0]}")
    return f"an engine on the {'GPU' if on_gpu else 'CPU'} answered"


def step_deepspeed(folder: Path) -> str:
    """One optimizer step of a tiny model on one rank."""
    import torch
    import torch.distributed as dist

    from orchestrator.learning import engine, model
    from orchestrator.learning.rows import Row
    from orchestrator.learning.sft import negative_log_likelihood
    from orchestrator.learning.teaching import teach

    os.environ.update(RANK="0", WORLD_SIZE="1", LOCAL_RANK="0")
    torch.set_num_threads(1)
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    engine.start_deepspeed()
    _tiny_model(folder)
    losses: list[float] = []
    rows = [Row((3, 4), ((5, 6),), (2,))]
    teach(
        model.build(folder / "model", 0, "float32"), rows, negative_log_likelihood, SftConfig(1, 1), LearnerConfig(1),
        dtype="float32", rank=0, pad_id=0, progress=lambda step, loss: losses.append(loss),
    )  # fmt: skip
    dist.destroy_process_group()
    return f"a ZeRO-{LearnerConfig().zero_stage} step over {backend}, loss {losses[0]:.2f}"


def _tiny_model(folder: Path) -> ModelConfig:
    """Write a model without weights to folder/model."""
    from orchestrator.learning.tokenizer import build_model_folder, build_tokenizer

    shape = ModelConfig(hidden_size=64, layers=1, heads=2, kv_heads=1, context_tokens=64)
    build_tokenizer(("this", "is", "a", "test"), (), 0, None, folder / "tokenizer")
    build_model_folder(shape, folder / "tokenizer", folder / "model")
    return shape


SELF_TESTS: dict[str, Callable[[Path], str]] = {"Ray": start_ray, "vLLM": ask_vllm, "DeepSpeed": step_deepspeed}
REMEDIES = {
    "Ray": "See ports and /dev/shm above, unset RAY_ADDRESS if that cluster is gone, or reinstall.",
    "vLLM": f"On GPUs look for other processes that hold their memory; else see packages above, or {REINSTALL}.",
    "DeepSpeed": f"See packages, torch and driver above, or {REINSTALL}.",
}


def run_self_test(name: str, deadline_s: float = DEADLINE_S) -> tuple[float, str | None, str]:
    """(seconds, what the self-test found or None, its last words where it failed)."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "orchestrator.doctor", name, folder]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=deadline_s, check=False)
        except subprocess.TimeoutExpired:
            return time.monotonic() - started, None, "no answer until the deadline"
        result = Path(folder) / "result"
        found = result.read_text() if done.returncode == 0 and result.is_file() else None
        return time.monotonic() - started, found, last_words(done.stderr, done.returncode)


def last_words(stderr: str, status: int) -> str:
    """The line that says what went wrong: that of the last exception, else the last one."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"[\w.]*(?:Error|Exception|Interrupt)\b", line)]
    return ((errors or lines or [""])[-1] or f"ended with status {status}")[:300]


if __name__ == "__main__":
    (Path(sys.argv[2]) / "result").write_text(SELF_TESTS[sys.argv[1]](Path(sys.argv[2])))
