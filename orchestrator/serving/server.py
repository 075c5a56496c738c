"""A replica of a service: Ray Serve LLM's server, which proves itself before it is given any request.

Imports vLLM. Its constructor raises where the served model is not the one that was trained: Serve then keeps what served before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ray.llm._internal.common.callbacks.base import CallbackBase
from ray.llm._internal.serve.core.configs.llm_config import DiskMultiplexConfig
from ray.llm._internal.serve.engines.vllm.vllm_engine import VLLMEngine
from ray.llm._internal.serve.utils.lora_serve_utils import LoraModelLoader
from ray.serve.llm import LLMConfig
from ray.serve.llm.deployment import LLMServer
from ray.serve.llm.openai_api_models import ChatCompletionRequest, CompletionRequest

from orchestrator.config.workloads import find_workload
from orchestrator.errors import RunError
from orchestrator.records.canary import Canary, read_canary
from orchestrator.serving.judge import ChatAnswerer, Judging
from orchestrator.serving.parity import Parity, check_tensors, check_tokenizer, compare
from orchestrator.serving.release import Adapter, Release
from orchestrator.values import JUDGE


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

    async def __init__(self, llm_config: LLMConfig, release: Mapping[str, Any]) -> None:
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
        tokenizer = await self._tokenizer()
        self._parity = await self._prove(tokenizer)
        self._judging = self._judge(tokenizer) if self._release.kind == JUDGE else None

    async def _tokenizer(self) -> Any:
        """The one that the engine renders prompts with."""
        from transformers import AutoTokenizer

        return await asyncio.to_thread(AutoTokenizer.from_pretrained, self._release.folder)

    async def parity(self) -> str:
        """How the served model compares with its trainer, in words."""
        return self._parity

    # --- the gate ---

    async def _prove(self, tokenizer: Any) -> str:
        """Compare everything that is served with what its trainer kept beside it."""
        release = self._release
        canary = read_canary(Path(release.folder)) if Path(release.folder).is_dir() else None
        if canary is None:
            if release.own:
                raise RunError(
                    f"{release.reference}: {release.folder} holds no canary.json, so nothing says what its trainer computed. It was "
                    "written by an older version: resume the run for a step, which writes a checkpoint that has one."
                )
            return "not compared: these weights are not from here, and nothing says what their trainer computed"
        await asyncio.to_thread(check_tensors, Path(release.folder))
        check_tokenizer(canary, tokenizer)
        told = [str(await self._compared(release.model, canary))]
        for adapter in release.adapters:
            told.append(f"{adapter.model}: {await self._adapter(adapter)}")
        return "; ".join(told)

    async def _adapter(self, adapter: Adapter) -> Parity:
        canary = read_canary(Path(adapter.trained))
        if canary is None:
            raise RunError(f"{adapter.model}: {adapter.trained} holds no canary.json: resume its run for a step.")
        await self.engine.resolve_lora(self._adapters[adapter.model])
        return await self._compared(adapter.model, canary)

    async def _compared(self, model: str, canary: Canary) -> Parity:
        """The log-probabilities of the canary's tokens by the engine, by the way that requests take, against the trainer's."""
        served = [await self._logprobs(model, case.prompt_ids, case.completion_ids) for case in canary.cases]
        return compare(canary, served)

    async def _logprobs(self, model: str, prompt: Sequence[int], completion: Sequence[int]) -> list[float]:
        request = CompletionRequest(
            model=model, prompt=[*prompt, *completion], max_tokens=1, temperature=0.0, prompt_logprobs=0
        )
        answer = await _only(self.engine.completions(request))
        rows = answer.choices[0].prompt_logprobs[len(prompt) :]
        return [row[token].logprob for row, token in zip(rows, completion, strict=True)]

    # --- judging ---

    def _judge(self, tokenizer: Any) -> Judging:
        """By the question, the formula and the checks of the run that the judge is from."""
        config = self._release.config()
        workload: Any = find_workload(config.workload).workload(config)
        answerer = ChatAnswerer(
            self._chat,
            asyncio.get_running_loop(),
            tokenizer,
            self._release.model,
            self._release.served().model.thinking,
            config.judge.fleet.request_deadline_s,
        )
        return Judging(workload.reward(), config.judge.retries, answerer)

    async def _chat(self, body: dict[str, Any]) -> dict[str, Any]:
        answer = await _only(self.engine.chat(ChatCompletionRequest(**body)))
        return dict(answer.model_dump())

    async def judge(self, body: dict[str, Any]) -> dict[str, Any]:
        """What `/v1/judge` answers (`serving.judge`)."""
        assert self._judging is not None, "the ingress has the route for judges alone"
        return await asyncio.to_thread(self._judging.judge, body)


async def _only(answers: Any) -> Any:
    """The one answer of a request that does not stream. Raises RunError with the engine's words where it refuses."""
    found = [answer async for answer in answers]
    if hasattr(found[0], "error"):
        raise RunError(str(found[0].error.message))
    return found[0]
