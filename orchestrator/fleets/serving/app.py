"""A release as an application of Ray Serve LLM: how many replicas of what, and how one takes the place of another."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from ray import serve
from ray.serve.llm import LLMConfig, build_llm_deployment

from orchestrator.config.schema import LearnerConfig
from orchestrator.fleets.serving.access import Access
from orchestrator.fleets.serving.ingress import card_of, ingress_of
from orchestrator.fleets.serving.release import REWARD_MODEL, Release
from orchestrator.fleets.serving.rollout import DRAIN_S, PREFIX
from orchestrator.fleets.serving.server import InPlace, ModelServer
from orchestrator.fleets.specs import AdapterSpec, ServerSpec, engine_arguments

NOT_SERVES = (
    "model",
    "distributed_executor_backend",
    "worker_extension_cls",
    "weight_transfer_config",
    "disable_log_stats",
)
"""Engine arguments of a run's servers that Serve sets itself, or that receive weights in flight."""
ENVIRONMENT = {
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
}


def app_of(release: Release, access: Access) -> serve.Application:
    """The application: an ingress that checks what comes in, and the model's replicas behind it."""
    config = llm_config_of(release, access)
    model = build_llm_deployment(
        config, name_prefix=PREFIX, bind_kwargs={"release": asdict(release)}, deployment_cls=ModelServer
    )
    adapters = {one.model: one.folder for one in release.adapters}
    cards = {name: card_of(name, {}) for name in (release.model, *adapters)}
    ingress = serve.deployment(
        ingress_of(access, release.model, release.kind),
        name="ingress",
        ray_actor_options={"num_cpus": 0},
        num_replicas=1,
        max_ongoing_requests=_at_once(release) * release.replicas[1],
        **_rollout(),
    )
    return ingress.bind(llm_deployments={release.model: model}, model_cards=cards, adapters=adapters)


def llm_config_of(release: Release, access: Access) -> LLMConfig:
    """Serve LLM's settings of the model: those of the servers of its run, so that it computes as it did there."""
    role = release.served()
    fleet, (least, most) = role.fleet, release.replicas
    # Serve sums the actor's own resources and its workers': the first worker's bundle holds both.
    worker = (
        {"GPU": 1} if fleet.gpus_per_server > 1 else {"GPU": fleet.gpus_per_server} if fleet.gpus_per_server else {}
    )
    first = {"CPU": fleet.cpus_per_server} | worker
    others = [dict(worker) for _ in range(int(max(1, fleet.gpus_per_server)) - 1)]
    local = Path(release.folder).is_dir()
    return LLMConfig(
        model_loading_config={"model_id": release.model, "model_source": release.folder},
        engine_kwargs={**_engine(release), **access.engine_arguments},
        accelerator_config={"kind": "gpu" if worker else "cpu"},
        placement_group_config={"bundles": [first, *others]},
        lora_config={"max_num_adapters_per_replica": len(release.adapters)} if release.adapters else None,
        callback_config={"callback_class": InPlace} if local else {},
        runtime_env={"env_vars": ENVIRONMENT | {"OMP_NUM_THREADS": str(fleet.threads_per_server)}},
        log_engine_metrics=False,
        deployment_config={
            "ray_actor_options": {"num_cpus": 0},
            "autoscaling_config": {
                "min_replicas": least,
                "max_replicas": most,
                "initial_replicas": least,
                "target_ongoing_requests": max(1, fleet.max_concurrent_sequences // 2),
            },
            "max_ongoing_requests": _at_once(release),
            "health_check_timeout_s": fleet.request_deadline_s,
            **_rollout(),
        },
    )


def _engine(release: Release) -> dict[str, Any]:
    role = release.served()
    widest = max(release.adapters, key=lambda one: one.rank, default=None)
    adapter = (
        AdapterSpec.of(LearnerConfig(lora_rank=widest.rank, lora_alpha=widest.alpha, lora_targets=widest.targets))
        if widest
        else None
    )
    scores = release.kind == REWARD_MODEL
    spec = ServerSpec(release.role, 0, release.folder, True, role.model, role.fleet, adapter=adapter, scores=scores)
    arguments = {name: value for name, value in engine_arguments(spec).items() if name not in NOT_SERVES}
    if release.adapters:
        arguments["max_loras"] = len(release.adapters)
    return arguments


def _at_once(release: Release) -> int:
    """Requests that a replica takes: twice what its engine works on, so that it never waits for the next."""
    return 2 * release.served().fleet.max_concurrent_sequences


def _rollout() -> dict[str, Any]:
    """A new version is started beside the old one, which ends when nothing asks it any more; one that will not start is tried once."""
    return {"max_surge_percent": 100, "graceful_shutdown_timeout_s": DRAIN_S, "max_constructor_retry_count": 1}
