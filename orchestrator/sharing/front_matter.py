"""What the hub reads at the head of a model card, and what the folder's own files say of the model."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.sharing.licences import fetched, licence_of_model

TASKS = {"ForCausalLM": "text-generation", "ForSequenceClassification": "text-classification"}
"""How the name of an architecture ends -> the hub's name of what such a model does."""

Known = Mapping[str, Any]
"""What `provenance` returns."""


def front_matter(known: Known, model: Path) -> dict[str, Any]:
    """What the hub reads. license: the base model's, as far as it says one."""
    base, data = base_of(known), (known["data"] or {}).get("path") or ""
    trained = known["step"] is not None
    task = next((task for ending, task in TASKS.items() if architecture_of(model).endswith(ending)), None)
    tags = ["reinforcement-learning", known["objective"]] if trained else [known["role"]]
    return {
        **(licence_of_model(base) or {"license": "unknown"}),
        **({"base_model": base.removeprefix("hf:")} if base.startswith("hf:") else {}),
        "library_name": "transformers",
        **({"pipeline_tag": task} if task else {}),
        "tags": [*tags, known["workload"]],
        **({"datasets": [data.removeprefix("hf:")]} if data.startswith("hf:") else {}),
    }


def yaml_of(front: Mapping[str, Any]) -> str:
    """As it stands between the lines `---`."""
    from huggingface_hub import ModelCardData

    return str(ModelCardData(**front).to_yaml())


def base_of(known: Known) -> str:
    """The model at the beginning of all training that is known; "" where none is."""
    return known["started_from"][-1] if known["started_from"] else ""


def architecture_of(model: str | Path) -> str:
    """The class that transformers loads a folder or a hub id with; "" where that is not known: its config.json names none, or was
    never fetched from the hub."""
    config = Path(model) / "config.json" if Path(model).is_dir() else fetched(str(model), "config.json", "model")
    said = json.loads(config.read_text()) if config and config.is_file() else {}
    return str(next(iter(said.get("architectures") or []), ""))


def weights_in(model: Path) -> int:
    """How many numbers the safetensors files of a folder hold, by their headers."""
    count = 0
    for path in model.glob("*.safetensors"):
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        count += sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")
    return count
