"""Settings of a run of this workload: its data, the defence, the attack, and who plays the agents."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.config.schema import DataConfig, ModelConfig, RaterConfig, ServedConfig, SftConfig, group, setting
from orchestrator.values import Sampling
from workloads.cdi.defences import DEFENCES, Defence, Guarding, Instructing, Prompting
from workloads.cdi.rewards import AD_REWARD, PP_REWARD

NONE, NORMS = "none", "norms"
ORDINARY, STRATEGIC, SEARCHED = "ordinary", "strategic", "searched"
"""Attacks: the recipient as the config has it; another strategy of persuasion in each cycle (miniature); what a search found."""


@dataclass
class CdiDataConfig(DataConfig):
    """Where configs come from, and what becomes of them."""

    source: str = setting(
        "mini",
        "`mini`: generated configs, scripted subjects and recipients, an exact judge; `files`: configs in the published JSON; `norms`: "
        "privacy norms of PrivacyLens, of which the models `generator` and `verifier` make configs.",
        choices=("mini", "files", NORMS),
    )
    path: str | None = setting(
        None,
        "files: a folder with the folders train and test of configs; norms: PrivacyLens' main_data.json.",
        file=True,
    )
    train_groups: int = setting(128, "Configs to train on; of files and norms so many at most.", low=1)
    eval_groups: int = setting(24, "Held-out configs; of files and norms they are taken from those to train on.", low=1)
    test_groups: int = setting(
        0,
        "Further held-out configs (of files: from test), which only the first and the last evaluation play, always whole.",
        low=0,
    )
    collect: bool = setting(
        False,
        "Play the training and held-out configs whole in place of the held-out ones alone (steps=0): what fails is what another run "
        "trains on (data.failures).",
    )
    failures: str | None = setting(
        None,
        "run:NAME, whose stored simulations (data.collect=true) are set back to before their leaks: these are trained on, and those of "
        "held-out configs are evaluated. null: whole simulations.",
    )
    failure_mode: str = setting(
        PP_REWARD,
        "What counts as a failure: `pp`, any leak; `ad`, a leak by which something useful was told too.",
        choices=(PP_REWARD, AD_REWARD),
    )
    most_failures: int = setting(30, "Held-out failures, at most (published: 30).", low=1)


@dataclass
class DefenceConfig:
    """How the sender is defended. Whoever watches, guard or instructor, is the policy."""

    name: str = setting(
        "cdi",
        "`none`; `prompting`, a text in the sender's task; `guarding`, a guard that may block a message; `cdi`, an instructor who "
        "speaks after each read.",
        choices=tuple(DEFENCES),
    )
    text: str = setting(
        "",
        "prompting: what is appended to the task; run:NAME: the best text that a run of cdi.prompts found; empty: the usual one on "
        "privacy.",
    )
    blocks: int = setting(
        1, "guarding: most blocks a cycle; then everything passes (the paper's number is not known).", low=0
    )

    def made(self) -> Defence:
        """The defence that is meant."""
        match self.name:
            case Prompting.name:
                return Prompting(text=self.text)
            case Guarding.name:
                return Guarding(blocks=self.blocks)
            case Instructing.name:
                return Instructing()
        return Defence()


@dataclass
class AttackConfig:
    """How the recipient asks. An attack is `ordinary`, `strategic`, `searched`, or the name of one strategy of the miniature."""

    train: str = setting(ORDINARY, "Attacks on training configs, with commas: each config is played under each.")
    held_out: str = setting(ORDINARY, "Attacks on held-out configs, with commas.")
    searched: str | None = setting(
        None,
        "searched: run:NAME of cdi.attacks, which searched these configs; the attack that it found on each is played.",
    )
    cycles: int = setting(2, "Miniature: how often a recipient asks.", low=1, high=4)


@dataclass
class LoopConfig:
    """Limits of a simulation of configs from files (published: 20 steps, 10 cycles, 50 acts a cycle)."""

    steps: int = setting(20, "Global steps, in each of which every agent may have a cycle.", low=1)
    cycles: int = setting(10, "Cycles of sender and recipient.", low=1)
    cycle_steps: int = setting(50, "Acts a cycle.", low=1)
    attempts: int = setting(5, "Attempts at a call until it is valid; then the cycle ends.", low=1)
    thinks: bool = setting(
        True, "Have agents write a thought before each act; models that think by themselves need none."
    )
    scripted_subject: bool = setting(False, "The subject tells everything in one message, without a model.")


@dataclass
class AgentConfig(RaterConfig):
    """A model that plays an agent."""

    name: str = setting(
        "mini",
        "Who plays it: `mini`, `hf:ID`, `path:FOLDER`, `run:NAME@ROLE` or the URL of an OpenAI-compatible server.",
    )
    model: ModelConfig = group(ModelConfig, "Its shape. The model that is meant is the setting `name` beside it.")
    training: SftConfig = group(SftConfig, "The sender's lesson in the miniature.")
    temperature: float = setting(1.0, "Sampling temperature (published: 1).", low=0.01)
    max_tokens: int = setting(512, "Longest thought or call.", low=1)
    structured: bool = setting(True, "Hold its calls to the form of a tool call, as small models need it.")

    @property
    def sampling(self) -> Sampling:
        """How it is sampled."""
        return Sampling(self.max_tokens, self.temperature)


@dataclass
class SenderConfig(AgentConfig):
    """The agent that is defended."""

    least_obedience: float = setting(
        0.0, "Miniature: least share of held-out instructions that it follows to the letter after its lesson; 0 only reports it.",
        low=0, high=1,
    )  # fmt: skip


@dataclass
class WriterConfig(ServedConfig):
    """A model that makes configs of norms, or checks them."""

    max_tokens: int = setting(4096, "Longest answer, its thinking included.", low=64)


@dataclass
class OptimiserConfig(ServedConfig):
    """A model that searches: attacks, or texts that defend."""

    max_tokens: int = setting(4096, "Longest answer, its thinking included.", low=64)
    temperature: float = setting(1.0, "Sampling temperature.", low=0.01)

    @property
    def sampling(self) -> Sampling:
        """How it is sampled."""
        return Sampling(self.max_tokens, self.temperature)


@dataclass
class SecondConfig(RaterConfig):
    """A judge beside the one that trains: nothing is learned from it."""

    name: str = setting(
        NONE, "`none`, `hf:ID`, `path:FOLDER`, `run:NAME@ROLE` or the URL of an OpenAI-compatible server."
    )
