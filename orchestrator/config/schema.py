"""Every setting of a run, documented where it is declared. A workload adds groups of its own by subclassing `RunConfig`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from orchestrator.config.algorithm import AlgorithmConfig
from orchestrator.config.contamination import ContaminationConfig
from orchestrator.config.learner import LearnerConfig
from orchestrator.config.served import FleetConfig, JudgeConfig, ModelConfig, RaterConfig, ServedConfig, SftConfig
from orchestrator.config.served import RewardModelConfig as RewardModelConfig
from orchestrator.config.settings import group, setting

ADAPTER_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Room for adapters that vLLM's servers can have (sync.lora=adapter): the next one from learner.lora_rank on."""


@dataclass
class DataConfig:
    """Where tasks come from."""

    source: str = setting("mini", "Kind of data; `mini` is generated, the others are read from data.path.")
    path: str | None = setting(None, "File or folder that holds the data (not for mini).", file=True)
    seed: int = setting(
        0, "Seed of generated data and of splits. Independent of `seed`, so that seeds share one world.", low=0
    )
    train_groups: int = setting(
        256, "Dilemmas (or other units that are split as a whole) to train on, when data is generated.", low=1
    )
    eval_groups: int = setting(48, "Held-out dilemmas.", low=1)
    test_groups: int = setting(
        0,
        "Further held-out dilemmas, which only the first and the last evaluation ask (metrics test/…): what is reported of settings "
        "that were chosen on the others. 0: none.",
        low=0,
    )


@dataclass
class RewardConfig:
    """What an episode is worth: the workload's own reward, or a function of one's own."""

    name: str | None = setting(
        None,
        "A function of one's own, as path/to/file.py:function. Given the episodes of one task it returns a number, Scored or Unscored "
        "for each; no judge is started. null: the workload's own reward.",
    )
    gold: str | None = setting(
        None,
        "A function of the same form that returns the true worth (0 to 1) of held-out episodes; evaluations report it beside the "
        "reward, and nothing is trained on it. null: the workload's own gold, where it knows one.",
    )
    deadline_s: float = setting(
        30.0, "Longest wait for a function to score the episodes of one task; then they are unscored.", low=0.1
    )
    processes: int = setting(2, "Processes in which a function scores different tasks at once.", low=1)


@dataclass
class RolloutConfig:
    """How episodes are sampled."""

    prompts_per_step: int = setting(8, "Tasks a step.", low=1)
    samples_per_prompt: int = setting(8, "Episodes a task (the group).", low=1)
    max_completion_tokens: int = setting(64, "Longest completion.", low=1)
    temperature: float = setting(1.0, "Sampling temperature; the learner uses the same.", low=0.01)
    max_staleness: int = setting(
        0,
        "Versions by which the weights that sample may be older than those that are trained: rollouts run ahead while the learner "
        "works. 0 is strictly on-policy and can be repeated to the last bit.",
        low=0,
    )
    at_once: int = setting(
        0,
        "Episodes that are played at once; the next begins where one has ended. It bounds what long ones of many turns hold. 0: all "
        "of a step.",
        low=0,
    )
    fleet: FleetConfig = group(FleetConfig, "Servers of the policy.")


@dataclass
class PlacementConfig:
    """Which processes share GPUs."""

    name: str = setting(
        "split",
        "`split`: learner and servers each have GPUs of their own. `colocated`: the servers use the learner's GPUs while it waits, "
        "and sleep while it works.",
        choices=("split", "colocated"),
    )


@dataclass
class SyncConfig:
    """How new weights reach the policy's servers."""

    transport: str = setting(
        "auto",
        "`object_store` goes through the host's memory, `nccl` from GPU to GPU, `ipc` shares memory of one GPU; "
        "`auto` takes ipc where learner and servers are colocated on GPUs, nccl where both have GPUs, else object_store.",
        choices=("auto", "object_store", "nccl", "ipc"),
    )
    lora: str = setting(
        "merged",
        "With LoRA: `merged` sends the sum of weights and adapters; `adapter` sends the weights once and then the adapters alone, "
        "which the servers add themselves (small messages, slower sampling).",
        choices=("merged", "adapter"),
    )
    bucket_bytes: int = setting(256 * 2**20, "Weights that travel at once.", low=2**10)
    deadline_s: float = setting(300.0, "Longest wait for all servers to take a bucket.", low=1, indifferent=True)


@dataclass
class EvalConfig:
    """Evaluation on held-out tasks."""

    every_steps: int = setting(
        10, "Steps between evaluations; the first and the last step are always evaluated.", low=1
    )
    samples_per_task: int = setting(4, "Answers a held-out task, at rollout.temperature.", low=1)
    test_samples_per_task: int = setting(8, "Answers a task of the test split.", low=1)
    best_of: int = setting(
        8, "Answers a task for best-of-n of the starting policy, whatever the algorithm; 0 skips it.", low=0
    )


@dataclass
class CheckpointConfig:
    """What is kept."""

    every_steps: int = setting(20, "Steps between checkpoints; the last step is always saved.", low=1)
    keep: int = setting(2, "Newest checkpoints that are kept.", low=1, indifferent=True)


@dataclass
class TrackingConfig:
    """Weights & Biases."""

    project: str = setting("orchestrator", "W&B project.")
    group: str | None = setting(None, "W&B group; a sweep sets its name. null: the workload's name.")
    mode: str = setting(
        "auto",
        "`auto` is online when WANDB_API_KEY is set, else offline.",
        choices=("auto", "online", "offline", "disabled"),
    )
    upload_checkpoint: bool = setting(
        False, "Copy the last checkpoint into its W&B artifact, which else only says where the checkpoint lies."
    )


@dataclass
class ClusterConfig:
    """Where it runs."""

    address: str | None = setting(
        None, "Ray cluster to join (`auto` or `HOST:PORT`); by default RAY_ADDRESS, or a local Ray."
    )
    inventory: str | None = setting(
        None, "Hardware to plan for in a dry run: `1x24GB`, `8x80GB`, `2x8x80GB` (nodes x GPUs x memory)."
    )
    placement_deadline_s: float = setting(300.0, "Longest wait for Ray to place what fits.", low=1)


@dataclass
class LimitsConfig:
    """Bounds past which a run stops and names the metric."""

    logprob_gap_max: float = setting(
        1e-3,
        "Largest trainer-engine log-probability difference of any token. In bfloat16 single tokens differ much: allow 10.",
        low=0,
    )
    logprob_gap_mean: float = setting(
        1e-4, "Largest mean of that difference over a step's tokens (float32; bfloat16 needs about 0.05).", low=0
    )
    exposed_wait_notice_s: float = setting(30.0, "A longer wait says what it waits for.", low=1, indifferent=True)


@dataclass(frozen=True)
class Role:
    """A served model of a run. name: the model's reference. seed: of fresh weights and of its lesson, beside training.seed. shared:
    by the pool of all runs that ask it, not by servers of the run. scores: it is a reward model, which gives scalars."""

    name: str
    model: ModelConfig
    fleet: FleetConfig
    training: SftConfig
    seed: int
    shared: bool = False
    scores: bool = False

    @property
    def elsewhere(self) -> bool:
        """Whether a URL answers, which takes nothing from this cluster."""
        return self.name.startswith(("http://", "https://"))


@dataclass
class RunConfig:
    """One run. asks_judge: whether the workload's own reward asks a judge; false in the Config of one that asks none.

    has_test: whether the workload has tasks of a split "test" (data.test_groups). evaluates: whether its runs train nothing and only
    evaluate a model (`config.evaluation`). gathers_at_once: whether all models of `gathers` are served at the same time, so that a
    batch may ask several of them; else one after another.
    """

    asks_judge: ClassVar[bool] = True
    evaluates: ClassVar[bool] = False
    has_test: ClassVar[bool] = False
    gathers_at_once: ClassVar[bool] = False

    workload: str = setting("", "The workload: a name under workloads/.")
    name: str | None = setting(None, "Name of the run's folder (default: preset, seed and time).", indifferent=True)
    preset: str = setting(
        "mini",
        "Size of the run; a YAML of the workload's presets. Where model names weights (hf:, path:) and data.path data, and neither "
        "preset nor hardware is chosen, it is `small`, if the workload has one.",
    )
    hardware: str | None = setting(
        None,
        "Settings for a kind of machine (a YAML of orchestrator/config/presets/hardware): 1x24GB, 1x80GB, 8x80GB, 2x8x80GB.",
    )
    seed: int = setting(0, "Seed of the policy's warm-up and of sampling.", low=0)
    steps: int = setting(
        60, "RL steps. 0 teaches what is to be taught, examines it and evaluates the starting policy.", low=0
    )
    storage: str = setting("runs", "Folder of all runs and of the cache.", indifferent=True)
    mirror: str | None = setting(
        None,
        "A URL of fsspec (s3://BUCKET/runs) to copy the run's folder to; `train --resume URL/WORKLOAD/NAME` fetches it back.",
        indifferent=True,
    )
    data: DataConfig = group(DataConfig, "Where tasks come from.")
    contamination: ContaminationConfig = group(ContaminationConfig, "Training data that stand in evaluation data.")
    model: ModelConfig = group(ModelConfig, "The policy.")
    warmup: SftConfig = group(SftConfig, "SFT of the policy before RL.")
    judge: JudgeConfig = group(JudgeConfig, "The judge.")
    reward: RewardConfig = group(RewardConfig, "What an episode is worth.")
    algorithm: AlgorithmConfig = group(AlgorithmConfig, "The objective.")
    rollout: RolloutConfig = group(RolloutConfig, "Sampling.")
    learner: LearnerConfig = group(LearnerConfig, "DeepSpeed.")
    placement: PlacementConfig = group(PlacementConfig, "Which processes share GPUs.")
    sync: SyncConfig = group(SyncConfig, "How new weights reach the policy's servers.")
    eval: EvalConfig = group(EvalConfig, "Evaluation.")
    checkpoint: CheckpointConfig = group(CheckpointConfig, "Checkpoints.")
    tracking: TrackingConfig = group(TrackingConfig, "Experiment tracking.", indifferent=True)
    cluster: ClusterConfig = group(ClusterConfig, "Ray.", indifferent=True)
    limits: LimitsConfig = group(LimitsConfig, "When to stop.")

    def transport(self) -> str:
        """How new weights reach the policy's servers: sync.transport with `auto` resolved."""
        if self.sync.transport != "auto":
            return self.sync.transport
        if self.colocated:
            return "ipc" if self.learner.gpus_per_rank else "object_store"
        # NCCL refuses two processes on one GPU, where fractions may put them.
        whole = self.learner.gpus_per_rank == 1 and self.rollout.fleet.gpus_per_server >= 1
        return "nccl" if whole else "object_store"

    @property
    def colocated(self) -> bool:
        """Whether servers use the learner's GPUs; where nothing is trained they have their own."""
        return self.placement.name == "colocated" and not self.evaluates

    def splits(self) -> tuple[str, ...]:
        """Of the tasks: "train", "eval" and, where it is asked for, "test"."""
        return ("train", "eval", "test") if self.data.test_groups else ("train", "eval")

    def raters(self) -> dict[str, RaterConfig]:
        """The models that the workload's own reward asks, by role, which is also the name of the group of settings. A workload that
        asks others than the judge overrides it in its own Config."""
        return {"judge": self.judge} if self.asks_judge else {}

    def roles(self) -> dict[str, Role]:
        """The models of the run, by role: the policy and the raters, of which a reward function asks none.

        Without a policy there is no RL (steps=0): the others are taught, served and examined.
        """
        roles = {"policy": Role(self.model.name, self.model, self.rollout.fleet, self.warmup, self.seed)}
        if self.reward.name is None:
            for name, rater in self.raters().items():
                # Runs differ by seed in the policy, not in what judges it.
                roles[name] = Role(rater.name, rater.model, rater.fleet, rater.training, 0, rater.shared, rater.scores)
        return roles

    def retries(self) -> dict[str, int]:
        """Further attempts at a question that failed, by role."""
        return {name: rater.retries for name, rater in self.raters().items()}

    @property
    def learns(self) -> bool:
        """Whether there is a policy that RL trains, whose evaluations a sweep goes by."""
        return "policy" in self.roles() and not self.evaluates

    def gathers(self) -> dict[str, ServedConfig]:
        """The models that are asked before anything is taught, by the role of the calls (`Workload.gather`)."""
        return {}
