"""A replica of a service: Ray Serve LLM's server, which proves itself before it is given any request.

Imports vLLM. Its constructor raises where the served model is not the one that was trained: Serve then keeps what served before.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from ray.llm._internal.common.callbacks.base import CallbackBase
from ray.llm._internal.serve.core.configs.llm_config import DiskMultiplexConfig
from ray.llm._internal.serve.engines.vllm.vllm_engine import VLLMEngine
from ray.llm._internal.serve.utils.lora_serve_utils import LoraModelLoader
from ray.serve.llm import LLMConfig
from ray.serve.llm.deployment import LLMServer
from ray.serve.llm.openai_api_models import ChatCompletionRequest, CompletionRequest, ErrorResponse

from orchestrator.config.workloads import find_workload
from orchestrator.errors import RunError
from orchestrator.fleets.serving.adapters import Adapter
from orchestrator.fleets.serving.chat_answerer import ChatAnswerer
from orchestrator.fleets.serving.errors import Refused
from orchestrator.fleets.serving.judge import Conversation, Judging, RewardModelJudging
from orchestrator.fleets.serving.parity import (
    Parity,
    ParityError,
    check_tensors,
    check_tokenizer,
    check_weights,
    compare,
    gaps_of,
    owed_canary,
)
from orchestrator.fleets.serving.release import REWARD_MODEL, Release
from orchestrator.learning.calibration import calibration_of
from orchestrator.records.canary import CANARY, Canary, read_canary, read_to_the_end
from orchestrator.values import JUDGE

Judge = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]
"""What a request to `/v1/judge` is answered by."""

NOT_COMPARED = "not compared: these weights are not from here, and nothing says what their trainer computed"


class InPlace(CallbackBase):
    """The weights lie in a folder that every node sees: nothing is downloaded, which saves an import of vLLM."""

    async def on_before_node_init(self) -> None:
        self.ctx.run_init_node = False


class OneProcess(VLLMEngine):
    """The engine with its worker in one process where it computes on CPUs: a worker of its own would import everything once more.

    vLLM wants one there to bind threads to cores, and replicas on CPUs are bound to none (VLLM_CPU_OMP_THREADS_BIND).
    """

    def _prepare_engine_config(self, callback_ctx: Any) -> Any:
        arguments, frontend, config = super()._prepare_engine_config(callback_ctx)
        if config.parallel_config.distributed_executor_backend == "mp" and config.parallel_config.world_size == 1:
            config.parallel_config.distributed_executor_backend = "uni"
        return arguments, frontend, config


class Adapters(LoraModelLoader):
    """Finds adapters in folders; Ray's own loader takes them from buckets alone."""

    def __init__(self, adapters: Mapping[str, DiskMultiplexConfig], **limits: Any) -> None:
        super().__init__(**limits)
        self._adapters = adapters

    async def load_model_from_config(self, lora_model_id: str, llm_config: LLMConfig) -> DiskMultiplexConfig:
        return self._adapters[lora_model_id]


class ModelServer(LLMServer):
    """What a service's replicas are. release: as plain data, which Serve carries to them."""

    async def __init__(self, llm_config: LLMConfig, release: Mapping[str, Any]) -> None:  # type: ignore[misc]  # as Serve LLM's own
        self._release = Release.from_json(release)
        self._adapters = {
            one.model: DiskMultiplexConfig(
                model_id=one.model, max_total_tokens=None, local_path=one.folder, lora_assigned_int_id=number
            )
            for number, one in enumerate(self._release.adapters, 1)
        }
        await super().__init__(llm_config, engine_cls=OneProcess, model_downloader=self._loader)

    def _loader(self, **limits: Any) -> Adapters:
        return Adapters(self._adapters, **limits)

    async def start(self) -> None:
        """Start the engine, then compare it with the trainer. Raises ParityError."""
        await super().start()
        from transformers import AutoTokenizer

        self._tokenizer = await asyncio.to_thread(AutoTokenizer.from_pretrained, self._release.folder)
        self._parity = await self._prove()
        self._judging = JUDGES[self._release.kind](self) if self._release.kind in JUDGES else None

    async def parity(self) -> str:
        """How the served model compares with its trainer, in words."""
        return self._parity

    async def cards(self) -> list[tuple[str, dict[str, Any]]]:
        """(id, what `/v1/models` tells of it) of the model and of each adapter."""
        release, context = self._release, self._release.served().model.context_tokens
        known = [(release.model, release.provenance), *((one.model, one.provenance) for one in release.adapters)]
        shared = {"max_request_context_length": context, "parity": self._parity}
        return [(name, {"model_id": name, **shared, **provenance}) for name, provenance in known]

    # --- the gate ---

    async def _prove(self) -> str:
        """Compare everything that is served with what its trainer kept beside it."""
        release, folder = self._release, Path(self._release.folder)
        canary = owed_canary(release)
        self._ends = canary is not None and all(
            case.completion_ids[-1:] == (self._tokenizer.eos_token_id,) for case in canary.cases
        )
        told = [NOT_COMPARED]
        if canary is not None:
            await asyncio.to_thread(check_tensors, folder)
            check_tokenizer(canary, self._tokenizer)
            told = [str(await self._compared(release.model, canary))]
            await asyncio.to_thread(check_weights, folder)
        told += [f"{adapter.model}: {await self._adapter(adapter)}" for adapter in release.adapters]
        return "; ".join(told)

    async def _adapter(self, adapter: Adapter) -> Parity:
        """An adapter on its base must be what was trained, and nearer to it than the base alone."""
        canary = read_canary(Path(adapter.trained))
        if canary is None:
            raise RunError(f"{adapter.model}: {adapter.trained} holds no {CANARY}: resume its run for a step.")
        check_tokenizer(canary, self._tokenizer)
        await self.engine.resolve_lora(self._adapters[adapter.model])
        found = await self._compared(adapter.model, canary)
        bare = fmean(gap for gap, _ in gaps_of(canary, await self._served(self._release.model, canary)))
        if found.gap_mean > bare:
            raise ParityError(
                f"{adapter.model}: base and adapter differ from what was trained by {found.gap_mean:.3g} on average, the base alone by "
                f"{bare:.3g}: the adapter is another one, or does not work."
            )
        return found

    async def _compared(self, model: str, canary: Canary) -> Parity:
        """What the engine computes against what the trainer did. Raises ParityError."""
        return compare(canary, await self._served(model, canary))

    async def _served(self, model: str, canary: Canary) -> list[list[float]]:
        """What the engine computes for the canary's tokens, by the way that requests take."""
        if self._release.kind == REWARD_MODEL:
            return [await self.scores((*case.prompt_ids, *case.completion_ids), raw=True) for case in canary.cases]
        return [await self._logprobs(model, case.prompt_ids, case.completion_ids) for case in canary.cases]

    async def _logprobs(self, model: str, prompt: Sequence[int], completion: Sequence[int]) -> list[float]:
        request = CompletionRequest(
            model=model, prompt=[*prompt, *completion], max_tokens=1, temperature=0.0, prompt_logprobs=0
        )
        answer = await _only(self.engine.completions(request))
        if isinstance(answer, ErrorResponse):
            raise RunError(f"{model}: the engine refuses the canary: {answer.error.message}")
        rows = answer.choices[0].prompt_logprobs[len(prompt) :]
        return [row[token].logprob for row, token in zip(rows, completion, strict=True)]

    # --- judging ---

    async def judge(self, body: dict[str, Any]) -> dict[str, Any]:
        """What `/v1/judge` answers (`serving.judge`). Raises Refused."""
        assert self._judging is not None, "the ingress has the route for judges alone"
        return await self._judging(body)

    def by_rubric(self) -> Judge:
        """By the question, the formula and the checks of the run that the judge is from."""
        config = self._release.config()
        workload: Any = find_workload(config.workload).workload(config)
        role = self._release.served()
        answerer = ChatAnswerer(
            self._chat,
            asyncio.get_running_loop(),
            self._release.model,
            self._tokenizer,
            role.model.thinking,
            role.fleet.request_deadline_s,
        )
        judging = Judging(workload.reward(), config.judge.retries, answerer)
        return lambda body: asyncio.to_thread(judging.judge, body)

    async def _chat(self, body: dict[str, Any]) -> dict[str, Any]:
        return dict((await _only(self.engine.chat(ChatCompletionRequest(**body)))).model_dump())

    def by_score(self) -> Judge:
        """A reward model's own numbers: raw of one class, probabilities of several."""
        from transformers import AutoConfig

        labels: Mapping[int, str] = AutoConfig.from_pretrained(self._release.folder).id2label
        thinking = self._release.served().model.thinking

        async def score(conversations: list[Conversation]) -> list[list[float]]:
            asked = [read_to_the_end(self._tokenizer, tuple(one), thinking, self._ends) for one in conversations]
            return await asyncio.gather(*(self.scores(ids, raw=len(labels) == 1) for ids in asked))

        calibration = calibration_of(self._release.folder)
        return RewardModelJudging(score, [labels[number] for number in sorted(labels)], calibration).judge

    async def scores(self, ids: Sequence[int], raw: bool) -> list[float]:
        """The outputs of a sequence classifier's head at the last token. Raises Refused for what is too long."""
        from vllm import PoolingParams

        room = self._release.served().model.context_tokens
        if len(ids) > room:
            raise Refused(400, f"prompt and response have {len(ids)} tokens, and the model reads {room}.", "response")
        # Serve LLM's own methods score texts and pairs; tokens go to the engine itself.
        outputs = self.engine._engine_client.encode(
            {"prompt_token_ids": list(ids)}, PoolingParams(task="classify", use_activation=not raw), uuid.uuid4().hex
        )
        return [float(number) for number in (await _only(outputs)).outputs.data.tolist()]


JUDGES: Mapping[str, Callable[[ModelServer], Judge]] = {
    JUDGE: ModelServer.by_rubric,
    REWARD_MODEL: ModelServer.by_score,
}


async def _only(answers: Any) -> Any:
    """The last answer of a request that does not stream."""
    return [answer async for answer in answers][-1]
