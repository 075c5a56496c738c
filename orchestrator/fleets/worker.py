"""The part that runs inside vLLM's worker: takes over new weights."""

from __future__ import annotations

from typing import Any

from orchestrator.fleets.weights import to_tensor


class WeightReceiver:
    """Mixed into vLLM's worker class (`worker_extension_cls`), so `self` is a worker."""

    model_runner: Any

    def receive_weights(self, weights: list[tuple[str, Any]]) -> None:
        """Replace the model's weights by `weights`: (checkpoint name, NumPy array or tensor)."""
        tensors = ((name, to_tensor(array)) for name, array in weights)
        self.model_runner.reload_weights(weights_iterator=tensors)
        self._refresh_tied_head()

    def _refresh_tied_head(self) -> None:
        """On the CPU a tied output head keeps a packed copy of the old embedding; without this it goes on answering with it."""
        from vllm.platforms import current_platform

        model = self.model_runner.model
        if not current_platform.is_cpu() or not getattr(model.config, "tie_word_embeddings", False):
            return
        from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm

        dispatch_cpu_unquantized_gemm(model.lm_head, remove_weight=False)
