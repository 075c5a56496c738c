"""A page as its elements, and as a browser shows it."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest


class Elements(HTMLParser):
    """Every element's name and attributes, and the content of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.cdata_elem == "script":
            self.scripts.append(data)


def opened(file: Path, fragment: str) -> tuple[str, str]:
    """The page's elements after its script has run, with this fragment in its address; and what the console was told. Skips the test
    where there is no browser."""
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("no chromium is installed, in which the page would be opened")
    done = subprocess.run(
        [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync", "--enable-logging=stderr",
            f"--user-data-dir={file.parent / 'profile'}", "--virtual-time-budget=2000", "--dump-dom",
            f"{file.as_uri()}#{fragment}",
        ],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    told = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return re.sub(r"(?s)<script.*?</script>", "", done.stdout), "\n".join(told)
