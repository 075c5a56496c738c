"""What an agent has seen and done, sanitised for whoever watches over it: messages that came and went, and nothing else.

Thoughts, triggers and earlier instructions are left out, as SALT-NLP/contextual_privacy_defense at 02d3931 does for guard and
instructor.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from workloads.cdi.tools import Action


@dataclass(frozen=True, slots=True)
class Entry:
    """One message, email, post or page. sent: by the agent itself; else it was read.

    other: who wrote it, or to whom it goes: an id, an address, empty of a post or page of one's own. failed: it was blocked or refused.
    """

    kind: str
    sent: bool
    other: str
    text: str
    subject: str = ""
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Memory:
    """What a guard or an instructor is given. task: the agent's goal. background: who it is, whom it knows."""

    task: str
    background: str
    entries: tuple[Entry, ...]

    def without_failures(self) -> Memory:
        """The same of what really happened: the guard's view."""
        return Memory(self.task, self.background, tuple(entry for entry in self.entries if not entry.failed))


def entries_of(action: Action, result: Mapping[str, Any]) -> tuple[Entry, ...]:
    """What a call of a tool adds to the memory: all that it found, or what it sent; empty of searches."""
    asked, failed = action.arguments, "error" in result
    match action.tool.name:
        case "Messenger_send_message":
            return (Entry("message", True, asked["recipient_id"], asked["message"], failed=failed),)
        case "Gmail_send_email":
            return (Entry("email", True, asked["to_address"], asked["body"], asked["subject"], failed),)
        case "Facebook_create_post":
            return (Entry("post", True, "", asked["content"], failed=failed),)
        case "Messenger_get_messages":
            return tuple(
                Entry("message", False, one["sender_id"], one["message"]) for one in _found(result, "messages")
            )
        case "Gmail_get_email":
            return tuple(
                Entry("email", False, one["from_address"], one["body"], one["subject"])
                for one in _found(result, "email")
            )
        case "Facebook_get_posts":
            return tuple(Entry("post", False, one["user_id"], one["content"]) for one in _found(result, "posts"))
        case "Notion_get_page":
            return tuple(
                Entry("page", False, one["owner_id"], one["content"], one["title"]) for one in _found(result, "page")
            )
    return ()


def _found(result: Mapping[str, Any], name: str) -> Iterable[Mapping[str, Any]]:
    found = result.get(name, ())
    return (found,) if isinstance(found, Mapping) else found
