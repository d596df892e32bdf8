"""A registry by the OCI distribution spec v1.1: manifests, blobs, referrers.  Every byte's digest is checked.

What a registry says is never believed: an answer is taken when its bytes have the digest that was asked for, or, where a
tag was asked for, together with the digest that irkit computed.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urljoin

from irkit.errors import NotTrusted, RegistryProblem
from irkit.text import printable
from irkit.trust import credentials, strict
from irkit.trust.policy import RegistrySettings
from irkit.trust.reference import DIGEST, HUB, Reference
from irkit.trust.transport import Answer, Deadline, Web, is_loopback_name, origin

MANIFEST_LIMIT = 4 * 1024 * 1024
CONFIG_LIMIT = 8 * 1024 * 1024
SIGNATURE_LIMIT = 1024 * 1024
TOKEN_LIMIT = 64 * 1024
REDIRECTS = 5
REFERRERS = 100
PAGES = 20
SECONDS = 120.0
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
INDEXES = (OCI_INDEX, DOCKER_LIST)
KNOWN = (OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST)
CHALLENGE_LIMIT = 4096
_NEXT = re.compile(r'<([^<>]{1,4096})>; *rel="?next"?')
_CHALLENGE = re.compile(r'([A-Za-z]+)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest or an index, by the digest of its bytes.  ``document``: read strictly, not yet to be trusted."""

    digest: str
    media_type: str
    size: int
    document: dict[str, Any]

    @property
    def is_index(self) -> bool:
        """Whether it lists other manifests."""
        return self.media_type in INDEXES


def sha256(data: bytes) -> str:
    """``sha256:…`` of some bytes."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Registry:
    """One repository of one registry, within one deadline."""

    def __init__(
        self, reference: Reference, settings: RegistrySettings, seconds: float = SECONDS, *, scope: str = "pull"
    ) -> None:
        self.reference = reference
        self.scope = scope
        self.settings = settings
        host = "registry-1.docker.io" if reference.registry == HUB else reference.registry
        name = host.removeprefix("[").partition("]")[0] if host.startswith("[") else host.partition(":")[0]
        self._loopback = is_loopback_name(name) and settings.ca is None and not settings.plain
        scheme = "http" if settings.plain or self._loopback else "https"
        self.base = f"{scheme}://{host}/v2/{reference.repository}"
        self.web = Web(Deadline(seconds), settings.ca)
        self._authorization = ""
        self._supports_signatures = False
        self._seen: dict[str, Manifest] = {}
        self._referrers: dict[str, tuple[str, list[str]]] = {}

    def fresh(self, seconds: float) -> None:
        """A new deadline: something else has taken time meanwhile."""
        self.web.deadline = Deadline(seconds)

    # -- what is asked for ------------------------------------------------------------------------------------

    def manifest(self, wanted: str) -> Manifest:
        """A manifest by tag or digest.  What has its digest for a name is asked for once.  Raises ``RegistryProblem``."""
        if wanted in self._seen:
            return self._seen[wanted]
        answer = self._get(f"{self.base}/manifests/{wanted}", {"Accept": ", ".join(KNOWN)}, MANIFEST_LIMIT)
        digest = self._checked(answer, wanted if DIGEST.fullmatch(wanted) else "")
        found = read_manifest(answer.body, digest, answer.headers.get("content-type", ""))
        self._seen[digest] = found
        return found

    def blob(self, digest: str, limit: int) -> bytes:
        """A blob.  It may be fetched from elsewhere: its digest is what counts.  Raises ``RegistryProblem``."""
        answer = self._get(f"{self.base}/blobs/{digest}", {}, limit, redirects=REDIRECTS)
        if sha256(answer.body) != digest:
            raise NotTrusted(f"the registry's blob {digest} has the digest {sha256(answer.body)}")
        return answer.body

    def referrers(self, digest: str) -> tuple[str, list[str]]:
        """How they were found (``referrers`` or the tag), and the digests of manifests that say they are about ``digest``.

        At most :data:`REFERRERS`.  What the list itself says of them (types, annotations) is not used.
        """
        if digest not in self._referrers:
            self._referrers[digest] = self._list_referrers(digest)
        return self._referrers[digest]

    def _list_referrers(self, digest: str) -> tuple[str, list[str]]:
        try:
            answer = self._get(f"{self.base}/referrers/{digest}", {"Accept": OCI_INDEX}, MANIFEST_LIMIT)
        except RegistryProblem as error:
            if error.status != 404:
                raise
        else:
            return "referrers", self._pages(answer)
        tag = digest.replace(":", "-")
        try:
            index = self.manifest(tag)
        except RegistryProblem as error:
            if error.status != 404:
                raise
            return tag, []
        return tag, _descriptors(index.document) if index.is_index else []

    def _pages(self, answer: Answer) -> list[str]:
        """All pages of a list (distribution spec, "Listing Referrers": ``Link``), on the same server."""
        found = _listed(answer.body)
        for _ in range(PAGES):
            following = _NEXT.match(answer.headers.get("link", ""))
            if following is None or len(found) > REFERRERS:
                break
            url = urljoin(answer.url, following[1])
            if origin(url) != origin(self.base):
                raise NotTrusted(f"the registry goes on with its list elsewhere: {printable(url, 200)}")
            answer = self._get(url, {"Accept": OCI_INDEX}, MANIFEST_LIMIT)
            found += _listed(answer.body)
        return list(dict.fromkeys(found))[: REFERRERS + 1]

    def extension_signatures(self, digest: str) -> list[dict[str, Any]]:
        """GPG signatures by the ``X-Registry-Supports-Signatures`` extension (OpenShift); none where it is not offered."""
        self._get(f"{self.base.partition('/v2/')[0]}/v2/", {}, TOKEN_LIMIT, missing_ok=True)
        if not self._supports_signatures:
            return []
        base = self.base.replace("/v2/", "/extensions/v2/", 1)
        answer = self._get(f"{base}/signatures/{digest}", {}, MANIFEST_LIMIT, missing_ok=True)
        if answer.status != 200:
            return []
        return strict.items(
            strict.load_object(answer.body, "the list of signatures"), "signatures", "the list", REFERRERS
        )

    def put(self, method: str, url: str, body: bytes, media_type: str) -> Answer:
        """A request that changes something, on the registry's own origin.  Raises ``RegistryProblem`` unless it is accepted."""
        if origin(url) != origin(self.base):
            raise NotTrusted(f"the registry sends irkit elsewhere to write: {printable(url, 200)}")
        for last in (False, True):
            headers = {"Content-Type": media_type, "Content-Length": str(len(body))}
            if self._authorization:
                headers["Authorization"] = self._authorization
            answer = self.web.send(method, url, headers, TOKEN_LIMIT, body=body, loopback_only=self._loopback)
            if answer.status == 401 and not last:  # reading may be for everybody
                self._authorization = self._authorize(answer.headers.get("www-authenticate", ""))
                continue
            break
        if answer.status not in (201, 202):
            raise self._failed(answer, url)
        return answer

    # -- how --------------------------------------------------------------------------------------------------

    def _get(
        self, url: str, headers: dict[str, str], limit: int, *, redirects: int = 0, missing_ok: bool = False
    ) -> Answer:
        home = origin(url)
        tried_token = False
        while True:
            own = {"Authorization": self._authorization} if self._authorization and origin(url) == home else {}
            answer = self.web.get(
                url, {**headers, **own}, limit, loopback_only=self._loopback and origin(url)[0] == "http"
            )
            if answer.headers.get("x-registry-supports-signatures") == "1":
                self._supports_signatures = True
            if answer.status == 401 and origin(url) == home and not tried_token:
                tried_token = True
                self._authorization = self._authorize(answer.headers.get("www-authenticate", ""))
                continue
            if answer.status in (301, 302, 303, 307, 308):
                url, redirects = self._follow(url, answer, redirects), redirects - 1
                continue
            if answer.status == 200 or (missing_ok and answer.status in (401, 403, 404)):
                return answer
            raise self._failed(answer, url)

    def _follow(self, url: str, answer: Answer, left: int) -> str:
        target = urljoin(url, answer.headers.get("location", ""))
        if left <= 0:
            raise RegistryProblem(f"{origin(url)[1]} sends irkit on to {printable(target, 200)}: not followed")
        if origin(target)[0] != "https" and origin(url)[0] == "https":
            raise RegistryProblem(f"{origin(url)[1]} sends irkit on to {printable(target, 200)}, which is without TLS")
        return target

    def _failed(self, answer: Answer, url: str) -> RegistryProblem:
        path = printable(url.partition("/v2/")[2] or url, 200)
        hint = "`docker login` on this machine" if answer.status in (401, 403) else None
        trouble = credentials.find(self.reference.registry).trouble if hint else ""
        words = {401: "asks for credentials that irkit does not have", 403: "refuses", 404: "has no"}
        said = f"{words.get(answer.status, f'answers {answer.status} for')} {path}"
        return RegistryProblem(
            f"{self.reference.registry} {said}{f' ({trouble})' if trouble else ''}", hint=hint, status=answer.status
        )

    def _checked(self, answer: Answer, wanted: str) -> str:
        """The digest of the bytes, compared with what was asked for and with what the registry says."""
        digest = sha256(answer.body)
        if wanted and digest != wanted:
            raise NotTrusted(f"the registry answers {wanted} with a manifest of the digest {digest}")
        said = answer.headers.get("docker-content-digest", "")
        if said and said != digest:
            raise NotTrusted(
                f"the registry says that its manifest has the digest {printable(said, 100)}; it has {digest}"
            )
        return digest

    def _authorize(self, challenge: str) -> str:
        """An ``Authorization`` header after a 401 (distribution spec, token authentication), empty when there is none."""
        scheme, _, rest = challenge[:CHALLENGE_LIMIT].partition(" ")
        who = credentials.find(self.reference.registry)
        if scheme.lower() == "basic":
            return who.basic
        fields = {key.lower(): value for key, value in _CHALLENGE.findall(rest)}
        if scheme.lower() != "bearer" or "realm" not in fields:
            return ""
        realm = fields["realm"]
        asked, mine = origin(realm), origin(self.base)
        if asked[0] != "https" and asked != mine:
            raise RegistryProblem(f"{mine[1]} wants a token from {printable(realm, 200)}, which is without TLS")
        query = {"scope": f"repository:{self.reference.repository}:{self.scope}"}
        if "service" in fields:
            query["service"] = fields["service"]
        headers = {"Authorization": who.basic} if who.basic and self._may_know(asked) else {}
        joined = f"{realm}{'&' if '?' in realm else '?'}{urlencode(query)}"
        answer = self.web.get(joined, headers, TOKEN_LIMIT, loopback_only=self._loopback and asked[0] == "http")
        if answer.status != 200:
            raise RegistryProblem(f"{asked[1]} gives no token: {answer.status}", hint="`docker login` on this machine")
        token = strict.load_object(answer.body, "the token's answer")
        value = token.get("token") or token.get("access_token")
        if not isinstance(value, str) or not value.isascii() or not value.isprintable():
            raise RegistryProblem(f"{asked[1]} gives no token that can be used")
        return f"Bearer {value}"

    def _may_know(self, asked: tuple[str, str, int]) -> bool:
        """Whether an origin may see the registry's credentials: the registry alone says where tokens come from, and may lie."""
        hub = self.reference.registry == HUB and asked == ("https", "auth.docker.io", 443)
        return hub or asked == origin(self.base) or bool(self.settings.auth and asked == origin(self.settings.auth))


def read_manifest(body: bytes, digest: str, content_type: str) -> Manifest:
    """A manifest from bytes whose digest is known.  Refused: one that could be taken for another kind (CVE-2021-41190)."""
    document = strict.load_object(body, f"the manifest {digest}")
    said = content_type.partition(";")[0].strip().lower()
    inside = document.get("mediaType", said)
    media_type = inside if isinstance(inside, str) else ""
    if media_type not in KNOWN or (said in KNOWN and said != media_type):
        raise NotTrusted(
            f"the manifest {digest} is of the type {printable(said or str(inside), 100)}, which irkit does not know"
        )
    lists, holds = "manifests" in document, "layers" in document or "config" in document or "fsLayers" in document
    if lists == holds or lists != (media_type in INDEXES):
        raise NotTrusted(f"the manifest {digest} could be taken for an index, or the reverse")
    return Manifest(digest, media_type, len(body), document)


def _listed(body: bytes) -> list[str]:
    return _descriptors(strict.load_object(body, "the list of referrers"))


def _descriptors(document: dict[str, Any]) -> list[str]:
    rows = document.get("manifests")
    found = [str(row.get("digest")) for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    return [one for one in dict.fromkeys(found) if DIGEST.fullmatch(one)][: REFERRERS + 1]
