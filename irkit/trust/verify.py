"""The chain from a signature to a process, each link checked: :func:`verify`.

policy → reference → platform's manifest → configuration → signatures → denied digests, allow-list, version → the engine's
copy → its tag → the reference once more → the container.  The first link that does not hold ends it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from irkit.documents import Place
from irkit.engine.interface import Container, Engine, Image
from irkit.errors import NotFound, NotTrusted, RegistryProblem, UsageProblem
from irkit.evidence.keys import PublicKey, trusted_keys
from irkit.text import printable
from irkit.trust import denied, local, resolve, versions
from irkit.trust.content import ImageContent
from irkit.trust.content_trust import ContentTrust
from irkit.trust.gpg import Gpg
from irkit.trust.model import BROKEN, HELD, NAMELESS, UNCHECKED, Found, Link, Tried, TrustKey, Verdict
from irkit.trust.notation import Notation
from irkit.trust.policy import Policy, Rule
from irkit.trust.reference import Pattern, Reference, is_id, parse_plain, parse_reference, same_repository
from irkit.trust.registry import SECONDS, Registry
from irkit.trust.resolve import Config, Resolved
from irkit.trust.scene import Scene, Verifier
from irkit.trust.sigstore import Bundle, Cosign
from irkit.trust.statement import Statement

KEY_RING = "key ring"
REASONS = 6
Say = Callable[[str], None]


def verify(
    text: str, policy: Policy | None, engine: Engine | None = None, *, container: Container | None = None,
    signature: Path | None = None, key: PublicKey | None = None, platform: str = "", seconds: float = SECONDS,
    say: Say = lambda words: None,
) -> Verdict:  # fmt: skip
    """Whether an image may be run, and why.

    Without a policy irkit's own statements count, by the keys that are trusted for images here, or by ``key``.
    ``signature``: one statement's file, in place of those in ``IRKIT_HOME``.  Without an engine its links are unchecked.
    ``seconds``: for all that is asked of registries.

    An image that is not trusted is a verdict, not an error.  Raises ``UsageProblem``, ``EngineError``, ``StorageError``.
    """
    check = _Check(text, policy, engine, container, platform, seconds, say)
    made: tuple[Verifier, ...] = (Cosign(), Bundle(), Gpg(), Notation(), Statement(signature), ContentTrust())
    check.verifiers = {one.kind: one for one in made}
    return check.run(_key_ring_rule(key) if policy is None or key is not None else None)


def _key_ring_rule(key: PublicKey | None) -> Rule:
    """What holds where there is no policy: statements by trusted keys, for any repository that they name."""
    publics = [key] if key is not None else list(trusted_keys("image"))
    keys = tuple(TrustKey(one.name, one.id, one.validity, one) for one in publics)
    return Rule(Pattern("**"), Place(KEY_RING, 1, 1), keys=keys, accept=("statement",))


class _Check:
    """One verification."""

    def __init__(
        self, text: str, policy: Policy | None, engine: Engine | None, container: Container | None, platform: str,
        seconds: float, say: Say,
    ) -> None:  # fmt: skip
        self.text, self.policy, self.engine, self.container = text, policy, engine, container
        self.platform, self.seconds, self.say = platform, seconds, say
        self.verifiers: dict[str, Verifier] = {}
        self.links: list[Link] = []
        self.tried: list[Tried] = []
        self.step = "policy"
        self.rule: Rule | None = None
        self.resolved: Resolved | None = None
        self.image: Image | None = None
        self.content: ImageContent | None = None
        self.hint = self.unanswered = ""

    def run(self, rule: Rule | None) -> Verdict:
        try:
            reference = self._reference(rule)
            self.rule = self._rule(rule, reference)
            self._steps(self.rule, reference)
        except NotTrusted as error:
            self.hint = error.hint or self.hint
            self._link(BROKEN, "", error.message)
            return self._verdict(False, error.message + self.unanswered)
        return self._verdict(
            True, "every link holds" if self.engine else "signed as the policy asks; no engine was asked"
        )

    def _steps(self, rule: Rule, reference: Reference | None) -> None:
        registry = self._resolve(rule, reference)
        if self.resolved is not None:
            self._not_denied(rule, self.resolved.digests)
        elif self.engine is None:
            raise NotTrusted("there is neither a registry's signature nor an engine's image to go by")
        if self.resolved is None:
            self._local(rule)
        self._signatures(rule, reference, registry)
        self._requirements(rule)
        if self.content is None and self.engine is not None:
            self._local(rule)
        if self.engine is None:
            for step in ("local", "tag"):
                self.step = step
                self._link(UNCHECKED, "", "no engine was asked")
        elif self.image is not None:
            self._tag(reference, self.image)
        self._still_there(reference, registry)
        self._container()

    # -- the links --------------------------------------------------------------------------------------------

    def _reference(self, rule: Rule | None) -> Reference | None:
        if not is_id(self.text):
            return parse_reference(self.text)
        if rule is None:
            raise UsageProblem(
                f"{self.text} is an id, which belongs to no repository: the policy can't tell what applies to it",
                hint="REPOSITORY:TAG or REPOSITORY@sha256:…",
            )
        return None

    def _rule(self, rule: Rule | None, reference: Reference | None) -> Rule:
        if rule is not None:
            if not rule.keys:
                self.hint = "`irkit key trust` trusts a key for images; docs/trust.md tells how to write a policy"
                raise NotTrusted("there is no trust policy, and no key is trusted for images")
            self._link(HELD, KEY_RING, f"no policy's rule: statements by {_names(rule.keys)}")
            return rule
        assert self.policy is not None and reference is not None  # noqa: S101 - else there is a rule
        found = self.policy.rule(reference)
        if found is None:
            self.hint = f"add a rule to {self.policy.path}; `irkit image policy show {reference}` tells what applies"
            raise NotTrusted(f"no rule of the policy matches {reference.name}: nothing is trusted by default")
        if found.deny:
            raise NotTrusted(f"the policy denies {found.pattern.text}" + (f": {found.why}" if found.why else ""))
        self._link(
            HELD,
            found.pattern.text,
            f"{found.threshold} of {len(found.keys)}: {_names(found.keys)}; {', '.join(found.accept)}",
        )
        return found

    def _resolve(self, rule: Rule, reference: Reference | None) -> Registry | None:
        self.step = "reference"
        if reference is None or self.policy is None or rule.accept == ("statement",):
            self._link(UNCHECKED, "", "the registry is not asked: the statement is over what the engine holds")
            return None
        registry = Registry(reference, self.policy.registry(reference.registry), self.seconds)
        self.say(f"asking {reference.registry} for {reference}")
        try:
            self.resolved = resolve.resolve(registry, self._platform())
        except RegistryProblem as error:
            if "statement" not in rule.accept or self.engine is None:
                raise
            self._link(UNCHECKED, "", error.message)
            self.unanswered = f"; the registry did not tell: {error.message}"
            return None
        found = self.resolved
        self._link(HELD, found.root.digest, f"{reference} at {reference.registry}")
        self.step = "platform"
        if found.root.is_index:
            self._link(HELD, found.manifest.digest, f"the index's manifest for {printable(found.config.platform, 60)}")
        self.step = "config"
        self._link(HELD, found.config.digest, f"the manifest's configuration, {len(found.blobs)} layers")
        return registry

    def _platform(self) -> str:
        if self.platform:
            return self.platform
        if self.engine is None:
            import platform

            return resolve.engine_platform("linux", platform.machine())
        return resolve.platform_of(self.engine.info())

    def _local(self, rule: Rule) -> None:
        """The engine's copy, by digest; without a registry's word by its name, and then by what it holds."""
        assert self.engine is not None  # noqa: S101
        self.step = "local"
        try:
            image = local.by_digest(self.engine, self.resolved) if self.resolved else self.engine.image(self.text)
        except NotFound as error:
            raise NotTrusted(f"the engine does not have {printable(self.text, 200)}: {error.message}") from error
        except NotTrusted as error:
            wanted = parse_plain(self.text)
            name = f"{wanted.name}@{self.resolved.root.digest}" if self.resolved else self.text
            raise NotTrusted(error.message, hint=f"`docker pull {name}`") from error
        self.say(f"reading every byte of {image.id}")
        signed = self.resolved.config if self.resolved else None
        content = local.read_through(self.engine, image, signed.digest if signed else "")
        if signed and (content.config, content.layers) != (signed.digest, signed.layers):
            raise NotTrusted(f"the engine's copy of {image.id} holds another image than was signed")
        self._not_denied(rule, (image.id, content.config, *content.layers))
        self._link(HELD, image.id, f"the engine's copy: {len(content.layers)} layers read and hashed")
        self.image, self.content = image, content  # not before: what did not pass must not be gone on with

    def _signatures(self, rule: Rule, reference: Reference | None, registry: Registry | None) -> None:
        self.step = "signatures"
        targets: tuple[str, ...] = ()
        if self.resolved is not None:
            both = (self.resolved.root.digest, self.resolved.manifest.digest)
            targets = tuple(dict.fromkeys(both if rule.signed == "platform" else both[:1]))
        config = self.content.config if self.content else ""
        scene = Scene(reference or Reference("", ""), rule.keys, registry, self.resolved, targets, self.content)
        good: dict[str, Tried] = {}
        for kind in sorted(rule.accept, key=lambda one: one == "statement"):  # it may mean to read the whole image
            self.say(f"looking for {kind} signatures")
            if kind == "statement" and self.content is None and self.engine is not None:
                scene = self._with_content(rule, scene)
                config = self.content.config if self.content else ""
            for found in self.verifiers[kind].find(scene):
                tried = judge(found, rule, reference, (config,) if kind == "statement" else targets)
                self.tried.append(tried)
                if tried.accepted:
                    good.setdefault(tried.key_id, tried)
                if len(good) >= rule.threshold:
                    names = ", ".join(f"{one.key} ({one.kind}, over {one.over[:19]})" for one in good.values())
                    self._link(
                        HELD, next(iter(good.values())).over, f"signed by {len(good)} of {rule.threshold} keys: {names}"
                    )
                    return
        reasons = [f"{one.where or one.kind}: {one.reason}" for one in self.tried if not one.accepted]
        why = "; ".join(reasons[:REASONS]) + (f"; and {len(reasons) - REASONS} more" if len(reasons) > REASONS else "")
        self.hint = "`irkit image sign IMAGE --key NAME` signs, `irkit key trust` trusts a key for images"
        if not why:
            over = targets[0] if targets else config
            why = "no other key signed" if good else f"there is no signature over {over or 'it'}"
        raise NotTrusted(f"signed by {len(good)} of {rule.threshold} keys needed: {why}")

    def _with_content(self, rule: Rule, scene: Scene) -> Scene:
        """For statements: what the engine's copy holds, if it has one.  Without one there is no statement over it."""
        try:
            self._local(rule)
        except NotTrusted as error:
            self.tried.append(Tried("statement", "", "", "", "", False, error.message))
        self.step = "signatures"
        return replace(scene, content=self.content)

    def _not_denied(self, rule: Rule, digests: tuple[str, ...]) -> None:
        self.step, before = "denied", self.step
        listed = denied.load()
        for one in digests:
            if one in listed:
                raise NotTrusted(
                    f"{one} is denied here since {listed[one].time}: {listed[one].why or 'no reason given'}"
                )
            if one in rule.revoked or (self.policy is not None and one in self.policy.revoked):
                raise NotTrusted(f"the policy revokes {one}")
        self.step = before

    def _requirements(self, rule: Rule) -> None:
        """What an older image that was signed well may fail: the rule's allow-list, its minimum version."""
        self.step = "requirements"
        words = []
        if rule.only:
            known = self.resolved.digests[:3] if self.resolved else (self.content.config if self.content else "",)
            if not set(known) & set(rule.only):
                raise NotTrusted(f"{known[0]} is not among the {len(rule.only)} digests that the policy allows")
            words.append("one of the digests allowed")
        if rule.minimum_version:
            words.append(_check_version(self.resolved.config if self.resolved else self.content, rule))
        words += [f"annotation {name}={value}" for name, value in rule.annotations.items()]
        self._link(HELD, "", ", ".join(words) or "none beside signatures")

    def _tag(self, reference: Reference | None, image: Image) -> None:
        assert self.engine is not None  # noqa: S101
        self.step = "tag"
        if reference is None or self.resolved is None:
            self._link(UNCHECKED, image.id, "the engine's own name led to it")
            return
        self._link(HELD, image.id, local.check_tag(self.engine, reference, image))

    def _still_there(self, reference: Reference | None, registry: Registry | None) -> None:
        """Whether the tag still leads where it led when it was checked."""
        self.step = "unmoved"
        if registry is None or reference is None or self.resolved is None or reference.digest:
            return
        registry.fresh(self.seconds)  # reading the image may have taken long
        again = registry.manifest(reference.tag)
        if again.digest != self.resolved.root.digest:
            raise NotTrusted(f"the tag moved while it was checked: from {self.resolved.root.digest} to {again.digest}")
        self._link(HELD, again.digest, "the tag has not moved meanwhile")

    def _container(self) -> None:
        self.step = "container"
        if self.container is None:
            return
        if self.image is None or self.content is None:
            raise NotTrusted("without an engine a container can't be checked")
        self._link(HELD, self.container.id, local.check_container(self.container, self.image, self.content.config))

    # -- the outcome ------------------------------------------------------------------------------------------

    def _link(self, result: str, subject: str, detail: str) -> None:
        self.links.append(Link(self.step, result, subject, detail))

    def _verdict(self, accepted: bool, reason: str) -> Verdict:
        found, rule, content = self.resolved, self.rule, self.content
        config = found.config if found else None
        return Verdict(
            printable(self.text, 300), accepted, reason, self.policy_rule(rule), self.hint if not accepted else "",
            tuple(self.links), tuple(self.tried), rule.threshold if rule else 0,
            found.root.digest if found else "", found.manifest.digest if found else "",
            config.digest if config else content.config if content else "", self.image.id if self.image and accepted else "",
            config.layers if config else content.layers if content else (),
            printable(config.platform if config else content.platform if content else "", 60),
        )  # fmt: skip

    @staticmethod
    def policy_rule(rule: Rule | None) -> str:
        """The rule's name in a verdict: its pattern, or that of the key ring."""
        return "" if rule is None else KEY_RING if rule.place.file == KEY_RING else rule.pattern.text


def judge(found: Found, rule: Rule, reference: Reference | None, targets: tuple[str, ...]) -> Tried:
    """Ask the rule about a signature: over the right digest, by a key that may vouch now, for this repository."""
    key = found.key
    reason = found.problem or _objection(found, rule, reference, targets)
    return Tried(
        found.kind, printable(found.where, 300), found.over, key.name if key else "", key.id if key else "", not reason,
        reason or "good", printable(found.time, 40),
    )  # fmt: skip


def _objection(found: Found, rule: Rule, reference: Reference | None, targets: tuple[str, ...]) -> str:
    if found.key is None or found.over not in targets:
        return "it is over something else"
    if said := found.key.objection():
        return f"the key {found.key.name}: {said}"
    if found.kind in NAMELESS and not rule.nameless:
        return "it names no repository, and the policy does not accept such (`without_repository: accept`)"
    if found.kind not in NAMELESS and reference is not None:
        if not same_repository(found.names, reference):
            return f"it is for {printable(found.names, 200)}, not for {reference.name}"
        if rule.identity == "exact" and reference.tag and _tag_of(found.names) != reference.tag:
            return f"it is for {printable(found.names, 200)}, not for {reference}"
    for name, value in rule.annotations.items():
        if found.annotations.get(name) != value:
            return f"its annotation {name} is not {value!r} but {printable(str(found.annotations.get(name)), 100)}"
    return ""


def _tag_of(names: str) -> str:
    try:
        return parse_plain(names).tag
    except UsageProblem:
        return ""


def _check_version(source: Config | ImageContent | None, rule: Rule) -> str:
    label = rule.version_label
    said = source.labels.get(label, "") if source else ""
    have, need = versions.sort_key(said), versions.sort_key(rule.minimum_version)
    if have is None:
        raise NotTrusted(
            f"its label {label} is no version ({printable(said, 60)!r}), and the policy asks for {rule.minimum_version}"
        )
    if need is not None and have < need:
        raise NotTrusted(
            f"it is version {printable(said, 60)}, and the policy asks for {rule.minimum_version} at least"
        )
    return f"version {printable(said, 60)}"


def _names(keys: tuple[TrustKey, ...]) -> str:
    return ", ".join(one.name for one in keys)
