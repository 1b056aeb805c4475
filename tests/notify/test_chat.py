"""docs/design/rules.md, "What a service says": in a chat it mentions nobody and links to nothing."""

from __future__ import annotations

import re

import pytest

from reconciler.notify.alerts import NO_WIDTH, for_chat


@pytest.mark.parametrize(
    "text",
    [
        "<!channel> <!here|here> <@U012AB3CD> <!subteam^S1> <users/all>",
        "@channel @here @all @everyone @room @ada",
        "write to it@example.com",
        "see https://evil.example.com/login, http://evil.example.com or ftp://x",
        "see www.evil.example.com or evil.example",
        "<https://evil.example.com|reset your password> <a href='https://evil.example'>x</a> <at>Ada</at>",
        "[reset](https://evil.example) ![x](//evil.example) [a][b] [b]: //evil.example",
    ],
)
def test_a_text_mentions_nobody_and_links_to_nothing(text):
    shown = for_chat(text)
    assert re.findall(r"[<>]|@\w|://|\]\(|\]\[|\]:|\w\.[a-z]{2}", shown) == []
    plain = shown.replace(NO_WIDTH, "").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    assert plain == text, "what people read is what was said"


def test_what_links_to_nothing_stays_as_it_is():
    text = "tool: failed: answered 422: 3.14 of 127.0.0.1:80, `allowed_hosts` in config/reconciler.yaml\n  ada/tool"
    assert for_chat(text) == text
