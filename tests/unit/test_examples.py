"""Every whole YAML document in the docs is one that irkit takes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from irkit import documents
from irkit.audit.policy import read_policy
from irkit.audit.run import BY_ID
from irkit.config import read_config
from tests.fits import fits

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"```yaml\n(apiVersion.*?)```", re.DOTALL)
SCHEMAS = {
    "AuditPolicy": "audit-policy", "Noise": "noise", "Playbook": "playbook", "Profile": "profile", "Rules": "rules",
    "TrustPolicy": "trust-policy", "Watch": "watch",
}  # fmt: skip
"""Of the kinds that have one for editors."""


def examples() -> Iterator[tuple[str, str]]:
    for page in sorted(DOCS.glob("*.md")):
        yield from ((page.name, text) for text in BLOCK.findall(page.read_text("utf-8")))


@pytest.mark.parametrize(("page", "text"), list(examples()), ids=[f"{page}-{number}" for number, (page, _) in enumerate(examples())])  # fmt: skip
def test_an_example(page: str, text: str) -> None:
    document = documents.parse(text.encode(), page)
    plain = document.plain()
    if plain["kind"] in SCHEMAS:
        fits(plain, SCHEMAS[plain["kind"]])
    if plain["kind"] == "AuditPolicy":
        read_policy(document, BY_ID)
    if plain["kind"] == "Config":
        read_config(document)
