"""The pages and the README: every command that they show is one, every key is there, every file that they show is read as it would be.

Nothing is trained and Ray is not started: commands are composed, planned and parsed, with the files of the pages in a folder of the
test's own.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from orchestrator import cli
from orchestrator.cli.evaluating import target_of
from orchestrator.cluster.needs import needs_of
from orchestrator.cluster.plan import make_plan
from orchestrator.config.algorithm import AlgorithmConfig
from orchestrator.config.compose import Composed, compose, trace
from orchestrator.config.functions import functions_of
from orchestrator.config.keys import keys_of
from orchestrator.config.own_code import load_module
from orchestrator.config.workloads import find_workload, workload_names
from orchestrator.data import TableConfig
from orchestrator.gathering import gather
from orchestrator.records import diagnosis
from orchestrator.rollouts.functions import verdicts_of
from orchestrator.rollouts.judge_file import WORKLOAD, read_answers
from orchestrator.rollouts.rubric_files import read_rubric
from orchestrator.sweep.graph import plan_of, stages
from orchestrator.sweep.reading import read_sweep
from orchestrator.tables.find import find_table
from orchestrator.values import POLICY, Episode, Task, Turn

ROOT = Path(__file__).parents[1]
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [ROOT / "README.md", *DOCS, *sorted((ROOT / "workloads").glob("*/README.md"))]

PLACEHOLDERS = {"TARGET", "RUN", "STEP", "NAME", "KEY", "A", "B", "X", "ORG", "FILE", "RUBRIC"}
"""Words of commands that stand for a reader's own; a digit may follow. Any other word in capitals is a mistake."""
BROUGHT = {
    "benchmarks/disclaw/mcq_sing_pae.csv": "",
    "benchmarks/hitom.json": "{}",
    "benchmarks/lawbench/3-1.json": "[]",
    "comparison_data.json": "{}",
    "dilemmas.csv": "",
    "theory.csv": "",
    "my.py": "def score(episodes):\n    return [0] * len(episodes)\n\n\ntruth = score\n",
}
"""Files that commands name and no page shows: a reader's own."""
SHOWN = ("jsonl", "yaml", "python")
"""Languages of blocks that are files; the line before names the file."""
ENDINGS = ("md", "py", "yaml", "json", "jsonl", "csv", "parquet", "html", "png")
KEYS = {name: key for source in workload_names() for name, key in keys_of(find_workload(source).config).items()}
GROUPS = "|".join(name for name, key in KEYS.items() if key.is_group and "." not in name)
COMMAND = re.compile(
    r"^(?:orchestrate submit .* -- |(?:ray job submit .* -- )?(?:orchestrate|python -m orchestrator) )(.*)"
)
SHORT = {name.rpartition(".")[2] for name in KEYS}
"""Keys without their groups, as a text may name one that was named before."""
LONGEST_PAGE = 118
SEVERAL_SEEDS = re.compile(r"seed=\d+\.\.\d+")


@dataclass(frozen=True)
class Page:
    """files: name -> content. commands: without the leading `orchestrate`. prose: all that is in no block."""

    path: Path
    files: dict[str, str]
    commands: list[str]
    prose: str


def read_page(path: Path, text: str) -> Page:
    """Raises AssertionError for a file that has no name."""
    files: dict[str, str] = {}
    commands, prose, language, block = [], [], None, []
    for line in text.splitlines():
        if language is None and line.startswith("```"):
            language, block = line[3:].strip(), []
        elif line == "```":
            if language in SHOWN:
                named = re.search(r"`([\w./-]+)`:$", "\n".join(prose).rstrip())
                assert named, (
                    f"{path.name}: a {language} block without a line before it that ends with its name: {block[0]}"
                )
                files[named[1]] = "\n".join(block) + "\n"
            language = None
        elif language in SHOWN:
            block.append(line)
        elif language is None and not line.startswith("    "):
            prose.append(line)
        elif found := COMMAND.search(line.strip()):
            commands.append(found[1])
    return Page(path, files, commands, "\n".join(prose))


def problems_of(page: Page, folder: Path) -> list[str]:
    """What is wrong with a page; folder: the current one, in which its files lie."""
    found = [*_wrong_names(page), *_wrong_links(page)]
    for name in page.files:
        if name.endswith(".py"):
            found += _tried(name, load_module, folder / name)
    for command in page.commands:
        found += _tried(command, _check, command)
    return [f"{page.path.name}: {problem}" for problem in found]


def _tried(what: str, check: Callable[..., Any], given: Any) -> list[str]:
    try:
        check(given)
    # Of code that a page shows, and of a parser whose errors are typer's own.
    except Exception as error:
        return [f"{what}: {type(error).__name__}: {error}"]
    return []


def _wrong_names(page: Page) -> Iterator[str]:
    """Settings and verbs in the running text that are not there."""
    for span in re.findall(r"`([^`\n]+)`", page.prose):
        for key in re.findall(rf"(?<![\w./-])((?:{GROUPS})\.[a-z_.]*[a-z_])(?![\w/(])", span):
            if key not in KEYS and key.rpartition(".")[2] not in ENDINGS:
                yield f"`{span}`: there is no setting {key}"
        for key in re.findall(r"^(?!key=value)([a-z_]+)=(?!=)", span):
            if key not in SHORT and key not in KEYS:
                yield f"`{span}`: there is no setting {key}"
        if words := re.match(r"orchestrate ([a-z].*)", span):
            yield from _tried(span, _verb, shlex.split(words[1]))


def _wrong_links(page: Page) -> Iterator[str]:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.prose):
        if not target.startswith(("https://", "http://")) and not (page.path.parent / target).exists():
            yield f"the link {target} leads nowhere"


def _verb(words: list[str]) -> tuple[str, Any, list[str]]:
    """(verb, its command, the words after it); its options must be there. Raises AssertionError."""
    command, name = typer.main.get_command(cli.app), ""
    while inside := getattr(command, "commands", None):
        assert words, f"{name} is no verb by itself"
        assert words[0] in inside, f"there is no verb {words[0]}"
        command, name, words = inside[words[0]], f"{name} {words[0]}".strip(), words[1:]
    options = {option for item in command.params for option in item.opts}
    for word in words:
        for option in re.findall(r"^\[?(--[a-z-]+)", word):
            assert option in options, f"{name} has no option {option}"
    return name, command, words


def _check(shown: str) -> None:
    """Raises what is wrong with a command. In a synopsis [what may be left out] and what follows two blanks are no part of it."""
    _verb([word for word in shown.replace("…", "").split() if not word.startswith('"')])
    plain = re.split(r"\s{2,}", re.sub(r"\[[^]]*\]", "", shown.replace("…", "")).strip())[0]
    words = shlex.split(plain)
    for word in re.findall(r"(?<![\w.])[A-Z]+(?=\d?(?![\w]))", " ".join(word for word in words if " " not in word)):
        assert word in PLACEHOLDERS, f"{word} is no placeholder"
    name, command, rest = _verb(words)
    given = command.make_context(name, list(rest)).params
    settings = [word for word in given.get("overrides") or [] if "=run:" not in word]
    if name == "train":
        _check_training(given, settings, [*words])
    elif name == "judge" and str(given["file"]) not in PLACEHOLDERS:
        _check_judging(given, settings)
    elif name == "sweep":
        _check_sweep(given, settings, words)
    elif name == "table":
        _check_table(given, settings, words)
    elif name == "evaluate":
        trace(target_of(given["workload"]), [*settings, f"model.name={given['model']}"], elsewhere=True)
    elif name == "config show":
        trace(given["target"], settings)
    elif name == "rejudge":
        compose("rlvr", settings)
    elif name == "new" or (name == "config explain" and given["key"] not in (None, *PLACEHOLDERS)):
        _run(words)


def _check_sweep(given: dict[str, Any], settings: list[str], words: list[str]) -> None:
    """Every run that is known beforehand is planned, as the dry run does."""
    if given["name"] in PLACEHOLDERS:
        return
    sweep = read_sweep(given["name"], settings)
    for stage in stages(sweep):
        plan_of(sweep, stage, given["storage"])
    if given["dry_run"]:
        _run(words)


def _check_table(given: dict[str, Any], settings: list[str], words: list[str]) -> None:
    """The table is found, and its sweep has what it names; the list and the dry run are printed."""
    if given["name"] is not None and given["name"] not in PLACEHOLDERS:
        find_table(given["name"]).read_sweep(settings)
    if given["name"] is None or given["dry_run"]:
        _run(words)


def _check_training(given: dict[str, Any], settings: list[str], words: list[str]) -> None:
    target = given["target"]
    if any(SEVERAL_SEEDS.fullmatch(word) for word in settings):
        _run([*words, *([] if given["dry_run"] else ["--dry-run"])])
        return
    if given["resume"] or given["start_from"] or given["replay"]:
        compose("rlvr", [*([target] if target else []), *settings])
        return
    assert target, "names nothing to train"
    if target in PLACEHOLDERS:
        return
    composed = trace(target, settings)
    make_plan(composed.config)
    needs_of(composed.config, None)
    if given["dry_run"]:
        _run(words)
    if composed.config.gathers_at_once:
        return  # the models of the runs that it names would be asked
    _check_data(composed)


def _check_data(composed: Composed) -> None:
    """The tasks that the pages show are read, and their functions score them."""
    config = composed.config
    functions = [function.load() for _, function in functions_of(config)]
    path = config.data.path or ""
    if path.startswith("hf:") or path in BROUGHT:
        return
    if composed.source.name.startswith("rlvr"):
        # Its own tests make its world; a small one has the same tasks.
        config = compose(composed.source.name, ["data.train_groups=1", "data.eval_groups=1"])
    workload = composed.source.workload(config)
    assert workload.tasks("train")
    if not composed.source.name.startswith("rlvr"):
        # As a run does: its lessons may be made of what is gathered first. On a page's data nobody has to be asked.
        gather(config, workload, lambda text: None)
        workload.lessons()
    task = workload.tasks("eval")[0]
    for function in functions:
        verdicts_of(function(episodes(task, ("Iron.", "a longer answer of several words"))), 2)


def episodes(task: Task, texts: Sequence[str]) -> list[Episode]:
    """Invented answers to a task."""
    turns = [Turn(POLICY, (1,), (2,), (-0.1,), text, "stop", 1.0, 0, 0) for text in texts]
    return [Episode(task, 1, number, (turn,)) for number, turn in enumerate(turns)]


def _check_judging(given: dict[str, Any], settings: list[str]) -> None:
    """As `orchestrate judge` begins, up to the judge."""
    config = compose(
        WORKLOAD, [f"data.path={given['file']}", f"rubric.path={given['rubric']}", *settings, "placement=split"]
    )
    assert isinstance(config.data, TableConfig)
    assert read_answers(given["file"], config.data, read_rubric(given["rubric"]))


def _run(words: list[str]) -> None:
    done = CliRunner().invoke(cli.app, words)
    assert done.exit_code == 0, done.stderr or done.exception


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with the files of all pages."""
    monkeypatch.chdir(tmp_path)
    write_files(tmp_path, BROUGHT)
    for path in PAGES:
        write_files(tmp_path, read_page(path, path.read_text()).files)
    return tmp_path


def write_files(folder: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        path = folder / name
        assert not path.exists() or path.read_text() == content, f"two pages show another {name}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_what_a_page_shows_works(path: Path, folder: Path) -> None:
    page = read_page(path, path.read_text())
    assert page.commands
    assert problems_of(page, folder) == []


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.stem)
def test_a_page_is_short_and_says_where_to_go_next(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert len(lines) <= LONGEST_PAGE
    last = path.read_text().rpartition("\n\n")[2]
    assert last.startswith("Next: ")
    assert len(set(re.findall(r"\]\(([\w-]+\.md)\)", last)) - {path.name}) >= 2


def test_there_are_eighteen_pages_and_each_is_linked_from_another() -> None:
    assert len(DOCS) == 18
    for page in DOCS:
        assert any(f"({page.name})" in other.read_text() for other in DOCS if other != page), page.name


def test_every_alarm_is_there_with_its_threshold() -> None:
    """Of each rule the table's second cell holds the numbers that the rule compares with."""
    d = diagnosis
    numbers = {
        "judge and truth diverge": (f"{d.PROXY_RISE:g}", f"{d.GAP_WIDENING:g}"),
        "no verdicts": (f"{d.UNSCORED:.0%}",),
        "log-probability gap grows": (f"{d.GAP_GROWTH:g} times", f"{d.GAP_FLOOR:g}"),
        "groups are equal": (f"{d.EQUAL_GROUPS:.0%}",),
        "answers are cut off": (f"{d.TRUNCATED:.0%}",),
        "entropy collapsed": (f"{d.ENTROPY_LEFT:.0%}",),
        "episodes are stale": (f"{d.STALENESS:g} weight", f"{d.BOUNDED:.0%}"),
        "one engine is slow": (f"{d.SLOW_RATIO:g} times",),
    }
    assert list(numbers) == [rule.name for rule in d.RULES]
    rows = table_rows(ROOT / "docs" / "reading-a-run.md")
    for name, expected in numbers.items():
        assert all(number in rows[name][0] for number in expected), name
    assert f"mean of {d.WINDOW} steps" in (ROOT / "docs" / "reading-a-run.md").read_text()


def test_every_objective_is_there_with_its_penalty() -> None:
    rows = table_rows(ROOT / "docs" / "objectives.md")
    names = KEYS["algorithm.name"].choices
    for name in names:
        algorithm: AlgorithmConfig = compose("rlvr", [f"algorithm={name}"]).algorithm
        penalty = rows[f"`{name}`"][-1]
        weight = f"{algorithm.kl_weight:g}, {algorithm.kl_estimator} in the {algorithm.kl_in}"
        assert penalty.startswith(weight if algorithm.kl_weight else "none"), name


def table_rows(path: Path) -> dict[str, list[str]]:
    """First cell -> the others, of all tables of a page."""
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in path.read_text().splitlines()
        if line.startswith("|")
    ]
    return {first: rest for first, *rest in cells}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("    orchestrate train rlvr learner.learning_rat=1\n", "learning_rat (command line): there is no such key"),
        ("    orchestrate train rlvr steps=none\n", "steps=none"),
        ("    orchestrate train rlvr --dryrun\n", "train has no option --dryrun"),
        ("    orchestrate train rlvr [--dryrun]   plans\n", "train has no option --dryrun"),
        ("    orchestrate trane rlvr\n", "there is no verb trane"),
        ("    orchestrate report\n", "Missing parameter: run"),
        ("    orchestrate report MINE\n", "MINE is no placeholder"),
        ("    orchestrate train --from RUN learning_rate=1\n", "learning_rate"),
        ("    orchestrate train hardware=1x80GB rlvr --dry-run\n", "the first word is a workload"),
        ("    orchestrate train rlvr hardware=1x24GB model=hf:Qwen/Qwen3-8B --dry-run\n", "does not fit"),
        ("    orchestrate train rubric data.path=missing.jsonl --dry-run\n", "missing.jsonl does not exist"),
        ("    orchestrate config explain judge.mass\n", "judge.mass"),
        ("    ray job submit --address http://HEAD:8265 -- python -m orchestrator train rlvr step=1\n", "step (command line)"),
        ("```\norchestrate train rlvr step=1\n```\n", "step (command line)"),
        ("Set `judge.min_mas` to 0.\n", "there is no setting judge.min_mas"),
        ("Set `step=1`.\n", "there is no setting step"),
        ("Ask `orchestrate lists` for them.\n", "there is no verb lists"),
        ("See [more](more.md).\n", "the link more.md leads nowhere"),
        ("`a.py`:\n\n```python\nimport nothing_of_this_name\n```\n", "No module named"),
        ("`a.py`:\n\n```python\ndef f(e):\n    return [1]\n```\n\n    orchestrate train rlvr reward=a.py:f\n", "only 1 verdicts"),
        ("`a.py`:\n\n```python\ndef f(e):\n    return [1, 1]\n```\n\n    orchestrate train rlvr reward=a.py:g\n", "no such function"),
        (
            "`a.jsonl`:\n\n```jsonl\n{\"text\": \"x\"}\n```\n\n    orchestrate judge a.jsonl rubric.yaml judge=hf:a/b\n",
            "field 'prompt' is missing",
        ),
        (
            "`a.jsonl`:\n\n```jsonl\n{\"prompt\": \"x\"}\n```\n\n"
            "    orchestrate train rubric data.path=a.jsonl rubric.path=rubric.yaml\n",
            "holds one group",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_page_is_found(text: str, words: str, folder: Path) -> None:
    page = read_page(ROOT / "docs" / "made-up.md", text)
    write_files(folder, page.files)
    problems = problems_of(page, folder)
    assert len(problems) == 1, problems
    assert words in problems[0]


def test_a_file_without_a_name_is_refused() -> None:
    with pytest.raises(AssertionError, match="without a line before it"):
        read_page(Path("x.md"), "This:\n\n```yaml\nsteps: 1\n```\n")
