"""Serving for real: Ray Serve LLM with vLLM behind it, for a policy that rolls over, its judge, LoRA adapters and a reward model."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from safetensors.torch import load_file, save_file

from orchestrator.fleets.serving.folder import ENDED, READY, ServiceFolder, State
from orchestrator.records import Run

pytestmark = pytest.mark.serving
PORT = 8731
URL = f"http://127.0.0.1:{PORT}"
SETTINGS = (
    "steps=2", "warmup.steps=60", "learner.ranks=2", "eval.every_steps=1", "eval.samples_per_task=1", "eval.best_of=0",
    "data.eval_groups=24", "checkpoint.every_steps=1", "checkpoint.keep=2",
)  # fmt: skip
UP_S, ROLLED_S = 400, 400


def orchestrate(*words: str, timeout: float = 420) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "orchestrator", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a run, and one with LoRA that began with the same model."""
    runs = tmp_path_factory.mktemp("runs")
    for name, further in (("plain", ()), ("adapted", ("learner.lora_rank=4", "learner.learning_rate=0.002"))):
        done = orchestrate("train", "rlvr", f"storage={runs}", f"name={name}", *SETTINGS, *further)
        assert done.returncode == 0, done.stdout + done.stderr
    return runs


@contextmanager
def served(storage: Path, name: str, *words: str) -> Iterator[State]:
    """A service while the block runs; ended by Ctrl-C."""
    folder, output = ServiceFolder.of(storage, name), storage / f"{name}.txt"
    command = [sys.executable, "-m", "orchestrator", "serve", *words, "--name", name, "--port", str(PORT)]
    with output.open("w") as written:
        owner = subprocess.Popen([*command, "--storage", str(storage)], stdout=written, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + UP_S
        while (state := folder.read()) is None or state.status != READY:
            assert owner.poll() is None, output.read_text()
            assert time.monotonic() < deadline, output.read_text()
            time.sleep(0.5)
        yield state
    finally:
        owner.send_signal(signal.SIGINT)
        assert owner.wait(120) == 0, output.read_text()
    state = folder.read()
    assert state is not None
    assert state.status == ENDED


def post(path: str, body: Any, status: int = 200) -> dict[str, Any]:
    answer = httpx.post(f"{URL}{path}", json=body, timeout=60)
    assert answer.status_code == status, answer.text
    return dict(answer.json())


def chat(model: str, **further: Any) -> dict[str, Any]:
    return {
        "model": model,
        "messages": [{"role": "user", "content": "may i lie to nurse ?"}],
        "max_tokens": 8,
        **further,
    }


def pieces(body: Any) -> list[Any]:
    """The chunks of a stream, which ends as OpenAI's do."""
    with httpx.stream("POST", f"{URL}/v1/chat/completions", json=body, timeout=60) as answer:
        assert answer.status_code == 200
        lines = [line.removeprefix("data: ") for line in answer.iter_lines() if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


class Streams:
    """Clients that stream one answer after another, and what went wrong."""

    def __init__(self, model: str, count: int) -> None:
        self.whole, self.failures = 0, list[str]()
        self._body = chat(model, max_tokens=48, stream=True, ignore_eos=True)
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        while not self._end.is_set():
            try:
                found = pieces(self._body)
                assert found[-1]["choices"][0]["finish_reason"] == "length"
                self.whole += 1
            except (AssertionError, httpx.HTTPError, KeyError, ValueError) as error:
                self.failures.append(repr(error))

    def close(self) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join(90)


def test_a_policy_answers_and_other_versions_roll_in_under_streams(storage: Path) -> None:
    shutil.copytree(storage / "rlvr" / "plain", storage / "rlvr" / "tampered")
    weights = storage / "rlvr" / "tampered" / "checkpoints" / "step-000002" / "hf" / "model.safetensors"
    tensors = load_file(weights)
    tensors["model.norm.weight"] *= 1.01
    save_file(tensors, weights, metadata={"format": "pt"})
    with served(storage, "rlvr", "plain") as state:
        assert state.serves == "run:rlvr/plain@2"
        assert state.parity.startswith("as trained")
        answers()
        refusals()
        streams = Streams("rlvr", 3)
        rolled = orchestrate("serve", "plain@1", "--name", "rlvr", "--storage", str(storage), timeout=ROLLED_S)
        before = streams.whole
        refused = orchestrate("serve", "tampered", "--name", "rlvr", "--storage", str(storage), timeout=2 * ROLLED_S)
        streams.close()
        assert rolled.returncode == 0, rolled.stdout + rolled.stderr
        assert streams.failures == []
        assert 0 < before < streams.whole
        assert refused.returncode == 1, refused.stdout + refused.stderr
        assert "does not compute what the trainer computed" in refused.stdout
        assert served_reference() == "run:rlvr/plain@1"


def served_reference() -> str:
    (card,) = httpx.get(f"{URL}/v1/models").json()["data"]
    return str(card["metadata"]["reference"])


def answers() -> None:
    """What a policy's service answers."""
    assert httpx.get(f"{URL}/health").json() == {"status": "ok", "service": "rlvr"}
    (card,) = httpx.get(f"{URL}/v1/models").json()["data"]
    assert (card["id"], card["metadata"]["run"], card["metadata"]["step"]) == ("rlvr", "rlvr/plain", 2)
    whole = post("/v1/chat/completions", chat("rlvr", temperature=0))["choices"][0]["message"]["content"]
    streamed = pieces(chat("rlvr", temperature=0, stream=True))
    assert "".join(one["choices"][0]["delta"].get("content") or "" for one in streamed) == whole
    completed = post("/v1/completions", {"model": "rlvr", "prompt": "we weigh", "max_tokens": 4})
    assert completed["usage"]["completion_tokens"] <= 4


def refusals() -> None:
    """What it does not, in OpenAI's form."""
    for path, body, status, told in (
        ("/v1/chat/completions", chat("rlvr", max_tokens=100_000), 400, "max_tokens"),
        ("/v1/chat/completions", chat("another"), 404, "There is no model"),
        ("/v1/judge", {}, 404, "answers"),
        ("/v1/chat/completions", chat("rlvr", user="x" * 2_000_000), 413, "larger"),
    ):
        error = post(path, body, status)["error"]
        assert told in error["message"]
        assert error["type"] == "invalid_request_error"


def test_the_served_judge_agrees_with_the_one_that_trained(storage: Path) -> None:
    """On the stored held-out answers of the last step: every verdict, and every score by the official formula."""
    rows = Run(storage / "rlvr" / "plain").episodes(split="eval", steps=[2]).to_pylist()
    assert len(rows) == 24
    gaps = []
    with served(storage, "judge", "plain@judge"):
        for row in rows:
            body = {
                "messages": json.loads(row["prompt"]),
                "response": row["completion"],
                "rubric": json.loads(row["reference"])["rubric"],
            }
            (result,) = post("/v1/judge", body)["results"]
            stored = dict(row["verdicts"])
            assert {one["id"]: one["met"] for one in result["verdicts"]} == {k: v > 0.5 for k, v in stored.items()}
            gaps += [abs(one["p_yes"] - stored[one["id"]]) for one in result["verdicts"]]
            # Not the reward: what was cut off in the run is not known of a bare text.
            assert result["score"] == pytest.approx(dict(row["components"])["official"])
        error = post(
            "/v1/judge", {"prompt": "a", "response": "b", "rubric": [{"id": "x", "text": "", "weight": 1}]}, 400
        )
    assert len(gaps) > 100
    assert max(gaps) < 1e-4
    assert "rubric[0]" in error["error"]["message"]


def test_an_adapter_is_served_beside_its_base_under_an_id_of_its_own(storage: Path) -> None:
    with served(storage, "lora", "run:rlvr/adapted@policy", "--adapter", "adapted") as state:
        assert state.models == ("lora", "lora:adapted-2")
        # Both were compared with what the trainer computed: base, and base with adapter.
        assert state.parity.count("as trained") == 2
        ids = [card["id"] for card in httpx.get(f"{URL}/v1/models").json()["data"]]
        assert ids == ["lora", "lora:adapted-2"]
        for model in ids:
            assert post("/v1/chat/completions", chat(model))["model"] == model
        assert post("/v1/chat/completions", chat("lora:other"), 404)["error"]["code"] == "model_not_found"


def test_a_reward_model_scores_whole_answers(storage: Path) -> None:
    """A head of one output over the policy's body; its score is what transformers computes for the same tokens."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    source = next((storage / "rlvr" / "plain" / "checkpoints").glob("step-000002/hf"))
    folder = storage / "reward_model"
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(source, num_labels=1, dtype=torch.float32)
    torch.nn.init.normal_(model.score.weight, std=0.2)
    tokenizer = AutoTokenizer.from_pretrained(source)
    model.config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    messages = [{"role": "user", "content": "may i lie to nurse ?"}]
    responses = ["we weigh mercy .", "it may hurt nurse ."]
    expected = [score_of(model, tokenizer, messages, response) for response in responses]
    with served(storage, "reward", f"path:{folder}") as state:
        assert state.parity.startswith("not compared")
        results = post("/v1/judge", {"messages": messages, "responses": responses})["results"]
        assert [one["score"] for one in results] == pytest.approx(expected, abs=1e-4)
        refused = post("/v1/judge", {"messages": messages, "response": "a", "rubric": []}, 400)
        assert "reward model" in refused["error"]["message"]
        assert post("/v1/chat/completions", chat("reward"), 404)["error"]["code"] == "unknown_route"


def score_of(model: Any, tokenizer: Any, messages: Sequence[Any], response: str) -> float:
    prompt = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_dict=True, enable_thinking=False
    )["input_ids"]
    ids = [*prompt, *tokenizer(response, add_special_tokens=False)["input_ids"]]
    with torch.no_grad():
        return float(model(torch.tensor([ids])).logits[0, 0])
