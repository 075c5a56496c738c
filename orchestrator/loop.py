"""The loop of a run, the same code on every rank of the learner; Ray Train starts it (`orchestrator.experiment`).

teach what is still to be taught -> [roll out -> judge -> update -> sync -> evaluate -> checkpoint] x steps
"""

from __future__ import annotations

import gc
import itertools
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import torch
import torch.distributed as dist

from orchestrator.config.compose import from_values
from orchestrator.config.schema import RunConfig
from orchestrator.config.workloads import find_workload
from orchestrator.contamination import guard
from orchestrator.director import Director, Refill
from orchestrator.errors import RunError
from orchestrator.examining import examine_taught
from orchestrator.fleets.fleet import Fleet
from orchestrator.fleets.server import PARTS
from orchestrator.fleets.specs import Seat, ServerSpec, own_seat, share_seats, specs_of
from orchestrator.fleets.transports import send_adapter, transport_of
from orchestrator.gathering import recall
from orchestrator.learning import checkpoints
from orchestrator.learning.batch import Batch
from orchestrator.learning.canaries import canary_of, played_cases
from orchestrator.learning.engine import Engine, start_deepspeed
from orchestrator.learning.lora import apart, check_origin, origin_of
from orchestrator.learning.model import TokenScorer, build, load, local_folder, served_weights
from orchestrator.learning.policy import PolicyLearner
from orchestrator.learning.spans import read
from orchestrator.learning.starting import StartingModel, load_tokenizer
from orchestrator.learning.tokenizer import padding_id
from orchestrator.records.canary import Canary
from orchestrator.records.folder import RunFolder, read_json
from orchestrator.schooling import teach_role
from orchestrator.values import POLICY

T = TypeVar("T")
P = ParamSpec("P")


def train(payload: Mapping[str, Any]) -> None:
    """Ray Train's worker function. payload: see `orchestrator.experiment.payload_of`; plain data and actor handles."""
    config, folder = from_values(payload["config"]), Path(payload["folder"])
    if not (folder / "config.yaml").is_file():
        raise RunError(f"storage: {socket.gethostname()} does not see {folder}. Name a folder that every node shares.")
    torch.set_num_threads(config.learner.threads_per_rank)
    start_deepspeed()
    models = [StartingModel(**values) for values in payload["models"]]
    workload: Any = find_workload(config.workload).workload(config)
    recall(workload, RunFolder(folder))
    workload = guard.recall(workload, RunFolder(folder))
    leads = dist.get_rank() == 0
    director = (
        Director(config, workload, folder, payload["servers"], payload["keys"], payload["pools"], payload["began"])
        if leads
        else None
    )
    with director or nullcontext():
        run(Rank(config, workload, director), models, payload["checkpoint"])


def run(rank: Rank, models: Sequence[StartingModel], checkpoint: str | None) -> None:
    """Teach what is still to be taught, then RL; without a policy only the exams. checkpoint: where to go on from."""
    if rank.colocated:
        rank.seat_fleets(models)
    taught: dict[str, StartingModel] = {}
    for model in models:
        if rank.from_rank_0(Director.stop_asked):
            return
        if model.to_teach:
            taught[model.role] = teach_role(rank, model)
    if rank.from_rank_0(Director.stop_asked):
        return
    by_role = {model.role: taught.get(model.role, model) for model in models}
    if POLICY not in by_role:
        rank.begin()
        rank.conclude(by_role, frozenset(taught))
        return
    learner = rank.learner(by_role["policy"])
    step = rank.restore(learner, Path(checkpoint)) if checkpoint else rank.begin()
    rank.prepare_fleets(learner, by_role, frozenset(taught), step)
    rank.train(learner, Path(by_role["policy"].folder), step)


class Rank:
    """One rank. director: on rank 0, None elsewhere."""

    def __init__(self, config: RunConfig, workload: Any, director: Director | None) -> None:
        self.config, self.workload, self.director = config, workload, director
        self.rank = dist.get_rank()
        self.roles = config.roles()
        # Not of a judge that nothing asks.
        self.lessons = {lesson.role: lesson for lesson in workload.lessons() if lesson.role in self.roles}
        self.colocated = config.colocated
        # Ranks wait for rank 0 as long as a rollout takes, and NCCL would keep the servers' GPUs busy with waiting.
        self.control = dist.new_group(backend="gloo", timeout=timedelta(days=1))
        self.transport = transport_of(config.transport(), config.sync, self.control)
        self.sent = False

    # --- fleets ---

    def seat_fleets(self, models: Sequence[StartingModel]) -> None:
        """Start the servers on the devices of the ranks, which say where they are."""
        seats: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(seats, own_seat(), group=self.control)
        if self.director:
            self.director.seat_fleets({model.role: self._specs(model, seats) for model in models if model.served})
        dist.barrier(self.control)

    def _specs(self, model: StartingModel, seats: Sequence[Seat]) -> list[ServerSpec]:
        shared = share_seats(seats, self.roles[model.role].fleet, model.role)
        return specs_of(self.config, model, shared)

    def learner(self, policy: StartingModel) -> PolicyLearner:
        """The policy under DeepSpeed, and beside it its frozen starting point and a critic where the objective needs them."""
        shape, algorithm = self.config.model, self.config.algorithm
        tokenizer = load_tokenizer(policy.folder)
        # With LoRA the policy without its adapters is the starting point.
        copied = algorithm.needs_reference and not self.config.learner.lora_rank

        def start() -> TokenScorer:
            return (
                load(policy.folder, shape.dtype, self.config.learner)
                if policy.has_weights
                else build(policy.folder, self.config.seed, shape.dtype, self.config.learner)
            )

        return PolicyLearner(
            start(),
            start() if copied else None,
            self.config.learner,
            algorithm,
            dtype=shape.dtype,
            rank=self.rank,
            pad_id=padding_id(tokenizer),
            max_logprob_gap=self.config.limits.logprob_gap_max,
            mean_logprob_gap=self.config.limits.logprob_gap_mean,
            steps=self.config.steps,
            critic=start() if algorithm.has_critic else None,
            seed=self.config.seed,
            reader=partial(read, tokenizer=tokenizer, model=shape),
        )

    def prepare_fleets(
        self, learner: PolicyLearner, models: Mapping[str, StartingModel], just_taught: frozenset[str], version: int
    ) -> None:
        """Give every fleet the weights it is to start with, and examine those that a lesson has questions for.

        version: of the policy's weights. A gate holds for what was taught here; others are only reported.
        """
        if self.director:
            self.director.wait_for_fleets()
        self.transport.connect(self.fleet)
        self.sync(learner, version)
        examine_taught(self, models, just_taught)
        if self.director:
            # Not with the policy's weights: what runs ahead is judged by the models that have just been given theirs.
            self.director.synced(version)

    def conclude(self, models: Mapping[str, StartingModel], just_taught: frozenset[str]) -> None:
        """A run without a policy: what was taught is served and examined, and its numbers are the run's only row."""
        if self.director:
            self.director.wait_for_fleets()
        if self.colocated:
            self._release_memory()
            self.from_rank_0(lambda director: director.wake(list(director.served), PARTS))
        numbers = examine_taught(self, models, just_taught)
        self.close_step(0, numbers)

    def sync(self, learner: PolicyLearner, version: int) -> None:
        """Give the policy's fleet the learner's weights. Colocated servers take the memory for them first, that for answering last."""
        with self.phase("sync"):
            if self.colocated:
                self._release_memory()
                self.from_rank_0(Director.wake, [POLICY], ["weights"])
            self._send(learner.engine, version)
            if self.colocated:
                self._release_memory()
                self.from_rank_0(Director.wake, [POLICY], ["kv_cache"])
                others = [role for role in self.director.served if role != POLICY] if self.director else []
                self.from_rank_0(Director.wake, others, PARTS)

    def _send(self, engine: Engine, version: int) -> None:
        """All weights, or those that adapters are added to once, and then the adapters (sync.lora)."""
        served, size = served_weights(engine.module), self.config.sync.bucket_bytes
        weights, adapters = apart(served) if self.config.sync.lora == "adapter" else (served, [])
        if not (adapters and self.sent):
            self.transport.send(self.fleet, version, engine.weights(weights, size))
        if adapters:
            send_adapter(self.fleet, version, engine.weights(adapters, size))
        self.sent = True

    @property
    def fleet(self) -> Fleet | None:
        """The policy's, on the rank that talks to it."""
        return self.director.served[POLICY] if self.director else None

    def _release_memory(self) -> None:
        """Give what PyTorch keeps for later back to the GPUs of all ranks."""
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        dist.barrier(self.control)

    # --- RL ---

    def train(self, learner: PolicyLearner, model_folder: Path, done: int) -> None:
        """The RL loop, from the step after `done`."""
        saved = done
        if done == 0 and not self.from_rank_0(Director.stop_asked):
            self.evaluate(learner, 0)
            self.close_step(0, {})
        for step in range(done + 1, self.config.steps + 1):
            if self.from_rank_0(Director.stop_asked):
                if saved < step - 1:
                    self.checkpoint(learner, step - 1, model_folder)
                break
            learned = self.train_step(learner, step)
            if step == self.config.steps or step % self.config.eval.every_steps == 0:
                self.evaluate(learner, step)
            # The row first: a checkpoint without its step's row would lose it for ever.
            self.close_step(step, learned)
            if step == self.config.steps or step % self.config.checkpoint.every_steps == 0:
                self.checkpoint(learner, step, model_folder)
                saved = step

    def train_step(self, learner: PolicyLearner, step: int) -> dict[str, float]:
        """One step: episodes, verdicts, update, sync. Returns the learner's metrics."""
        batch = self.collect(learner, step)
        with self.phase("learn"):
            learned = learner.update(batch, step - 1) if batch is not None else {}
        self.sync(learner, version=step)
        if self.director:
            self.director.synced(step)
        return learned

    def collect(self, learner: PolicyLearner, step: int) -> Batch | None:
        """Episodes and verdicts of a step; with dynamic sampling, round after round until the director has enough.

        Colocated servers sleep before the learner works: to answer a reward's queries, or at the end.
        """
        for refill in itertools.count():
            queries = self.from_rank_0(Director.play, step, "train", refill)
            if self.colocated and queries:
                self.from_rank_0(Director.rest)
            with self.phase("learn"):
                logits = learner.answer(queries, step - 1) if queries else []
                batch = self.from_rank_0(Director.batch, step, logits)
            if isinstance(batch, Refill):
                if self.colocated and queries:
                    self.sync(learner, version=step - 1)
                continue
            if self.colocated and not queries:
                self.from_rank_0(Director.rest)
            return batch
        raise AssertionError("the director asks for a bounded number of refills")

    def evaluate(self, learner: PolicyLearner, step: int) -> None:
        """Play the held-out tasks with the weights of this step and score them; first and last those of the test split too."""
        at_the_ends = step in (0, self.config.steps)
        for split in self.config.splits()[1:]:
            if split != "test" or at_the_ends:
                self.evaluate_split(learner, step, split)

    def evaluate_split(self, learner: PolicyLearner, step: int, split: str) -> None:
        """Play and score the tasks of one held-out split."""
        queries = self.from_rank_0(Director.play, step, split)
        logits = []
        if queries:
            if self.colocated:
                self.from_rank_0(Director.rest)
            logits = learner.answer(queries, step)
            if self.colocated:
                self.sync(learner, step)
        if self.director:
            with self.phase("eval"):
                self.director.evaluate(step, logits, split)

    def close_step(self, step: int, learned: Mapping[str, float]) -> None:
        """Write the step's row of metrics."""
        if self.director:
            policy = self.director.served.get(POLICY)
            version = {"sync/weight_version": policy.version} if policy else {}
            self.director.close_step(step, {**learned, **version})

    def begin(self) -> int:
        """Start before step 0; what an attempt that was lost before its first checkpoint recorded is dropped."""
        if self.director:
            self.director.rewind(0)
        return 0

    def restore(self, learner: PolicyLearner, checkpoint: Path) -> int:
        """Put the learner into the state of a checkpoint and the records back to its step. Returns the steps done."""
        if self.director:
            checkpoints.verify(checkpoint)
        dist.barrier(self.control)
        state = checkpoints.read_state(checkpoint)
        check_origin(state.get("lora"), self.origin(learner.engine), checkpoint)
        learner.load_state(lambda: checkpoints.read_tensors(checkpoint), state["optimizer_steps"])
        learner.steps_done, learner.optimizer_steps = state["steps_done"], state["optimizer_steps"]
        if len(state["random"]) == dist.get_world_size():
            checkpoints.restore_random(state["random"][self.rank])
        if self.director:
            self.director.rewind(state["step"])
        return int(state["step"])

    def checkpoint(self, learner: PolicyLearner, step: int, model_folder: Path) -> None:
        """Write everything the run needs to go on."""
        canary = self.canary(learner, step, model_folder)
        with self.phase("checkpoint"):
            served = self.copied_weights(learner.engine)
            random_states: list[Any] = [None] * dist.get_world_size()
            dist.all_gather_object(random_states, checkpoints.random_states(), group=self.control)
            state: dict[str, Any] = {
                "step": step,
                "weight_version": step,
                "optimizer_steps": learner.optimizer_steps,
                "steps_done": learner.steps_done,
                "random": random_states,
                "lora": self.origin(learner.engine),
            }
            folder = self.director.folder if self.director else None
            if folder:
                state |= {"seed": self.config.seed, "next_task": step * self.config.rollout.prompts_per_step}
                state |= {"wandb": read_json(folder.tracking) if folder.tracking.exists() else None}
            checkpoints.write(
                folder.checkpoints if folder else Path(),
                step,
                state,
                learner.state(),
                served,
                local_folder(str(model_folder)),
                self.config.checkpoint.keep,
                writer=folder is not None,
                canary=canary,
            )
            dist.barrier(self.control)

    def canary(self, learner: PolicyLearner, step: int, model_folder: Path) -> Canary:
        """What the policy's folder is recognised by; colocated servers sleep meanwhile, as for any pass of the learner."""
        tokenizer, shape = load_tokenizer(str(model_folder)), self.config.model
        cases = self.from_rank_0(lambda director: played_cases(director.folder, tokenizer, shape))
        if self.colocated:
            self.from_rank_0(Director.rest)
        with self.phase("checkpoint"):
            canary = canary_of(
                learner.engine,
                cases,
                tokenizer,
                shape,
                rank=self.rank,
                pad_id=padding_id(tokenizer),
                tokens=self.config.learner.tokens_per_microbatch,
            )
        if self.colocated:
            self.sync(learner, step)
        return canary

    # --- helpers ---

    def weights(self, engine: Engine) -> Iterator[dict[str, torch.Tensor]]:
        """The served weights, whole, a bucket at a time; each lasts until the next is asked for."""
        return engine.weights(served_weights(engine.module), self.config.sync.bucket_bytes)

    def origin(self, engine: Engine) -> dict[str, Any] | None:
        """What adapters belong to; see `origin_of`."""
        return origin_of(engine, self.config.learner, self.config.sync.bucket_bytes)

    def copied_weights(self, engine: Engine) -> dict[str, torch.Tensor] | None:
        """The served weights on the host, on rank 0; None on the ranks that only help to gather them."""
        copies: dict[str, torch.Tensor] = {}
        for bucket in self.weights(engine):
            if self.director:
                copies |= {name: tensor.to("cpu", copy=True) for name, tensor in bucket.items()}
        return copies if self.director else None

    def from_rank_0(self, method: Callable[Concatenate[Director, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What the director's method returns on rank 0, on every rank."""
        box: list[Any] = [method(self.director, *args, **kwargs) if self.director else None]
        dist.broadcast_object_list(box, src=0, group=self.control)
        return box[0]

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the block's seconds, on the rank that keeps the ledger."""
        with self.director.ledger.phase(name) if self.director else nullcontext():
            yield
