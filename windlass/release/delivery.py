"""Gets every image of a release onto every host: pushed and pulled, or shipped layer by layer over SSH."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace

from windlass.environment.environment import Environment
from windlass.errors import OperationFailed, WindlassError
from windlass.events import Emit
from windlass.hosts.base import Host, Redact
from windlass.hosts.group import Hosts, raise_first
from windlass.images.inventory import Inventory, LocalImage, local_images, normal
from windlass.images.pushing import push
from windlass.images.shipping import Bundle, Shipped, ship
from windlass.progress import step
from windlass.release.facts import Facts
from windlass.release.preparing import Candidate
from windlass.release.scripts import PULL_MISSING, pull

PULL_TIMEOUT = 1800.0


def has_reference(inventory: Inventory | None, reference: str) -> bool:
    """Whether a host has an image under this reference, whatever its content."""
    images = inventory.images.values() if inventory is not None else ()
    return any(normal(reference) in map(normal, image.tags) for image in images)


def built_references(candidate: Candidate) -> tuple[str, ...]:
    """Return the references of a release's own images, each once."""
    services = candidate.stack.services
    return tuple(sorted({candidate.references[name] for name, each in services.items() if each.build}))


class Delivery:
    """The images of one release on their way.

    Args:
        environment: says whether there is a registry.
        candidate: the release.
        facts: what each host has.
        emit: told what happens.
        redact: takes secrets out of errors.
        built: whether this deploy built its own images; without, a host may have them already.
    """

    def __init__(
        self,
        environment: Environment,
        candidate: Candidate,
        facts: Mapping[str, Facts],
        emit: Emit,
        redact: Redact,
        *,
        built: bool,
    ) -> None:
        self._environment = environment
        self._facts = dict(facts)
        self._emit = emit
        self._redact = redact
        self._built = built
        self._registry = bool(environment.settings.images.registry)
        self._own = built_references(candidate)
        self._others = tuple(sorted(set(candidate.references.values()) - set(self._own)))

    def deliver(self, hosts: Hosts) -> str:
        """Give every host the images it lacks, and return what was sent, for people.

        Raises:
            WindlassError: an image could not be had; nothing else was changed.
        """
        if self._registry and self._built:
            push(self._own, self._emit, self._redact)
        with ExitStack() as stack:
            bundle = None
            if self._to_ship(hosts):
                images = self._images_here(hosts)
                bundle = stack.enter_context(Bundle(images, self._redact))
            results = hosts.map(lambda host: self._give(host, bundle))
        raise_first(results)
        shipped = [result.value for result in results if result.value is not None]
        sent, saved = sum(each.sent for each in shipped), sum(each.saved for each in shipped)
        return f"{sent / 1e6:.1f} MB sent, {saved / 1e6:.1f} MB were there" if sent else "nothing to send"

    def _images_here(self, hosts: Hosts) -> tuple[LocalImage, ...]:
        """Return the release's own images of this machine, which a host is to get."""
        try:
            return local_images(self._own, self._redact)
        except WindlassError as error:
            if self._built:
                raise
            names = ", ".join(host.name for host in hosts if self._lacks(host, self._own))
            raise OperationFailed(
                f"An image of this tag is neither on {names} nor on this machine: {error.message}",
                "Leave --no-build out, or name a --tag that was built.",
            ) from None

    def _is_local(self, host: Host) -> bool:
        return self._environment.settings.hosts[host.name].transport == "local"

    def _lacks(self, host: Host, references: Sequence[str]) -> list[str]:
        images = self._facts[host.name].images
        return [reference for reference in references if not has_reference(images, reference)]

    def _to_ship(self, hosts: Hosts) -> bool:
        """Whether any host gets its images from this machine: without a registry, when it may lack some."""
        if self._registry or not self._own:
            return False
        return any(
            not self._is_local(host) and (self._built or self._lacks(host, self._own)) for host in hosts
        )

    def _give(self, host: Host, bundle: Bundle | None) -> Shipped | None:
        pulled, lacked = self._lacks(host, self._others), self._lacks(host, self._own)
        if self._registry:
            # A tag may have moved, so an image this deploy pushed is pulled though one of its name is there.
            pulled += self._own if self._built else lacked
        failed = self._pull(host, pulled) if pulled else []
        if self._is_local(host):
            self._require_here([*failed, *([] if self._registry else self._own)])
            return None
        if failed:
            self._ship_copies(host, failed)
            # What the host had when it was asked is no longer all it has.
            self._facts[host.name] = replace(self._facts[host.name], images=None)
        if bundle is None or not (self._built or lacked):
            return None
        with step(self._emit, host.name, "send image layers") as detail:
            result = self._ship(host, self._own, bundle)
            detail.text = f"{result.sent / 1e6:.1f} MB sent, {result.saved / 1e6:.1f} MB were there"
        return result

    def _ship(self, host: Host, references: Sequence[str], bundle: Bundle | None = None) -> Shipped:
        inventory = self._facts[host.name].images
        return ship(host, references, self._emit, redact=self._redact, inventory=inventory, bundle=bundle)

    def _pull(self, host: Host, references: Sequence[str]) -> list[str]:
        """Let the host pull; return what it could not."""
        with step(self._emit, host.name, f"pull {', '.join(references)}") as detail:
            lines = host.run(pull(references, PULL_TIMEOUT)).text.splitlines()
            failed = [line.removeprefix(PULL_MISSING) for line in lines if line.startswith(PULL_MISSING)]
            if failed:
                detail.text = f"it could not pull {', '.join(failed)}"
        return failed

    def _require_here(self, references: Sequence[str]) -> None:
        for reference in references:
            try:
                local_images([reference], self._redact)
            except WindlassError:
                raise OperationFailed(
                    f"The image {reference} is neither on this machine nor can it be pulled.",
                    "Check its name and tag, and `docker login` for a private registry.",
                ) from None

    def _ship_copies(self, host: Host, references: Sequence[str]) -> None:
        """Send images from elsewhere that the host cannot pull but this machine has."""
        try:
            local_images(references, self._redact)
        except WindlassError:
            raise OperationFailed(
                f"{host.name} cannot pull {', '.join(references)}, and this machine has no copy to send.",
                "Check the name and tag, the host's way to the registry, and `docker login` there.",
            ) from None
        with step(self._emit, host.name, f"send {', '.join(references)} from here") as detail:
            detail.text = f"{self._ship(host, references).sent / 1e6:.1f} MB sent"
