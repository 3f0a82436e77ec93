"""The list of scenarios; a new one is a new entry."""

from functools import partial

from . import origins
from .contestants import Variant, beside_peers, endpoints, relays, variants, with_key, with_limit, with_routes
from .h2load import FixedRate, Handshakes, Http2
from .idle import IdleConnections
from .load import FillKeys, Wrk
from .measurements import SystemCalls, UnderLoad
from .model import BUSY, CPU, P50, P99, P999, RATE, SYSTEM, USER, Bar, Column, Scenario
from .stage import together

UPLOAD = """
wrk.method = "POST"
wrk.body = string.rep("x", 10 * 1024 * 1024)
"""
RANDOM_ROUTES = """
math.randomseed(os.time())
request = function()
    local path, host = math.random(0, 99), math.random(0, 999)
    return string.format("GET /p%d/x HTTP/1.1\\r\\nHost: h%d.example\\r\\n\\r\\n", path, host)
end
"""
KEYS = 1_000_000
RANDOM_KEYS = f"""
math.randomseed(os.time())
local text = "GET /128 HTTP/1.1\\r\\nHost: a\\r\\nx-constant: 0000000\\r\\nx-client: %07d\\r\\n\\r\\n"
request = function()
    return string.format(text, math.random({KEYS}) - 1)
end
"""
SMALL = Wrk("/128", connections=64, body=128)

IDLE_BYTES = Column("bytes", "bytes/connection")
IDLE_COLUMNS = (
    Column("left", "bytes/connection after they closed"),
    Column("connections", "connections"),
    Column("before", "KiB before"),
)
ALL_CALLS = Column("all", "system calls/request")
TCP_PEERS = ("nginx", "nginx stream", "haproxy")
TLS_PEERS = ("nginx", "haproxy", "openssl")


SCENARIOS = [
    Scenario(
        "keepalive-128",
        "128-byte answers over 64 connections that stay",
        UnderLoad(SMALL),
        beside_peers(Bar(CPU, 1.0, 0.85)),
        quick=True,
    ),
    Scenario(
        "keepalive-1k",
        "1 KiB answers over 256 connections that stay",
        UnderLoad(Wrk("/1k", connections=256, body=1024)),
        beside_peers(Bar(CPU, 1.0, 0.85)),
        quick=True,
    ),
    Scenario(
        "connection",
        "128-byte answers, a connection each, 64 at a time",
        # The client's ports do not run out: on loopback Linux uses them again a second after their connection ended.
        UnderLoad(Wrk("/128", connections=64, body=128, headers=("Connection: close",))),
        beside_peers(Bar(CPU, 1.0, 0.9)),
        quick=True,
    ),
    Scenario(
        "100k",
        "100 KiB answers over 64 connections",
        UnderLoad(Wrk("/100k", connections=64, body=100 * 1024)),
        beside_peers(Bar(CPU, 0.85, 0.75), splice=True),
        quick=True,
    ),
    Scenario(
        "10m-down",
        "10 MiB answers over 8 connections",
        UnderLoad(Wrk("/10m", connections=8, body=10 * 1024 * 1024)),
        beside_peers(Bar(CPU, 0.75, 0.5), splice=True),
        quick=True,
    ),
    Scenario(
        "10m-up",
        "10 MiB requests over 8 connections",
        UnderLoad(Wrk("/upload", connections=8, body=0, script=UPLOAD)),
        beside_peers(Bar(CPU, 0.75, 0.5), splice=True),
        servers=origins.upload_pair,
        quick=True,
    ),
    Scenario(
        "latency",
        "time to answer at 8,000 requests a second, 128 bytes, 64 connections",
        UnderLoad(FixedRate("/128", connections=64, rate=8000)),
        beside_peers(Bar(P99, 0.9, 0.6)),
        judged=P99,
        columns=(P50, P999, RATE, CPU, USER, SYSTEM, BUSY),
        programs=("h2load", "nginx", "haproxy"),
        quick=True,
    ),
    Scenario(
        "idle",
        "memory of connections that have had one request each and wait",
        IdleConnections(10_000, path="/128", body=128),
        beside_peers(Bar(IDLE_BYTES, 1400, 800, relative=False)),
        judged=IDLE_BYTES,
        columns=IDLE_COLUMNS,
        timed=False,
        most_rounds=1,  # what an allocator keeps of one round would hide in the next
        programs=("nginx", "haproxy"),
    ),
    Scenario(
        "tls-keepalive-128",
        "128-byte answers over 64 TLS connections that stay",
        UnderLoad(SMALL),
        beside_peers(Bar(CPU, 0.9, 0.8), tls=True),
        programs=("wrk", *TLS_PEERS),
    ),
    Scenario(
        "tls-handshake",
        "128-byte answers, a TLS connection with a full handshake each, 500 at a time",
        UnderLoad(Handshakes("/128", at_once=500)),
        beside_peers(Bar(CPU, 0.65, 0.5), tls=True),
        columns=(USER, SYSTEM, BUSY),  # the client's handshakes, which cost more, limit how many there are
        programs=("h2load", *TLS_PEERS),
    ),
    Scenario(
        "tls-10m",
        "10 MiB answers over 8 TLS connections",
        UnderLoad(Wrk("/10m", connections=8, body=10 * 1024 * 1024)),
        beside_peers(Bar(CPU, 0.85, 0.7), tls=True),
        programs=("wrk", *TLS_PEERS),
    ),
    Scenario(
        "h2-tls",
        "128-byte answers over 16 TLS connections with HTTP/2, 16 at a time on each",
        UnderLoad(Http2("/128", connections=16, streams=16, body=128)),
        beside_peers(Bar(CPU, 0.95, 0.85), tls=True),
        programs=("h2load", *TLS_PEERS),
    ),
    Scenario(
        "tls-idle",
        "memory of TLS connections that have had one request each and wait",
        IdleConnections(4000, path="/128", body=128),
        beside_peers(Bar(IDLE_BYTES, 15 * 1024, 8 * 1024, relative=False), tls=True),
        judged=IDLE_BYTES,
        columns=IDLE_COLUMNS,
        timed=False,
        most_rounds=1,  # as above
        programs=TLS_PEERS,
    ),
    Scenario(
        "tcp-128",
        "128-byte answers over 64 connections that stay, as TCP",
        UnderLoad(SMALL),
        relays(Bar(CPU, 1.0, 0.9)),
        programs=("wrk", *TCP_PEERS),
    ),
    Scenario(
        "tcp-connection",
        "128-byte answers, a connection each, 64 at a time, as TCP",
        UnderLoad(Wrk("/128", connections=64, body=128, headers=("Connection: close",))),
        relays(Bar(CPU, 1.0, 0.9)),
        programs=("wrk", *TCP_PEERS),
    ),
    Scenario(
        "tcp-10m-down",
        "10 MiB answers over 8 connections, as TCP",
        UnderLoad(Wrk("/10m", connections=8, body=10 * 1024 * 1024)),
        relays(Bar(CPU, 1.0, 0.9)),
        programs=("wrk", *TCP_PEERS),
    ),
    Scenario(
        "tcp-10m-up",
        "10 MiB requests over 8 connections, as TCP",
        UnderLoad(Wrk("/upload", connections=8, body=0, script=UPLOAD)),
        relays(Bar(CPU, 1.0, 0.9)),
        servers=origins.upload_pair,
        programs=("wrk", *TCP_PEERS),
    ),
    Scenario(
        "tcp-idle",
        "memory of TCP connections that have moved a few bytes each and wait",
        IdleConnections(9000, path="/128", body=128),
        relays(Bar(IDLE_BYTES, 2048, 1024, relative=False)),
        judged=IDLE_BYTES,
        columns=IDLE_COLUMNS,
        timed=False,
        most_rounds=1,  # as above
        programs=TCP_PEERS,
    ),
    Scenario(
        "whole-machine",
        "128-byte answers over 128 connections, everybody on all cores, a worker a core",
        UnderLoad(Wrk("/128", connections=128, body=128)),
        beside_peers(Bar(RATE, 1.05, 1.2)),
        judged=RATE,
        columns=(CPU, USER, SYSTEM, P50, P99, BUSY),
        placement=together,
    ),
    Scenario(
        "endpoints",
        "128-byte answers from 1 to 10,000 servers, probed every 60 s",
        UnderLoad(SMALL, prelude=lambda stage, url: SMALL.run(stage, url, 5)),
        endpoints(Bar(CPU, 1.05, 1.02)),
        servers=origins.nginx_at_many_addresses,
    ),
    Scenario(
        "routes",
        "the same random hosts and paths through 1 to 100,000 routes",
        UnderLoad(Wrk("/", connections=64, body=128, script=RANDOM_ROUTES)),
        variants(
            Variant("1 route", partial(with_routes, 1, 1)),
            Variant("1,000 routes", partial(with_routes, 1000, 1), (Bar(CPU, 1.05, 1.02),)),
            Variant("100,000 routes", partial(with_routes, 1000, 100), (Bar(CPU, 1.05, 1.02),)),
        ),
        programs=("wrk", "nginx"),
    ),
    Scenario(
        "limiter-keys",
        "the same requests counted for 1 client or for 1,000,000",
        UnderLoad(Wrk("/128", connections=64, body=128, script=RANDOM_KEYS), prelude=FillKeys(KEYS)),
        variants(
            Variant("1 client", partial(with_key, "x-constant")),
            Variant("1,000,000 clients", partial(with_key, "x-client"), (Bar(CPU, 1.05, 1.02),)),
        ),
        programs=("wrk", "nginx"),
    ),
    Scenario(
        "limiter",
        "128-byte answers with the limiter off, in memory, in Redis",
        UnderLoad(SMALL),
        variants(
            Variant("no limit", partial(with_limit, "off")),
            Variant("limit in memory", partial(with_limit, "memory"), (Bar(CPU, 1.05, 1.02),)),
            Variant("limit in Redis", partial(with_limit, "redis"), (Bar(CPU, 1.6, 1.3),)),
        ),
        programs=("wrk", "nginx", "redis-server"),
    ),
    Scenario(
        "syscalls",
        "system calls of a 128-byte request over 8 connections that stay",
        SystemCalls(requests=20_000, connections=8, path="/128"),
        beside_peers(
            Bar(Column("receiving", "recvfrom and read"), 2.05, relative=False),
            Bar(Column("sending", "sendto, write and writev"), 2.05, relative=False),
            Bar(Column("futex", "futex"), 0, relative=False),
        ),
        judged=ALL_CALLS,
        columns=None,
        timed=False,
        most_rounds=1,
        programs=("h2load", "strace", "nginx", "haproxy"),
    ),
]
