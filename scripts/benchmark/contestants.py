"""Who takes part: all proxies side by side, or loadbalancer in several configurations."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from . import layer4, origins, proxies
from .model import OURS, Bar, Cast, Contestant
from .proxies import Proxy
from .stage import Stage


def beside_peers(*bars: Bar, splice: bool = False, tls: bool = False) -> Callable[[Cast], list[Contestant]]:
    """loadbalancer in all its builds, and the peers, the best of which is the anchor; with `tls` clients speak TLS."""

    def contestants(cast: Cast) -> list[Contestant]:
        listed = [
            Contestant(name, partial(as_shipped, tls, name, binary), build=name, bars=bars if name == OURS else ())
            for name, binary in cast.binaries.items()
        ]
        listed.append(Contestant("nginx", partial(proxies.nginx, tls=tls), anchor=True))
        listed.append(Contestant("haproxy", partial(proxies.haproxy, tls=tls), anchor=True))
        if splice:
            listed.append(Contestant("haproxy splice", partial(proxies.haproxy, splice=True, tls=tls)))
        if cast.envoy:
            listed.append(Contestant("envoy", partial(proxies.envoy, cast.envoy, tls=tls), anchor=True))
        return listed

    return contestants


def relays(*bars: Bar) -> Callable[[Cast], list[Contestant]]:
    """loadbalancer in all its builds, and the peers, with TCP listeners."""

    def contestants(cast: Cast) -> list[Contestant]:
        listed = [
            Contestant(name, partial(layer4.loadbalancer, name, binary), build=name, bars=bars if name == OURS else ())
            for name, binary in cast.binaries.items()
        ]
        listed.append(Contestant("nginx stream", layer4.nginx, anchor=True))
        listed.append(Contestant("haproxy tcp", layer4.haproxy, anchor=True))
        return listed

    return contestants


@dataclass(frozen=True)
class Variant:
    """One configuration of loadbalancer among several; `start` takes a build's name and path first."""

    label: str
    start: Callable[[str, Path, Stage, list[str]], Proxy]
    bars: tuple[Bar, ...] = ()


def variants(*choices: Variant) -> Callable[[Cast], list[Contestant]]:
    """loadbalancer in several configurations, the first of which is the anchor of the others."""

    def contestants(cast: Cast) -> list[Contestant]:
        return [
            Contestant(
                name=f"{name}, {choice.label}",
                start=partial(choice.start, name, binary),
                anchor=choice is choices[0],
                group=name,
                build=name,
                variant=choice.label,
                bars=choice.bars if name == OURS else (),
            )
            for name, binary in cast.binaries.items()
            for choice in choices
        ]

    return contestants


def endpoints(*bars: Bar) -> Callable[[Cast], list[Contestant]]:
    """loadbalancer with more and more servers, and HAProxy to see what their many connections cost in any case."""
    ours = variants(
        Variant("1 server", partial(with_servers, 1)),
        Variant("100 servers", partial(with_servers, 100), bars),
        Variant("10,000 servers", partial(with_servers, 10_000), bars),
    )

    def contestants(cast: Cast) -> list[Contestant]:
        one = Contestant("haproxy, 1 server", partial(haproxy_with_servers, 1), anchor=True, group="haproxy")
        many = Contestant("haproxy, 10,000 servers", partial(haproxy_with_servers, 10_000), group="haproxy")
        return [*ours(cast), one, many]

    return contestants


# Probes every 60 s: at the shipped 5 s, 10,000 servers would mean 2,000 probes a second, a load of their own.


def with_servers(count: int, name: str, binary: Path, stage: Stage, servers: list[str]) -> Proxy:
    settings = {"LB__UPSTREAMS__0__HEALTH_CHECK__INTERVAL": "60s"}
    return proxies.loadbalancer(stage, name, binary, servers[:count], settings)


def haproxy_with_servers(count: int, stage: Stage, servers: list[str]) -> Proxy:
    return proxies.haproxy(stage, servers[:count], probes="60s")


def as_shipped(tls: bool, name: str, binary: Path, stage: Stage, servers: list[str]) -> Proxy:
    return proxies.loadbalancer(stage, name, binary, servers, tls=tls)


def with_routes(hosts: int, paths: int, name: str, binary: Path, stage: Stage, servers: list[str]) -> Proxy:
    """A table of hosts x paths routes; the last of them is for everything, in place of the last host and path."""
    places = [(host, path) for host in range(hosts) for path in range(paths)][:-1]
    table = [
        f'hosts = ["h{host}.example"]\npaths = ["{f"/p{path}/*" if paths > 1 else "/*"}"]\n' for host, path in places
    ]
    routes = "".join(f'\n[[routes]]\n{conditions}upstream = "app"\n' for conditions in [*table, ""])
    return proxies.loadbalancer(stage, name, binary, servers, routes=routes)


def with_key(header: str, name: str, binary: Path, stage: Stage, servers: list[str]) -> Proxy:
    # A long window, so that no client is forgotten during the run.
    settings = {"LB__RATE_LIMIT__KEY": f"header:{header}", "LB__RATE_LIMIT__WINDOW": "720h"}
    return proxies.loadbalancer(stage, name, binary, servers, settings)


def with_limit(store: str, name: str, binary: Path, stage: Stage, servers: list[str]) -> Proxy:
    """The limit off, in memory or in Redis; all three have a route, because only a route can switch it off."""
    settings = {}
    if store == "redis":
        # A failure of Redis has to be seen as an error, so it denies; and it must not come of a busy core alone.
        settings = {
            "LB__RATE_LIMIT__STORE": "redis",
            "LB__RATE_LIMIT__ON_STORE_FAILURE": "deny",
            "LB__REDIS__URL": f"redis://{origins.redis(stage)}",
            "LB__REDIS__TIMEOUT": "1s",
        }
    off = 'rate_limit = "off"\n' if store == "off" else ""
    routes = f'\n[[routes]]\nupstream = "app"\n{off}'
    return proxies.loadbalancer(stage, name, binary, servers, settings, routes)
