"""
The readiness rule of one service: what proves it usable, and why this proof was chosen.

Everything here is a pure function of three things: the service as `docker compose config --format json` writes it, what
its image says, and what the user's configuration says (a hint). The first of these that applies decides:

1. A hint.
2. Another service waits until this one has completed: exit code 0.
3. The health check of the Compose file or of the image.
4. A known database or broker: its own client, run inside the container.
5. A name or a command that says that the service ends: exit code 0.
6. A command that only waits, although ports are published: it runs for a moment.
7. Published ports: an HTTP answer below 500, or for other protocols a listener inside the container.
8. Ports that only the file or the image exposes: one of them, as above; they are not insisted on.
9. Nothing at all: it runs for a moment, or has ended with exit code 0.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from stackyard._util.durations import parsed
from stackyard._util.printable import one_line
from stackyard.docker.json_fields import Part
from stackyard.probes.guessed_databases import guess
from stackyard.probes.known_databases import ends_by_itself, only_waits, passes_on, product_of
from stackyard.project.model import copies_of
from stackyard.project.service_kinds import KEY
from stackyard.project.service_ports import Port, exposed_ports, published_datagrams, published_ports

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stackyard.probes.known_databases import Product
    from stackyard.project.readiness_hints import Hint

Kind = Literal["health check", "command", "http", "websocket", "tcp", "log", "exit 0", "running"]
CHECK_TIMEOUT: Final = 30.0  # seconds that a health check may take unless it says otherwise, as with Docker
COMMAND_TIMEOUT: Final = 10.0  # seconds that a database's own client may take
MOMENT: Final = 0.5  # seconds that a service runs before it counts as ready where nothing else can be asked
SHELL: Final = ("/bin/sh", "-c")
WIDTH: Final = 80  # characters of a command that a sentence shows
HINTED: Final = 400  # HTTP status that is too high where the user's configuration names a path
RESTARTING: Final = ("always", "unless-stopped")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFacts:
    """
    What an image says about its containers.

    Attributes:
        test: The test of its health check, as `docker image inspect` shows it; empty without one.
        timeout: Seconds that the test may take; 0 if it does not say.
        exposed: Ports, such as ``5432/tcp``.
        command: Its entrypoint and command.
        entrypoint: Its entrypoint alone, which runs a command that the file gives.
        environment: Its variables.
        shell: What runs the test of a health check in shell form.
    """

    test: tuple[str, ...] = ()
    timeout: float = 0.0
    exposed: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    shell: tuple[str, ...] = SHELL

    @classmethod
    def from_inspect(cls, answer: Mapping[str, Any]) -> ImageFacts:
        """
        Read `GET /images/{name}/json`.

        Raises:
            AnswerError: If a value is of the wrong kind.
        """
        config = Part(answer).get("Config")
        if config.value is None:
            return cls()
        check = config.get("Healthcheck")
        pairs = (variable.partition("=") for variable in config.get("Env").words())
        return cls(
            test=check.get("Test").words() if check.value is not None else (),
            timeout=check.whole("Timeout", 0) / 1e9 if check.value is not None else 0.0,
            exposed=tuple(port for port, _ in config.get("ExposedPorts").members()),
            command=(*config.get("Entrypoint").words(), *config.get("Cmd").words()),
            entrypoint=config.get("Entrypoint").words(),
            environment={name: value for name, _, value in pairs},
            shell=config.get("Shell").words() or SHELL,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """
    How one service proves usable.

    Attributes:
        service: The service.
        kind: What is asked.
        why: One sentence: which rule this is and why it was chosen. It shows no value of a variable.
        words: Program and arguments to run inside the container; for ``health check`` and ``command``.
        timeout: Seconds that the command may take.
        gate: Port that has to listen before the command is run; None without one.
        expected: Ports that likely listen before a health check passes; without one it is run seldom.
        ports: Ports that are asked or have to listen; for ``http``, ``websocket`` and ``tcp``.
        datagrams: UDP ports that the file publishes besides; one that listens shows that its server is there.
        path: What is asked for over HTTP or WebSocket.
        below: The HTTP status from which on an answer does not count.
        strict: Whether each of the ports must prove itself; otherwise one is enough, and none is insisted on.
        loopback: Whether a listener on the container's loopback address counts: where it shares a network namespace.
        pattern: Regular expression that a line of the log must contain.
        seconds: How long the container has to run; for ``running``.
        may_end: Whether the service is ready, too, when it has ended with exit code 0.
        hinted: Whether the user's configuration has it; then only what it asks for counts.
    """

    service: str
    kind: Kind
    why: str
    words: tuple[str, ...] = ()
    timeout: float = COMMAND_TIMEOUT
    gate: Port | None = None
    expected: tuple[Port, ...] = ()
    ports: tuple[Port, ...] = ()
    datagrams: tuple[Port, ...] = ()
    path: str = "/"
    below: int = 500
    strict: bool = True
    loopback: bool = False
    pattern: str = ""
    seconds: float = 0.0
    may_end: bool = False
    hinted: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the rule as plain data; without the command, which may hold a password."""
        return {key: value for key, value in asdict(self).items() if key != "words"}


def rules_for(
    model: Mapping[str, Any], images: Mapping[str, ImageFacts], hints: Mapping[str, Hint] | None = None
) -> dict[str, Rule]:
    """
    Return the rule of every service of a model that has at least one container.

    Args:
        model: What `docker compose config --format json` makes of the project.
        images: What is known of each service's image; a service may be missing.
        hints: What the user's configuration says, by service.
    """
    services, awaited = model.get("services") or {}, conditions(model)
    return {
        name: choose(
            name, service, images.get(name), (hints or {}).get(name), awaited=awaited.get(name, {})
        )
        for name, service in services.items()
        if copies_of(service) and "provider" not in service
    }  # fmt: skip


def recognised(
    service: Mapping[str, Any], image: ImageFacts | None = None
) -> tuple[Product, Port, dict[str, str]] | None:
    """
    Return the product that a service runs, the port it listens on, and the variables of its container.

    Args:
        service: Its part of the model.
        image: What its image says; None if that is not known.
    """
    choice = _Choice("", service, image or ImageFacts(), {})
    product = choice.product or (choice.guess.product if choice.guess else None)
    return (product, choice.port_of(product), choice.variables()) if product else None


def conditions(model: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Return for each service those that wait for it, and with which condition of `depends_on`."""
    found: dict[str, dict[str, str]] = {}
    for name, service in (model.get("services") or {}).items():
        for other, entry in (service.get("depends_on") or {}).items():
            found.setdefault(other, {})[name] = (entry or {}).get("condition", "service_started")
    return found


def choose(
    name: str,
    service: Mapping[str, Any],
    image: ImageFacts | None = None,
    hint: Hint | None = None,
    *,
    awaited: Mapping[str, str] | None = None,
) -> Rule:
    """
    Return the readiness rule of one service.

    Args:
        name: Its name.
        service: Its part of the model.
        image: What its image says; None if that is not known.
        hint: What the user's configuration says about it.
        awaited: The services that wait for it, and with which condition of `depends_on`.
    """
    return _Choice(name, service, image or ImageFacts(), awaited or {}).made(hint)


class _Choice:
    """One service, and the questions that lead to its rule."""

    def __init__(self, name: str, service: Mapping[str, Any], image: ImageFacts, awaited: Mapping[str, str]) -> None:
        self.name = name
        self.service = service
        self.image = image
        self.awaited = awaited
        self.restart = str(service.get("restart") or "no")
        self.overridden = bool(service.get("command") or service.get("entrypoint"))
        self.words = _words(service, image)
        self.published = published_ports(service)
        self.asked = tuple(port for port in self.published if not port.debugs)
        self.loopback = str(service.get("network_mode") or "").startswith(("host", "service:", "container:", "none"))
        self.product = product_of(service, self.words, image.environment)
        ports = {port.number for port in (*self.published, *self._exposed()) if port.protocol == "tcp"}
        unknown = self.product is None and KEY not in service
        self.guess = guess(service, self.words, image.environment, self._test(), ports) if unknown else None

    def made(self, hint: Hint | None) -> Rule:
        if hint is not None:
            return self._hinted(hint)
        return self._ends() or self._health() or self._client() or self._one_shot() or self._ports() or self._runs()

    def _rule(self, kind: Kind, why: str, **values: Any) -> Rule:
        may_end = not self.published and self.restart not in RESTARTING and not self._must_be_healthy()
        if self.guess and self.guess.by_port:
            what, key = self.guess.product.title, f"services.{self.name}.kind"
            why += f"; taken for {what} because of its port and variables alone ({key} in the configuration decides)"
        return Rule(service=self.name, kind=kind, why=why, loopback=self.loopback, **{"may_end": may_end} | values)

    def _must_be_healthy(self) -> bool:
        return "service_healthy" in self.awaited.values()

    def _hinted(self, hint: Hint) -> Rule:
        says = f"the configuration says {hint}"
        port = Port(hint.port) if hint.port else self._first_port()
        match hint.kind:
            case "log":
                return self._told("log", f"{says}: a line of its log must match", pattern=hint.value)
            case "exit":
                return self._told("exit 0", f"{says}: it ends with exit code 0", may_end=True)
            case "tcp":
                return self._told("tcp", f"{says}: port {port} listens", ports=(port,))
            case "running":
                return self._told("running", f"{says}: it runs for {MOMENT:g} s", seconds=MOMENT)
            case "ws":
                return self._told("websocket", f"{says}: port {port} opens it", ports=(port,), path=hint.value)
        why = f"{says}: port {port} gives an HTTP answer below {HINTED}"
        return self._told("http", why, ports=(port,), path=hint.value, below=HINTED)

    def _told(self, kind: Kind, why: str, **values: Any) -> Rule:
        return self._rule(kind, why, **{"may_end": False, "hinted": True} | values)

    def _first_port(self) -> Port:
        """Return the port that a path without a port means: one that speaks HTTP, if possible a published one."""
        found = [*self.published, *exposed_ports(self.service, self.image.exposed)]
        tcp = [port for port in found if port.protocol == "tcp"]
        return next((port for port in tcp if port.usually_http), tcp[0] if tcp else Port(80))

    def _ends(self) -> Rule | None:
        waiting = [other for other, condition in self.awaited.items() if condition == "service_completed_successfully"]
        if not waiting:
            return None
        verb = "wait" if len(waiting) > 1 else "waits"
        return self._rule("exit 0", f"{_list(waiting)} {verb} until it has ended with exit code 0", may_end=True)

    def _health(self) -> Rule | None:
        own, test = self.service.get("healthcheck") or {}, self._test()
        source = "Compose file" if own.get("test") else "image"
        if not (words := _command(test, self.image.shell)):
            return None
        timeout = parsed(str(own.get("timeout") or "")) or self.image.timeout or CHECK_TIMEOUT
        gate, why = self._gate(), f"the health check of the {source}: {one_line(' '.join(test[1:]), WIDTH)}"
        expected = () if gate else tuple(port for port in self.asked or self._exposed() if port.protocol == "tcp")
        return self._rule(
            "health check", f"{why}{self._gated(gate)}", words=words, timeout=timeout, gate=gate, expected=expected
        )  # fmt: skip

    def _test(self) -> list[str]:
        """Return the test of its health check, in the file or else in the image; empty if the file disables it."""
        own = self.service.get("healthcheck") or {}
        return [] if own.get("disable") else [_plain(word) for word in own.get("test") or ()] or [*self.image.test]

    def _gate(self) -> Port | None:
        """Return the port whose listener proves that a database does not run only for its own first set-up."""
        return self.port_of(self.product) if self.product and self.product.sets_itself_up else None

    def _gated(self, gate: Port | None) -> str:
        if gate is None or self.product is None:
            return ""
        return f"; run once port {gate} listens, because {self.product.title} first sets itself up in private"

    def port_of(self, product: Product) -> Port:
        return Port(product.port(self.words, self.variables()))

    def variables(self) -> dict[str, str]:
        own = {name: _plain(str(value)) for name, value in (self.service.get("environment") or {}).items()}
        return {**self.image.environment, **own}

    def _client(self) -> Rule | None:
        if self.product is None:
            return None
        port, because = self.port_of(self.product), f"no health check, and it is {self.product.title}"
        if not self.product.script:
            return self._rule("tcp", f"{because}: port {port} listens", ports=(port,), may_end=False)
        host = "" if self.product.sets_itself_up and not self.loopback else "127.0.0.1"
        words = (*SHELL, self.product.script, "ready", host, str(port))
        why = f"{because}: {self.product.proof} inside the container, once port {port} listens"
        return self._rule("command", why, words=words, gate=port, ports=(port,), may_end=False)

    def _one_shot(self) -> Rule | None:
        if self.published or self.restart in RESTARTING or self._must_be_healthy():
            return None
        own = _list_of(self.service.get("entrypoint")) + _list_of(self.service.get("command"))
        reason = ends_by_itself(self.name, [_plain(word) for word in own])
        return self._rule("exit 0", f"{reason}: it ends with exit code 0", may_end=True) if reason else None

    def _ports(self) -> Rule | None:
        if self.asked and (waiting := self._only_waits()):
            return self._rule("running", f"{waiting}: it runs for {MOMENT:g} s", seconds=MOMENT)
        if self.asked:
            return self._asked(self.asked, f"published {_ports_text(self.asked)}", strict=True)
        wanted = self._exposed()
        return self._asked(wanted, f"exposed {_ports_text(wanted)}", strict=False) if wanted else None

    def _exposed(self) -> tuple[Port, ...]:
        # an image's own ports say nothing about a command that the file puts in the place of the image's
        return exposed_ports(self.service, () if self.overridden else self.image.exposed)

    def _only_waits(self) -> str:
        """Say that the container only waits; an image's entrypoint may start a server in addition to a command."""
        own = self.service.get("entrypoint") or not self.overridden
        return only_waits(self.words) if own or passes_on(self.image.entrypoint) else ""

    def _asked(self, wanted: tuple[Port, ...], which: str, *, strict: bool) -> Rule:
        asked = any(port.may_be_http for port in wanted)
        subject = "one of them" if len(wanted) > 1 and not strict else "each" if len(wanted) > 1 else "it"
        proof = (
            "answers HTTP below 500, or listens where it does not speak HTTP" if asked else "listens in the container"
        )
        why = f"no health check; {which}: {subject} {proof}"
        beside = published_datagrams(self.service) if strict else ()
        return self._rule("http" if asked else "tcp", why, ports=wanted, datagrams=beside, strict=strict)

    def _runs(self) -> Rule:
        why = f"no health check and no port to ask: it runs for {MOMENT:g} s, or has ended with exit code 0"
        return self._rule("running", why, seconds=MOMENT)


def _words(service: Mapping[str, Any], image: ImageFacts) -> list[str]:
    """Return what the container runs; an entrypoint of the file drops the image's command."""
    entrypoint, command = _list_of(service.get("entrypoint")), _list_of(service.get("command"))
    own = [_plain(word) for word in [*entrypoint, *command]]
    return own or list(image.command)


def _list_of(words: Sequence[object] | None) -> list[str]:
    return [str(word) for word in words or ()]


def _plain(text: str) -> str:
    """Return a text of the rendered model as the container gets it: Compose doubles each `$`."""
    return text.replace("$$", "$")


def _command(test: Sequence[str], shell: Sequence[str]) -> tuple[str, ...]:
    """Return what a health check's test runs; nothing for NONE and for a test without a command."""
    match test:
        case ["CMD", *words]:
            return tuple(words)
        case ["CMD-SHELL", text, *_]:
            return (*shell, text)
    return ()


def _ports_text(ports: Sequence[Port]) -> str:
    return f"port{'s' if len(ports) > 1 else ''} {_list([str(port) for port in ports])}"


def _list(names: Sequence[str]) -> str:
    return ", ".join(names[:-1]) + f" and {names[-1]}" if len(names) > 1 else "".join(names)
