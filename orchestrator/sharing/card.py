"""The model card of an exported folder: what its provenance says, in words. It holds no text of any task."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.config.workloads import find_workload
from orchestrator.errors import ConfigError
from orchestrator.records.headline import EXAM_SHARES
from orchestrator.sharing.front_matter import Known, architecture_of, base_of, front_matter, weights_in, yaml_of
from orchestrator.sharing.licences import licence_of_data, licence_of_model
from orchestrator.sharing.public import shown
from orchestrator.values import POLICY

SCORES = {
    "eval/oracle": "held-out score by the truth (oracle)",
    "eval/judge": "held-out score by the judge of training",
    "eval/reward": "held-out score by the reward of training",
    "judge/gold_gap": "the same minus the truth",
}


def card_of(known: Known, model: Path, folder: Path) -> str:
    """README.md of a model of a run. model: its folder; folder: where it will lie."""
    front = front_matter(known, model)
    sections = {
        "What it is": _what(known, model),
        "Data": _data(known),
        "Evaluation": _evaluation(known),
        "The judge": _judge(known),
        "How to load it": _loading(known, front, folder),
        "Limits": _limits(known),
        "Licence": [_licence(known)],
        "Versions": _versions(known),
    }
    text = "\n\n".join(f"## {title}\n\n" + "\n".join(lines) for title, lines in sections.items() if lines)
    return f"---\n{yaml_of(front)}\n---\n\n# {title_of(known)}\n\n{text}\n"


def title_of(known: Known) -> str:
    """The run's name, and which of its models it is."""
    return f"{known['run'].partition('/')[2]}, " + (
        f"the {known['role']} that it began with" if known["step"] is None else f"step {known['step']}"
    )


# --- sections ---


def _what(known: Known, model: Path) -> list[str]:
    training, step = known["training"], known["step"]
    counted = f"{architecture_of(model) or 'a model'} of {weights_in(model):,} weights"
    if step is None:
        lines = [f"The {known['role']} of the run `{known['run']}` ({counted}), as it was when RL began.", ""]
    else:
        told = f"The policy of the run `{known['run']}` ({counted}) after {step} of {training['steps']} steps"
        lines = [
            f"{told} of reinforcement learning with the objective `{known['objective']}` on the workload `{known['workload']}`.",
            "",
        ]
        lines += [about, ""] if (about := _about(known["workload"])) else []
    lines += [f"- Started from: {_started(known)}"]
    if taught := {
        name: value for name, value in training.items() if name.startswith("warmup.") or ".training." in name
    }:
        lines += [f"- Taught from examples before RL: {_settings(taught)}"]
    if known["forked_after"] is not None:
        lines += [
            f"- Its steps up to {known['forked_after']} are those of another run, which this one was forked from and does not name."
        ]
    if training.get("learner.lora_rank"):
        lines += [
            f"- Trained as LoRA of rank {training['learner.lora_rank']}; these are the whole weights, the adapters added."
        ]
    if step is not None:
        lines += [f"- Reward: {_reward(known)}"]
    lines += [f"- Seeds: {_settings(known['seeds'])}"]
    if known["sweep"]:
        lines += [f"- {_won(known['sweep'])}"]
    settings = [(name, value) for name, value in training.items() if name not in taught]
    return [*lines, "", *_table(("setting", "value"), settings)] if settings else lines


def _about(workload: str) -> str:
    """What the project says of a workload of its own, in one paragraph; "" of one that is not here."""
    try:
        module = sys.modules[find_workload(workload).workload.__module__]
    except ConfigError:
        return ""
    return " ".join((module.__doc__ or "").partition("\n\n")[0].split())


def _started(known: Known) -> str:
    return ", which began as ".join(map(_named, known["started_from"])) or "not recorded"


def _named(reference: str) -> str:
    return (
        f"`{shown(reference)}`"
        if reference != "mini"
        else "random weights of a small model that the project builds (`mini`)"
    )


def _reward(known: Known) -> str:
    asks = "asks a judge" if known["judge"] else "asks no judge"
    return f"{_settings(known['reward']) or 'the workload’s own'}; it {asks}"


def _won(sweep: Mapping[str, Any]) -> str:
    arm, (mean, interval, _) = f" of the arm `{sweep['arm']}`" if sweep["arm"] else "", _cells(sweep["mean"])
    of_all = (
        f" The mean of the {sweep['runs']} runs{arm} is {mean} (95 % interval over runs: {interval})."
        if interval
        else ""
    )
    return (
        f"The best of {sweep['of']} finished runs of the sweep `{sweep['name']}` by its last `{sweep['metric']}`.{of_all} "
        "It was picked because it is the best, so its score flatters."
    )


def _data(known: Known) -> list[str]:
    data = {name: value for name, value in (known["data"] or {}).items() if value is not None}
    lines = _table(("setting", "value"), data.items())
    if known["files"]:
        lines += [
            "",
            *_table(
                ("file", "SHA-256 when the run began"), ((file["path"], file["sha256"]) for file in known["files"])
            ),
        ]
    if data.get("source") == "mini":
        return [*lines, "", "The tasks were made by the workload's own code; no data set of others is named."]
    licence = licence_of_data(data.get("path")).get("license")
    lines += [
        "",
        f"Licence of the data: {f'`{licence}`, as its card says' if licence else 'not known here; look it up where they are from'}.",
    ]
    if known["restricted"]:
        lines += [
            "",
            "The source of some of these texts forbids passing them on. None of them is in this folder's card or provenance.",
        ]
    return lines


def _evaluation(known: Known) -> list[str]:
    scores = _certain(known["scores"])
    if not scores:
        return []
    rows = [(SCORES[score["metric"]], score["step"], *_cells(score)) for score in scores]
    lines = _table(("measured", "step", "value", "95 % interval", "n"), rows)
    note = "The interval is a bootstrap over the n held-out tasks of this one run: it does not cover what another seed would give."
    if "rollout.temperature" in known["training"]:
        tokens, temperature = (
            known["training"][f"rollout.{name}"] for name in ("max_completion_tokens", "temperature")
        )
        note = f"Answers were sampled at temperature {temperature:g}, at most {tokens} tokens. {note}"
    last = scores[-1]["step"]
    if known["step"] is not None and last < known["step"]:
        note += f" The weights here are of step {known['step']}; the last evaluation before it was at step {last}."
    return [*lines, "", note]


def _judge(known: Known) -> list[str]:
    judge = known["judge"]
    if not judge:
        return []
    name = _named(judge["model"]) + (f", served as `{judge['served_name']}`" if judge["served_name"] else "")
    if not judge["exam"]:
        return [
            f"The judge began as {name}. This run did not examine it: how far it agrees with the truth is not known here."
        ]
    rows = [(EXAM_SHARES[key], *_cells(found)) for key, found in judge["exam"].items()]
    groups = f"; the intervals are over {judge['groups']} groups of them" if judge["groups"] else ""
    lines = [
        f"The judge began as {name}. Its exam on held-out data before it judged anything, n questions or pairs{groups}:",
        "",
    ]
    return lines + _table(("measured", "value", "95 % interval", "n"), rows)


def _loading(known: Known, front: Mapping[str, Any], folder: Path) -> list[str]:
    if front.get("pipeline_tag") != "text-generation":
        return []
    thinking = known["training"].get("model.thinking")
    template = "" if thinking is None else f", enable_thinking={thinking}"
    tokens = known["training"].get("rollout.max_completion_tokens", 64)
    temperature = known["training"].get("rollout.temperature")
    sampled = f", do_sample=True, temperature={temperature}, top_k=0" if temperature else ""
    return [
        "```python",
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        "",
        f'tokenizer = AutoTokenizer.from_pretrained("{folder.name}")',
        f'model = AutoModelForCausalLM.from_pretrained("{folder.name}", dtype="auto")',
        'chat = [{"role": "user", "content": "…"}]',
        f"prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False{template})",
        'inputs = tokenizer(prompt, add_special_tokens=False, return_tensors="pt")',
        f"print(tokenizer.decode(model.generate(**inputs, max_new_tokens={tokens}{sampled})[0]))",
        "```",
        "",
        f"or `vllm serve {folder.name}`, or `orchestrate serve path:{folder.name}`.",
    ]


def _limits(known: Known) -> list[str]:
    lines = []
    if known["step"] is not None and known["judge"]:
        lines += [
            "- It was optimised against the judge: its score by that judge says how well it pleases the judge, not how good it is.",
            _gap(known["scores"]),
        ]
    elif known["step"] is not None:
        lines += [
            "- It was optimised against its reward, and may do what earns reward without being what was meant.",
            _gap(known["scores"]),
        ]
    elif known["role"] != POLICY:
        lines += [
            "- It was made to play its part in one run, on that run's tasks and criteria; elsewhere it is untested."
        ]
    if base_of(known) == "mini":
        lines += [
            "- A miniature: it knows the words of its workload's generated world and nothing else. It is for trying out software."
        ]
    return [line for line in lines if line]


def _gap(scores: Sequence[Mapping[str, Any]]) -> str:
    gaps = [score for score in scores if score["metric"] == "judge/gold_gap"]
    if not gaps:
        return "- No truth was known to compare with: whether it exploits what it was trained against was not measured."
    told = [
        f"{gap['value']:+.3f} ({gap['low']:+.3f} to {gap['high']:+.3f}) at step {gap['step']}" for gap in _certain(gaps)
    ]
    if not told:
        return ""
    return (
        f"- On held-out tasks what it was trained against exceeded the truth by {', and by '.join(told)}; a gap that widens is "
        "exploitation."
    )


def _certain(scores: Sequence[Known]) -> list[Known]:
    """Those with an interval: a number without one does not tell how far to trust it, and provenance.json has it for programs."""
    return [score for score in scores if "low" in score and "high" in score]


def _licence(known: Known) -> str:
    base = base_of(known)
    if base == "mini":
        return "Nobody has stated one for these weights. They began random and were trained on the data above alone."
    said = licence_of_model(base).get("license")
    if said:
        return f"The base model, `{shown(base)}`, states `{said}`. What else binds these weights depends on the data."
    return "The licence of the base model is not known here. Look it up, and that of the data, before you pass these weights on."


def _versions(known: Known) -> list[str]:
    commit = [("commit", known["commit"])] if known["commit"] else []
    lines = _table(
        ("package", "version"), [*((name, value) for name, value in known["versions"].items() if value), *commit]
    )
    weights = known["weights"]
    digest = f" `sha256sum *.safetensors | sha256sum` gives `{weights['sha256']}`." if weights else ""
    return [
        *lines,
        "",
        f"All of this, and more, for programs: [provenance.json](provenance.json), of `{known['reference']}`.{digest}",
    ]


# --- words ---


def _settings(values: Mapping[str, Any]) -> str:
    return ", ".join(f"`{name}={shown(value)}`" for name, value in values.items())


def _cells(found: Mapping[str, float]) -> tuple[str, str, str]:
    """value, interval and n in words; "" of what was not measured."""
    interval = f"{found['low']:.3f} to {found['high']:.3f}" if "low" in found and "high" in found else ""
    return f"{found['value']:.3f}" if "value" in found else "", interval, str(found.get("n", ""))


def _table(headers: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    """Markdown; a bar in a cell is no border."""
    lines = [" | ".join(shown(cell).replace("|", "\\|").replace("\n", " ") for cell in row) for row in (headers, *rows)]
    return [f"| {line} |" for line in (lines[0], " | ".join("---" for _ in headers), *lines[1:])]
