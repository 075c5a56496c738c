"""The world of a simulation: four applications as plain data, in the process, with a log of what was done in them.

Nothing here opens a file or a socket, and no text is ever executed. Time is a count of what has happened, so that a simulation can be
played again exactly. As SALT-NLP/contextual_privacy_defense at 02d3931: every user has an account, a successful send is logged, a
refused one is not.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from workloads.cdi.scenario import address, user_id
from workloads.cdi.tools import FACEBOOK, GMAIL, MESSENGER, NOTION, TOOLS

Result = dict[str, Any]
"""What a call gives back, plain JSON data: {"success": True, …} of a send, a list of a read, {"error": why} of neither."""
START = datetime(2026, 1, 5, 9, 0, 0)
TICK = timedelta(minutes=1)
MOST_FOUND = 10
"""How many a read gives where nothing else is asked for (published default)."""


@dataclass(frozen=True, slots=True)
class Activity:
    """A line of the log. index: from 1. involved: ids of all users whom it reaches, the acting one included. details: the arguments."""

    index: int
    app: str
    action: str
    user_id: str
    involved: tuple[str, ...]
    details: Mapping[str, Any]


class World:
    """The applications of one simulation. people: names of those who have accounts."""

    def __init__(self, people: Sequence[str]) -> None:
        self.users = tuple(dict.fromkeys(user_id(name) for name in people))
        self._user_at = {address(name): user_id(name) for name in people}
        self.activities: list[Activity] = []
        self._stored: dict[str, list[Result]] = defaultdict(list)
        self._news: dict[str, Counter[str]] = {user: Counter() for user in self.users}
        self._do: dict[str, Callable[[str, Mapping[str, Any]], Result]] = {
            "Messenger_send_message": self._send_message,
            "Messenger_get_messages": self._get_messages,
            "Gmail_send_email": self._send_email,
            "Gmail_search_emails": self._search_emails,
            "Gmail_get_email": self._get_email,
            "Facebook_create_post": self._create_post,
            "Facebook_get_posts": self._get_posts,
            "Notion_create_page": self._create_page,
            "Notion_get_page": self._get_page,
            "Notion_edit_page": self._edit_page,
            "Notion_share_page": self._share_page,
            "Notion_search_content": self._search_content,
        }

    def call(self, user: str, tool: str, arguments: Mapping[str, Any]) -> Result:
        """Do what a user asks of a tool; what cannot be done is an `error` in words and leaves no trace."""
        if tool not in self._do:
            return _error(f"there is no tool {tool!r}")
        if user not in self._news:
            return _error(f"there is no user {user!r}")
        if problem := TOOLS[tool].problem(arguments):
            return _error(problem)
        return self._do[tool](user, {name: value for name, value in arguments.items() if value is not None})

    def take_news(self, user: str) -> dict[str, int]:
        """How much has come in for a user since this was last asked, by application."""
        news, self._news[user] = dict(self._news[user]), Counter()
        return news

    def has_news(self, user: str) -> bool:
        """Whether anything has come in since."""
        return bool(self._news[user])

    # --- Messenger ---

    def _send_message(self, user: str, asked: Mapping[str, Any]) -> Result:
        if asked["recipient_id"] not in self.users:
            return _error(f"there is no user {asked['recipient_id']!r}")
        kept = {"sender_id": user, "recipient_id": asked["recipient_id"], "message": asked["message"]}
        return self._keep(MESSENGER, "send_message", "message", user, (asked["recipient_id"],), kept, asked)

    def _get_messages(self, user: str, asked: Mapping[str, Any]) -> Result:
        mine = (kept for kept in self._stored[MESSENGER] if user in (kept["sender_id"], kept["recipient_id"]))
        wanted = (kept for kept in mine if asked.get("sender_id") in (None, kept["sender_id"]))
        return {"messages": _newest(wanted, asked, ("message",))}

    # --- Gmail ---

    def _send_email(self, user: str, asked: Mapping[str, Any]) -> Result:
        details = {name: asked.get(name, "") for name in ("to_address", "subject", "body", "cc_address", "bcc_address")}
        reached = [one for name in ("to_address", "cc_address", "bcc_address") for one in _addresses(details[name])]
        unknown = [one for one in reached if one not in self._user_at]
        if unknown or not _addresses(details["to_address"]):
            return _error(f"no mailbox is at {unknown[0] if unknown else details['to_address']!r}")
        kept = {"from_address": f"{user}@gmail.com", **details}
        users = tuple(self._user_at[one] for one in reached)
        return self._keep(GMAIL, "send_email", "email", user, users, kept, details)

    def _search_emails(self, user: str, asked: Mapping[str, Any]) -> Result:
        start, end = asked.get("start_time", ""), asked.get("end_time")
        wanted = (
            kept
            for kept in self._mails(user)
            if start <= kept["time"]
            and (end is None or kept["time"] <= end)
            and asked.get("from_address") in (None, kept["from_address"])
            and (asked.get("to_address") is None or asked["to_address"] in _addresses(kept["to_address"]))
        )
        found = _newest(wanted, asked, ("subject", "body"))
        return {"emails": [{name: value for name, value in kept.items() if name != "body"} for kept in found]}

    def _get_email(self, user: str, asked: Mapping[str, Any]) -> Result:
        for kept in self._mails(user):
            if kept["id"] == asked["email_id"]:
                return {"email": kept}
        return _error(f"there is no email {asked['email_id']!r}")

    def _mails(self, user: str) -> Iterator[Result]:
        """What a user may see; who else got a hidden copy is for the author alone."""
        mine = f"{user}@gmail.com"
        for kept in self._stored[GMAIL]:
            hidden = kept if kept["from_address"] == mine else {**kept, "bcc_address": ""}
            reached = [one for name in ("to_address", "cc_address", "bcc_address") for one in _addresses(kept[name])]
            if mine in (kept["from_address"], *reached):
                yield hidden

    # --- Facebook ---

    def _create_post(self, user: str, asked: Mapping[str, Any]) -> Result:
        others = tuple(other for other in self.users if other != user)
        kept = {"user_id": user, "content": asked["content"]}
        return self._keep(FACEBOOK, "create_post", "post", user, others, kept, asked)

    def _get_posts(self, user: str, asked: Mapping[str, Any]) -> Result:
        wanted = (kept for kept in self._stored[FACEBOOK] if asked.get("sender_id") in (None, kept["user_id"]))
        return {"posts": _newest(wanted, asked, ("content",))}

    # --- Notion ---

    def _create_page(self, user: str, asked: Mapping[str, Any]) -> Result:
        kept = {"owner_id": user, "shared_with": [], **asked}
        return self._keep(NOTION, "create_page", "page", user, (), kept, asked)

    def _get_page(self, user: str, asked: Mapping[str, Any]) -> Result:
        page = self._page(user, asked["page_id"])
        return {"page": _copy(page)} if page else _error(f"there is no page {asked['page_id']!r}")

    def _edit_page(self, user: str, asked: Mapping[str, Any]) -> Result:
        page = self._page(user, asked["page_id"])
        if page is None or page["owner_id"] != user:
            return _error(f"there is no page {asked['page_id']!r} of yours")
        page["content"] = asked["content"]
        self._log(NOTION, "edit_page", user, (), asked)
        return {"success": True}

    def _share_page(self, user: str, asked: Mapping[str, Any]) -> Result:
        page, other = self._page(user, asked["page_id"]), asked["user_id"]
        if page is None or page["owner_id"] != user or other not in self.users:
            return _error(f"there is no page {asked['page_id']!r} of yours, or no user {other!r}")
        page["shared_with"] = sorted({*page["shared_with"], other})
        self._log(NOTION, "share_page", user, (other,), asked)
        return {"success": True}

    def _search_content(self, user: str, asked: Mapping[str, Any]) -> Result:
        mine = (kept for kept in self._stored[NOTION] if self._page(user, kept["id"]))
        return {
            "pages": [{"id": kept["id"], "title": kept["title"]} for kept in _newest(mine, asked, ("title", "content"))]
        }

    def _page(self, user: str, id: str) -> Result | None:
        for kept in self._stored[NOTION]:
            if kept["id"] == id and user in (kept["owner_id"], *kept["shared_with"]):
                return kept
        return None

    # --- all ---

    def _keep(
        self,
        app: str,
        action: str,
        kind: str,
        user: str,
        reached: tuple[str, ...],
        kept: Result,
        details: Mapping[str, Any],
    ) -> Result:
        """Store what was sent, log it, and let those whom it reaches know."""
        activity = self._log(app, action, user, reached, details)
        id = f"{kind}_{len(self._stored[app]) + 1}"
        self._stored[app].append({"id": id, "time": str(START + activity.index * TICK), **kept})
        return {"success": True, f"{kind}_id": id}

    def _log(self, app: str, action: str, user: str, reached: tuple[str, ...], details: Mapping[str, Any]) -> Activity:
        involved = tuple(dict.fromkeys((user, *reached)))
        activity = Activity(len(self.activities) + 1, app, action, user, involved, dict(details))
        self.activities.append(activity)
        for other in dict.fromkeys(reached):
            self._news[other][app] += 1
        return activity


def _newest(kept: Iterator[Result], asked: Mapping[str, Any], texts: Sequence[str]) -> list[Result]:
    """The newest first, those alone in whose texts the keyword occurs."""
    word = str(asked.get("keyword", "")).lower()
    found = [_copy(one) for one in kept if any(word in one[name].lower() for name in texts)]
    return found[::-1][: max(0, asked.get("max_count", MOST_FOUND))]


def _copy(kept: Result) -> Result:
    """A reader must not be able to change what is stored."""
    return {name: list(value) if isinstance(value, list) else value for name, value in kept.items()}


def _addresses(text: str) -> list[str]:
    return [one.strip() for one in text.split(",") if one.strip()]


def _error(why: str) -> Result:
    return {"error": why}
