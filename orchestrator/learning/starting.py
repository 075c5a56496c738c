"""The model a role starts from: built on the spot or referred to, and, once a lesson was taught, found again by content.

Runs in the driver, before any process of the run exists; imports no torch.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from orchestrator.config.own_code import own_code
from orchestrator.config.references import ModelReference, resolve
from orchestrator.config.schema import LearnerConfig, ModelConfig, Role, RunConfig
from orchestrator.errors import ConfigError
from orchestrator.records.folder import sha256
from orchestrator.values import POLICY, Task

LESSON_FORMAT, HEAD_FORMAT = 2, 2
"""Raise it when the way a lesson is taught changes, of any kind or of those that teach a head: taught models of before are then
taught anew."""
SFT, PREFERENCE = "sft", "preference"
KINDS = (SFT, PREFERENCE, "classification")
"""The kinds of lessons; `learning.lessons` says what each is."""
HELD_OUT = "held_out.json"
"""Report of a model that the learner itself examined, beside its weights."""
EXAMS = "exam-*.json"
"""Reports of exams that a server answered, beside the weights; the star stands for what was asked."""
WEIGHTS = "model.safetensors"
TOKENISED = 512
"""How many of the longest prompts, by characters, are tokenised before a run: among them is the longest in tokens."""
MESSAGE = ("role", "content")
"""Keys of a chat message."""
MODEL_FILES = (
    "*.safetensors", "*.bin", "config.json", "tokenizer*", "vocab*", "merges.txt", "*.model", "special_tokens_map.json",
    "added_tokens.json", "chat_template*",
)  # fmt: skip
"""What a model's folder is recognised by. Not what lies there besides, such as the reports of its exams."""


@dataclass(frozen=True, slots=True)
class StartingModel:
    """folder: configuration and tokenizer (a local folder or a hub id). has_weights: whether weights lie there too.
    taught: where the lesson's result belongs, None without a lesson. to_teach: whether the lesson is still to be taught. served: by
    a fleet of the run; a sequence classifier that nothing asks is only taught, and a shared model is served by its pool."""

    role: str
    folder: str
    has_weights: bool
    taught: str | None
    to_teach: bool
    served: bool = True

    def reference(self, storage: Path) -> str:
        """Where the model lies when RL begins: under the storage where it was taught there, else a folder or hub id."""
        folder = self.taught or self.folder
        inside = folder.startswith(f"{storage.resolve()}/")
        return str(Path(folder).relative_to(storage.resolve())) if inside else folder


def starting_model(
    name: str, role: Role, learner: LearnerConfig, workload: Any, lessons: Sequence[Any], storage: Path
) -> StartingModel:
    """Find or build the model of the role `name`. learner: trains its lesson. Raises ConfigError."""
    reference, cache = ModelReference.parse(role.name), storage / ".cache"
    built = reference.kind == "mini"
    lesson = next((lesson for lesson in lessons if lesson.role == name and is_taught(role)), None)
    if built and name != "policy" and lesson is None:
        raise ConfigError(
            f"{name}.name=mini: nothing teaches this model (no lesson, or its steps are 0); name weights instead, such as hf:ID, or "
            "for a judge the URL of a server."
        )
    folder = str(_build(name, role.model, workload, cache) if built else resolve(reference, storage))
    if lesson is None:
        if role.scores:
            _check_scores(f"{name}.name={role.name}", folder)
        return StartingModel(name, folder, not built, None, False, not role.shared)
    start = Path(folder).name if built else content_of(folder)
    asked = kind_of(lesson) == SFT or role.scores
    _check_kind(name, role, lesson)
    with own_code(f"the examples() of the {name}'s lesson", lesson):
        examples = lesson.examples()
    if not examples:
        raise ConfigError(
            f"the lesson of the {name} has no examples: the data hold nothing to teach. Name weights, such as hf:ID."
        )
    served = asked and not role.shared
    taught = cache / "taught" / f"{name}-{_lesson_key(start, role, learner, lesson, examples)}"
    if (taught / WEIGHTS).is_file():
        return StartingModel(name, str(taught), True, str(taught), False, served)
    if role.shared:
        raise ConfigError(
            f"{name}.shared needs a {name} that has its weights, and {role.name} is still to be taught. Teach it in a run of its own "
            f"(steps=0) and name it, {name}=run:NAME@{name}, or leave its lesson out ({name}.training.named_models=false)."
        )
    return StartingModel(name, folder, not built, str(taught), True, served)


def is_taught(role: Role) -> bool:
    """Whether a lesson of the role, if there is one, is taught."""
    built = ModelReference.parse(role.name).kind == "mini"
    return role.training.steps > 0 and (built or role.training.named_models)


def _check_kind(name: str, role: Role, lesson: Any) -> None:
    """A policy writes; a reward model scores whole answers, up to their end."""
    kind = kind_of(lesson)
    if name == POLICY and kind != SFT:
        raise ConfigError(f"the policy's lesson is of kind {kind}: a policy is taught by sft alone.")
    if role.scores and (kind != PREFERENCE or not lesson.end_token):
        raise ConfigError(
            f"the lesson of the {name} is of kind {kind}{'' if lesson.end_token else ', without end_token'}: a reward model that is "
            f"asked in a run is taught by a lesson of kind {PREFERENCE}, whose end_token is true."
        )


def _check_scores(where: str, folder: str) -> None:
    """Refuse a named model that is no reward model. Raises ConfigError."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{where}: its config.json cannot be read ({error}).") from error
    architecture = next(iter(config.architectures or ()), "")
    if not architecture.endswith("ForSequenceClassification") or config.num_labels != 1:
        raise ConfigError(
            f"{where}: {architecture or 'it'} with {config.num_labels} outputs is no reward model, which is a sequence classifier "
            "with one. Name one, or teach it: a workload's lesson of preference pairs makes one of any model that writes."
        )


def kind_of(lesson: Any) -> str:
    """The kind of a lesson, one of `KINDS`; "sft" where it says none. Raises ConfigError where there is no such kind."""
    kind = getattr(lesson, "kind", SFT)
    if kind not in KINDS:
        raise ConfigError(f"the lesson of the {lesson.role} is of kind {kind!r}: use one of {', '.join(KINDS)}.")
    return str(kind)


def held_out_of(lesson: Any) -> Sequence[Any]:
    """The examples on which the learner itself examines what it taught; none for SFT, whose exam asks a server."""
    return () if kind_of(lesson) == SFT else lesson.held_out()


def check_tasks(config: RunConfig, tasks: Mapping[str, Sequence[Task]], policy: StartingModel | None) -> None:
    """Refuse tasks that no run can be made of: none at all, fewer than a step takes, a prompt that fills the context.

    tasks: by split. The longest prompts are tokenised, as a server will render them. policy: None where none answers them. Raises
    ConfigError.
    """
    for split, found in tasks.items():
        if not found:
            raise ConfigError(f"data.source={config.data.source}: there is no {split} task. Look at data.path.")
    for split, found in tasks.items():
        check_form(split, found)
    if policy is None:
        return
    wanted, there = config.rollout.prompts_per_step, len(tasks["train"])
    if wanted > there:
        raise ConfigError(
            f"rollout.prompts_per_step={wanted} is more than the {there} training tasks: a step would repeat some. Lower it to "
            f"{there} or less (and raise rollout.samples_per_prompt), or add data."
        )
    tokenizer, context = load_tokenizer(policy.folder), config.model.context_tokens
    prompts = sorted((task for split in tasks.values() for task in split), key=_characters, reverse=True)[:TOKENISED]
    for task in prompts:
        try:
            rendered = tokenizer.apply_chat_template(
                list(task.messages), add_generation_prompt=True, return_dict=True, enable_thinking=config.model.thinking
            )
        except ValueError as error:
            raise ConfigError(
                f"model.name={config.model.name}: its tokenizer cannot render a chat ({error})."
            ) from error
        length = len(rendered["input_ids"])
        if length >= context:
            raise ConfigError(
                f"the prompt of task {task.id} has {length} tokens and leaves no room for an answer in "
                f"model.context_tokens={context}: raise it, or cut the prompt."
            )


def check_form(split: str, tasks: Sequence[Task]) -> None:
    """Refuse what is no task, or has another one's id: their episodes would be compared with each other."""
    seen: set[str] = set()
    for number, task in enumerate(tasks):
        if not isinstance(task, Task):
            raise ConfigError(f"{split} task {number} is {task!r:.80}: the workload's tasks() must return `Task`s.")
        for message in task.messages:
            if not isinstance(message, Mapping) or not all(isinstance(message.get(key), str) for key in MESSAGE):
                raise ConfigError(
                    f"{split} task {task.id!r} has the message {message!r:.80}: it must have {' and '.join(MESSAGE)}, both texts."
                )
        if task.id in seen:
            raise ConfigError(f"two {split} tasks have the id {task.id!r}: each needs its own.")
        seen.add(task.id)


def _characters(task: Task) -> int:
    return sum(len(message["content"]) for message in task.messages)


def load_tokenizer(folder: str) -> Any:
    """The tokenizer of a folder or a hub id. Raises ConfigError."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"{folder}: its tokenizer cannot be loaded ({error}).") from error


def _build(role: str, model: ModelConfig, workload: Any, cache: Path) -> Path:
    """Configuration and tokenizer of a small model, in a folder named by what they are made from."""
    from orchestrator.learning.tokenizer import build_model_folder, build_tokenizer

    with own_code("the workload's tokenizer_texts() and chat_template()", workload):
        words, texts = workload.tokenizer_texts()
        template = workload.chat_template(role)
    folder = cache / "built" / f"{role}-{digest([asdict(model), list(words), list(texts), template])}"
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as work:
        tokenizer, built = Path(work) / "tokenizer", Path(work) / "built"
        build_tokenizer(words, texts, model.bpe_tokens, template, tokenizer)
        build_model_folder(model, tokenizer, built)
        publish_folder(built, folder)
    return folder


def publish_folder(finished: Path, folder: Path) -> None:
    """Give a finished folder its name. Another run that made the same one at the same time is let have its way."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        finished.rename(folder)
    except OSError:
        if (folder / "config.json").is_file():
            shutil.rmtree(finished)
            return
        # Leftovers without a model, such as the report of an exam.
        shutil.rmtree(folder)
        finished.rename(folder)


def content_of(folder: str) -> str:
    """What a named model is: digest of its weights, configuration and tokenizer, or a hub id with its commit.

    Two names of one content are one model, and one name (`hf`, the folder in every checkpoint) may be many.
    Raises ConfigError where the hub does not know the id.
    """
    if not Path(folder).is_dir():
        return f"{folder}@{_hub_commit(folder)}"
    files = sorted({path for pattern in MODEL_FILES for path in Path(folder).glob(pattern) if path.is_file()})
    return digest({path.name: sha256(path) for path in files})


def _hub_commit(hub_id: str) -> str:
    """The commit that a hub id stands for now; without a connection, the one that was fetched last."""
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(hub_id, "config.json")).parent.name
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"hf:{hub_id}: its config.json can neither be fetched nor is it in the cache ({error}). Check the id, the "
            "connection and HF_TOKEN, or name a folder with path:FOLDER."
        ) from error


def _lesson_key(start: str, role: Role, learner: LearnerConfig, lesson: Any, examples: Sequence[Any]) -> str:
    """Digest of everything that decides the taught weights. start: says what model is taught, and not merely its name."""
    taught = hashlib.sha256()
    for example in (*examples, *held_out_of(lesson)):
        taught.update(repr(example).encode())
    kind = [] if kind_of(lesson) == SFT else [kind_of(lesson), HEAD_FORMAT]
    return digest(
        {
            "format": LESSON_FORMAT,
            "start": start,
            "model": asdict(replace(role.model, name="")),
            "training": asdict(role.training),
            "seed": role.seed,
            "learner": [learner.adam_beta2, learner.max_grad_norm],
            "lesson": [lesson.role, lesson.end_token, taught.hexdigest(), *kind],
        }
    )


def digest(value: Any) -> str:
    """Short content hash of plain JSON data."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:16]
