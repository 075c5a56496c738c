"""The tools of the four applications and those of the loop, as published: names, arguments, strict OpenAI schemas.

Names are `<App>_<function>`. A strict schema lists every argument as required and lets those that may be left out be null. Of
SALT-NLP/contextual_privacy_defense at 02d3931; Notion of its predecessor SALT-NLP/search_privacy_risk at 994eaf3.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.errors import DataError

MESSENGER, GMAIL, FACEBOOK, NOTION = APPLICATIONS = ("Messenger", "Gmail", "Facebook", "Notion")
_PYTHON = {"string": str, "integer": int}


@dataclass(frozen=True, slots=True)
class Parameter:
    """kind: "string" or "integer". optional: it may be left out, or be null."""

    kind: str
    told: str
    optional: bool = False

    @property
    def schema(self) -> dict[str, Any]:
        """JSON schema."""
        return {"type": [self.kind, "null"] if self.optional else self.kind, "description": self.told}


@dataclass(frozen=True, slots=True)
class Tool:
    """app: empty for the tools of the loop itself."""

    app: str
    function: str
    told: str
    parameters: Mapping[str, Parameter]

    @property
    def name(self) -> str:
        """As models call it."""
        return f"{self.app}_{self.function}" if self.app else self.function

    @property
    def arguments(self) -> dict[str, Any]:
        """JSON schema of the arguments."""
        return {
            "type": "object",
            "properties": {name: parameter.schema for name, parameter in self.parameters.items()},
            "required": list(self.parameters),
            "additionalProperties": False,
        }

    @property
    def schema(self) -> dict[str, Any]:
        """The strict tool of OpenAI's interface."""
        told = {"name": self.name, "description": self.told, "strict": True, "parameters": self.arguments}
        return {"type": "function", "function": told}

    @property
    def call_schema(self) -> dict[str, Any]:
        """JSON schema of a call of this tool that is written as text."""
        return {
            "type": "object",
            "properties": {"name": {"const": self.name}, "arguments": self.arguments},
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }

    def problem(self, arguments: object) -> str:
        """What is wrong with the arguments of a call, in words; empty where they fit."""
        if not isinstance(arguments, Mapping):
            return f"the arguments are a {type(arguments).__name__}, not an object"
        for name, value in arguments.items():
            known = self.parameters.get(name)
            if known is None:
                return f"{self.name} has no argument {name!r}"
            # A bool is an int in Python, and in JSON it is not.
            fits = isinstance(value, _PYTHON[known.kind]) and not isinstance(value, bool)
            if not fits and not (value is None and known.optional):
                return f"{name!r} must be of type {known.kind}"
        missing = [name for name, known in self.parameters.items() if not known.optional and name not in arguments]
        return f"{self.name} needs {', '.join(missing)}" if missing else ""


def _text(told: str, optional: bool = False) -> Parameter:
    return Parameter("string", told, optional)


_COUNT = Parameter("integer", "How many at most; 10 where it is left out.", True)
_KEYWORD = _text("Only those in which this word occurs.", True)
_PAGE = _text("The id of the page.")

THINK = Tool(
    "", "think", "Think about the situation before acting; nothing happens.", {"thought": _text("The thought.")}
)
END = Tool("", "end_action_cycle", "Nothing is left to do until something new happens.", {"reason": _text("Why.")})
COMPLETE = Tool("", "complete_task", "The whole task is done; no further cycle follows.", {})
LOOP_TOOLS = (END, COMPLETE)

_APP_TOOLS = (
    Tool(
        MESSENGER,
        "send_message",
        "Send a message to a user.",
        {"recipient_id": _text("The user's id."), "message": _text("The message.")},
    ),
    Tool(
        MESSENGER,
        "get_messages",
        "Messages that were sent and received, newest first.",
        {"max_count": _COUNT, "keyword": _KEYWORD, "sender_id": _text("Only those that this user sent.", True)},
    ),
    Tool(
        GMAIL,
        "send_email",
        "Send an email.",
        {
            "to_address": _text("The addresses, with commas between them."),
            "subject": _text("The subject."),
            "body": _text("The text."),
            "cc_address": _text("Addresses that get a copy.", True),
            "bcc_address": _text("Addresses that get a copy without the others' knowledge.", True),
        },
    ),
    Tool(
        GMAIL,
        "search_emails",
        "Find emails, newest first; without their texts.",
        {
            "max_count": _COUNT,
            "keyword": _KEYWORD,
            "start_time": _text("Not before this time (YYYY-MM-DD HH:MM:SS).", True),
            "end_time": _text("Not after this time (YYYY-MM-DD HH:MM:SS).", True),
            "from_address": _text("Only those from this address.", True),
            "to_address": _text("Only those to this address.", True),
        },
    ),
    Tool(GMAIL, "get_email", "Read one email.", {"email_id": _text("The id of the email.")}),
    Tool(FACEBOOK, "create_post", "Write a post that everybody can read.", {"content": _text("The post.")}),
    Tool(
        FACEBOOK,
        "get_posts",
        "Posts, newest first.",
        {"max_count": _COUNT, "keyword": _KEYWORD, "sender_id": _text("Only those of this user.", True)},
    ),
    Tool(
        NOTION,
        "create_page",
        "Write a new page.",
        {"title": _text("The title."), "content": _text("The text.")},
    ),
    Tool(NOTION, "get_page", "Read one page.", {"page_id": _PAGE}),
    Tool(NOTION, "edit_page", "Replace the text of a page.", {"page_id": _PAGE, "content": _text("The new text.")}),
    Tool(
        NOTION,
        "share_page",
        "Let another user read a page.",
        {"page_id": _PAGE, "user_id": _text("The user's id.")},
    ),
    Tool(NOTION, "search_content", "Find pages; without their texts.", {"keyword": _text("A word on the page.")}),
)
TOOLS: Mapping[str, Tool] = {tool.name: tool for tool in (*_APP_TOOLS, THINK, *LOOP_TOOLS)}
SENDS = ("Messenger_send_message", "Gmail_send_email", "Facebook_create_post")
"""What a guard looks at before it happens."""
READS = ("Messenger_get_messages", "Gmail_get_email", "Facebook_get_posts", "Notion_get_page")
"""After which, where something was found, an instructor speaks; a search of emails shows no text."""


def tools_of(applications: Sequence[str]) -> tuple[Tool, ...]:
    """The tools of some applications, in their order. Raises DataError naming one that there is not."""
    unknown = [name for name in applications if name not in APPLICATIONS]
    if unknown:
        raise DataError(f"no application {unknown[0]!r}: there are {', '.join(APPLICATIONS)}.")
    return tuple(tool for name in applications for tool in _APP_TOOLS if tool.app == name)


def tools(*applications: str) -> tuple[dict[str, Any], ...]:
    """Their OpenAI schemas."""
    return tuple(tool.schema for tool in tools_of(applications))


@dataclass(frozen=True, slots=True)
class Action:
    """A call of a tool with arguments that fit it."""

    tool: Tool
    arguments: Mapping[str, Any]

    @property
    def text(self) -> str:
        """As a model writes it."""
        return json.dumps({"name": self.tool.name, "arguments": dict(self.arguments)}, ensure_ascii=False)


class InvalidActionError(ValueError):
    """What a model wrote is no call of a tool that it has; it is asked again."""


def checked(tool: Tool, arguments: object) -> Action:
    """Raises InvalidActionError where the arguments do not fit the tool."""
    if problem := tool.problem(arguments):
        raise InvalidActionError(problem)
    assert isinstance(arguments, Mapping)
    return Action(tool, dict(arguments))
