"""A vLLM engine inside a Ray actor. One batch of calls at a time: a step's batches in their order decide every bit.

vLLM is imported in the actor alone; this module can be imported anywhere.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.fleets.choices import ChoiceTokens
from orchestrator.fleets.specs import ServerSpec, engine_arguments
from orchestrator.learning.calibration import Calibration, calibration_of
from orchestrator.records.canary import read_to_the_end, rendered
from orchestrator.values import Answer, Call, Fault, Score, Turn

NO_WEIGHTS = -1
"""The version of placeholder weights and of weights that arrived in part, which must never be sampled from."""
PARTS = ("weights", "kv_cache")
"""What sleeps, in the order in which it wakes (vLLM's tags)."""
CONTROL_GROUP = "control"
"""Concurrency group of health checks, which must be answered while a batch is running."""


class StaleWeightsError(RuntimeError):
    """A server was asked to answer with weights that it does not hold: it was restarted since they were pushed."""


class MissedBatchesError(RuntimeError):
    """A server was asked to go on in a step of which it does not know the earlier batches: it was restarted since."""


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """A server's word that it runs on these weights."""

    server: str
    version: int
    fingerprint: str


class VllmServer:
    """The actor's class; `orchestrator.fleets.fleet` wraps it with `ray.remote`."""

    def __init__(self, spec: ServerSpec) -> None:
        os.environ.update(
            # In process: one thread steps the engine, several times faster for small models than a process of its own.
            VLLM_ENABLE_V1_MULTIPROCESSING="0",
            VLLM_CPU_OMP_THREADS_BIND="nobind",
            VLLM_NO_USAGE_STATS="1",
            VLLM_LOGGING_LEVEL=os.environ.get("VLLM_LOGGING_LEVEL", "WARNING"),
            OMP_NUM_THREADS=str(spec.fleet.threads_per_server),
        )
        if spec.seat and spec.seat.devices:
            os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(spec.seat.devices)
        from vllm import EngineArgs
        from vllm.v1.engine.llm_engine import LLMEngine

        self._spec = spec
        self._engine = LLMEngine.from_engine_args(EngineArgs(**engine_arguments(spec)))
        self._tokenizer = self._engine.get_tokenizer()
        self._version = 0 if spec.trained else NO_WEIGHTS
        self._asleep: set[str] = set()
        self._batches = 0
        self._choices = ChoiceTokens(self._tokenizer, spec.folder)
        self._calibration: Calibration | None = None
        self._adapter: Any = None

    def ping(self) -> dict[str, Any]:
        """Alive, with what the driver wants to know about it."""
        import resource

        peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return {
            "server": self._spec.name,
            "version": self._version,
            "peak_bytes": peak_bytes,
            "pid": os.getpid(),
            "workers": self._spec.workers,
        }

    def open_transfer(self, info: dict[str, Any]) -> None:
        """Meet the sender of weights (for NCCL: join its group)."""
        self._engine.collective_rpc("init_weight_transfer_engine", args=(info,))

    def start_update(self) -> None:
        """New weights are about to arrive; nothing is answered until all are there."""
        self._version = NO_WEIGHTS
        self._engine.collective_rpc("start_weight_update")

    def receive(self, info: dict[str, Any]) -> None:
        """Take over one bucket. info: of vLLM's transfer engine."""
        self._engine.collective_rpc("update_weights", args=(info,))

    def finish_update(self, version: int) -> Acknowledgement:
        """All weights of `version` are there: put them to use and forget cached prefixes."""
        self._engine.collective_rpc("finish_weight_update")
        fingerprints = set(self._engine.collective_rpc("weights_fingerprint"))
        if len(fingerprints) != 1:
            raise RuntimeError(f"{self._spec.name}: its workers hold different weights {sorted(fingerprints)}")
        if "kv_cache" not in self._asleep:
            self.reset_prefix_cache()
        self._version = version
        return Acknowledgement(self._spec.name, version, fingerprints.pop())

    def update_weights(self, version: int, references: Sequence[Any]) -> Acknowledgement:
        """Take over weights from the object store, a bucket a reference."""
        import ray

        self.start_update()
        for reference in references:
            self.receive({"bucket": ray.get(reference)})
        return self.finish_update(version)

    def update_adapter(self, version: int, references: Sequence[Any]) -> Acknowledgement:
        """Take over a LoRA adapter from the object store in place of the last one; it is added to the weights that are there."""
        import ray
        from vllm.lora.request import LoRARequest

        from orchestrator.fleets.weights import Fingerprint, to_tensor
        from orchestrator.learning.lora import save_adapter

        assert self._spec.adapter is not None
        self._version, digest = NO_WEIGHTS, Fingerprint()
        tensors: dict[str, Any] = {}
        for reference in references:
            bucket = ray.get(reference)
            digest.add(bucket)
            tensors |= {name: to_tensor(array) for name, array in bucket.items()}
        with tempfile.TemporaryDirectory() as folder:
            save_adapter(Path(folder), tensors, self._spec.adapter.rank, self._spec.adapter.alpha)
            self._adapter = LoRARequest(f"{self._spec.name}-adapter", 1, folder, load_inplace=True)
            self._engine.add_lora(self._adapter)
        # Requests name it; it is never read again.
        self._adapter.load_inplace = False
        if "kv_cache" not in self._asleep:
            self.reset_prefix_cache()
        self._version = version
        return Acknowledgement(self._spec.name, version, digest.hexdigest())

    def sleep(self, level: int) -> None:
        """Give the GPU's memory back. level: 1 keeps the weights in the host's memory, 2 drops them. Nothing happens on the CPU."""
        if self._spec.seat and self._spec.seat.devices:
            if self._asleep:
                # vLLM takes an engine that is half awake for one that sleeps; its workers know better.
                self._engine.collective_rpc("sleep", kwargs={"level": level})
            else:
                self._engine.sleep(level)
        self._asleep = set(PARTS)
        if level == 2:
            self._version = NO_WEIGHTS

    def wake(self, part: str) -> None:
        """Take memory for a part (`PARTS`) again. Weights dropped by level 2 must be sent again."""
        if self._spec.seat and self._spec.seat.devices:
            self._engine.wake_up([part])
        self._asleep.discard(part)
        if not self._asleep:
            self.reset_prefix_cache()

    def reset_prefix_cache(self) -> None:
        """A step begins: forget cached prefixes and how many batches came before."""
        self._engine.reset_prefix_cache()
        self._batches = 0

    def complete(self, calls: Sequence[Call], version: int, number: int) -> tuple[list[Answer], dict[str, float]]:
        """Answer a batch of calls with the weights of `version`. Returns answers in order, and the batch's statistics.

        number: how many batches of this step came before. The first (0) finds an empty prefix cache, the others what those
        before them left. Cached prefixes move log-probabilities in the last bits, so the same batches in the same order give
        the same answers, and a batch out of its order is refused.
        """
        if self._asleep:
            raise RuntimeError(
                f"{self._spec.name} is asleep ({', '.join(sorted(self._asleep))}) and was asked to answer"
            )
        if version != self._version:
            raise StaleWeightsError(f"{self._spec.name} holds weights {self._version}, asked for {version}")
        if number == 0:
            self.reset_prefix_cache()
        if number != self._batches:
            raise MissedBatchesError(f"{self._spec.name} knows {self._batches} batches of this step, not {number}")
        started = time.monotonic()
        answers: list[Answer | None] = [None] * len(calls)
        prompts: dict[str, tuple[int, list[int]]] = {}
        parameters = []
        for index, call in enumerate(calls):
            ids = self._render(call)
            room = self._spec.model.context_tokens - len(ids)
            if room < (0 if call.scalar else 1):
                answers[index] = Fault(
                    f"prompt of {len(ids)} tokens leaves no room in a context of {self._spec.model.context_tokens}",
                    lasting=True,
                )
                continue
            prompts[str(index)] = (index, ids)
            parameters.append(self._parameters(call, room))
        # Only when all are known to be good: an error above leaves no request behind in the engine.
        self._batches += 1
        for (name, (index, ids)), wanted in zip(prompts.items(), parameters, strict=True):
            try:
                self._engine.add_request(name, {"prompt_token_ids": ids}, wanted, lora_request=self._adapter)
            except ValueError as error:
                if calls[index].schema is None:
                    raise
                answers[index] = Fault(f"its schema cannot be used: {error}", lasting=True)
        cached = generated = 0
        while self._engine.has_unfinished_requests():
            for output in self._engine.step():
                if output.finished:
                    # vLLM appends a suffix of its own to request ids.
                    index, ids = prompts[output.request_id.split("-")[0]]
                    answers[index] = self._answer(calls[index], ids, output)
                    cached += output.num_cached_tokens or 0
                    generated += 0 if calls[index].scalar else len(output.outputs[0].token_ids)
        statistics = {
            "prompt_tokens": float(sum(len(ids) for _, ids in prompts.values())),
            "cached_tokens": float(cached),
            "generated_tokens": float(generated),
            "seconds": time.monotonic() - started,
        }
        return [
            answer if answer is not None else Fault("the engine dropped the request") for answer in answers
        ], statistics

    def _render(self, call: Call) -> list[int]:
        if call.scalar != self._spec.scores:
            held, asked = ("scores answers", "words") if self._spec.scores else ("writes", "a scalar")
            raise ValueError(f"{self._spec.name} {held}, and call {call.key} asks it for {asked}")
        read = read_to_the_end if call.scalar else rendered
        return list(read(self._tokenizer, call.messages, self._spec.model.thinking))

    def _parameters(self, call: Call, room: int) -> Any:
        from vllm import PoolingParams, SamplingParams
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

        if call.scalar:
            return PoolingParams(task="classify", use_activation=False)
        if call.choices:
            return SamplingParams(
                max_tokens=1,
                logprob_token_ids=self._choices.wanted(call.choices),
                detokenize=False,
                output_kind=RequestOutputKind.FINAL_ONLY,
            )
        assert call.sampling is not None, f"call {call.key} asks for neither a completion nor choices"
        kind = "grammar" if isinstance(call.schema, str) else "json"
        return SamplingParams(
            max_tokens=min(call.sampling.max_tokens, room),
            temperature=call.sampling.temperature,
            seed=call.seed,
            logprobs=0,
            stop=list(call.sampling.stop),
            detokenize=bool(call.sampling.stop),
            structured_outputs=None if call.schema is None else StructuredOutputsParams(**{kind: call.schema}),
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

    def _answer(self, call: Call, prompt_ids: list[int], output: Any) -> Answer:
        if call.scalar:
            (raw,) = output.outputs.data.tolist()
            return self._calibrated(raw)
        completion = output.outputs[0]
        if call.choices:
            table = completion.logprobs[0]
            return self._choices.choice(call.choices, lambda token: table[token].logprob)
        assert call.sampling is not None
        ids = tuple(completion.token_ids)
        return Turn(
            role=call.role,
            prompt_ids=tuple(prompt_ids),
            completion_ids=ids,
            logprobs=tuple(row[token].logprob for row, token in zip(completion.logprobs, ids, strict=True)),
            text=self._tokenizer.decode(ids, skip_special_tokens=True).strip(),
            finish_reason=completion.finish_reason or "unknown",
            temperature=call.sampling.temperature,
            weight_version=self._version,
            seed=call.seed,
        )

    def _calibrated(self, raw: float) -> Score:
        """By the reference of the weights: those of the folder, or those that the server was given once they were taught."""
        if self._calibration is None:
            self._calibration = calibration_of(self._spec.taught or self._spec.folder)
        return self._calibration.score(raw)
