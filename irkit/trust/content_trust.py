"""Docker Content Trust (The Update Framework through a Notary v1 server): recognised, and never accepted.

Upstream is archived, and notary.docker.io ends on 2026-12-08.  That a Notary server keeps data for a repository is told, so
that nobody takes it for checked.
"""

from __future__ import annotations

from collections.abc import Iterator

from irkit.errors import NotTrusted
from irkit.text import printable
from irkit.trust import strict
from irkit.trust.model import Found
from irkit.trust.reference import HUB
from irkit.trust.registry import MANIFEST_LIMIT
from irkit.trust.scene import Scene

HUB_SERVER = "https://notary.docker.io"
RETIRED = "Docker Content Trust is retired upstream (notary.docker.io ends on 2026-12-08)"


class ContentTrust:
    """Asks the Notary server for the repository's root of trust."""

    kind = "content-trust"

    def find(self, scene: Scene) -> Iterator[Found]:
        """What there is, with the reason why it does not count."""
        registry = scene.registry
        if registry is None:
            return
        reference = scene.reference
        server = registry.settings.notary or (
            HUB_SERVER if reference.registry == HUB else f"https://{reference.registry}"
        )
        url = f"{server}/v2/{reference.name}/_trust/tuf/root.json"
        where = printable(server, 200)
        try:
            answer = registry.web.get(url, {}, MANIFEST_LIMIT)
            if answer.status == 404:
                yield Found(self.kind, where, problem=f"the Notary server knows nothing of this repository; {RETIRED}")
                return
            if answer.status != 200:
                raise NotTrusted(f"the Notary server answers {answer.status}; {RETIRED}")
            signed = strict.mapping(strict.load_object(answer.body, "root.json"), "signed", "root.json")
            if str(signed.get("_type")).lower() != "root":
                raise NotTrusted("what answers is no Notary server")
        except NotTrusted as error:
            yield Found(self.kind, where, problem=error.message)
            return
        yield Found(
            self.kind, where, problem=f"there is trust data, which irkit recognises and does not verify; {RETIRED}"
        )
