"""The command line of scripts/fleet, and its run."""

import http.client
import json
import os
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from benchmark.failure import Failure
from benchmark.processes import Processes, Program
from trials.measurements.finding import Finding, at_most, beside, print_findings, within

from .command import arguments, run
from .namespaces import Network

DESCRIPTION = """\
Starts four load balancers of one fleet, each in a network namespace of its own, under one limit of 100 requests a second,
and asks all of them for more than that. Cuts the fleet in two, joins it again, and kills one. Says what the fleet admitted
meanwhile, and how long it took to notice. To be run by root; the namespaces are removed at the end.
"""
NODES = 4
LIMIT = 100  # requests a second, of the whole fleet
LOAD = 80  # requests a second, at each
INTERVAL, DEAD_AFTER = 0.5, 4.0  # seconds
PATIENCE = 10.0
PORT, ADMIN, GOSSIP = 8080, 9901, 7946


@dataclass
class Client:
    """Asks one node, from within its namespace, and notes when it was admitted."""

    network: Network
    place: int
    ended: threading.Event = field(default_factory=threading.Event)
    admitted: list[float] = field(default_factory=list)
    problems: int = 0

    def run(self) -> None:
        self.network.enter(self.place)
        connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=PATIENCE)
        due = time.monotonic()
        while not self.ended.is_set():
            due = max(due + 1 / LOAD, time.monotonic() - 0.1)
            self.ended.wait(max(0.0, due - time.monotonic()))
            self.ask(connection)

    def ask(self, connection: http.client.HTTPConnection) -> None:
        try:
            connection.request("GET", "/")
            answer = connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException):
            connection.close()
            self.problems += 1
            return
        if answer.status == 200:
            self.admitted.append(time.monotonic())


@dataclass
class Fleet:
    network: Network
    programs: list[Program]
    clients: list[Client]

    def rate(self, seconds: float) -> float:
        """Admitted by all in so many seconds from now on, a second."""
        begin = time.monotonic()
        time.sleep(seconds)
        return sum(1 for client in self.clients for at in client.admitted.copy() if at >= begin) / seconds

    def nodes(self, place: int) -> int:
        """How many there are, as one of them sees it."""
        with ThreadPoolExecutor(1) as thread:  # of its own, since it enters the namespace
            return thread.submit(self.ask, place).result()["nodes"]

    def ask(self, place: int) -> dict:
        self.network.enter(place)
        connection = http.client.HTTPConnection("127.0.0.1", ADMIN, timeout=PATIENCE)
        connection.request("GET", "/cluster")
        return json.loads(connection.getresponse().read())

    def wait(self, what: str, expected: dict[int, int]) -> float:
        """Until the nodes see so many; gives the seconds that took."""
        begin = time.monotonic()
        while any(self.nodes(place) != count for place, count in expected.items()):
            if time.monotonic() > begin + PATIENCE:
                seen = [self.nodes(place) for place in expected]
                raise Failure(f"{what}: the nodes see {seen} after {PATIENCE:g} s, not {list(expected.values())}")
            time.sleep(0.02)
        return time.monotonic() - begin


def main(given: list[str]) -> int:
    options = arguments("fleet", DESCRIPTION, "nothing").parse_args(given)
    return run("fleet", options.binary, lambda binary: print_findings(measure(binary)))


def measure(binary: Path) -> list[Finding]:
    with (
        tempfile.TemporaryDirectory() as directory,
        Network(NODES) as network,
        Processes(Path(directory)) as processes,
    ):
        programs = [start(binary, network, processes, place) for place in range(NODES)]
        fleet = Fleet(network, programs, [Client(network, place) for place in range(NODES)])
        for place in range(NODES):
            wait_ready(fleet, place)
        threads = [threading.Thread(target=client.run, daemon=True) for client in fleet.clients]
        for thread in threads:
            thread.start()
        try:
            return play(fleet)
        finally:
            for client, thread in zip(fleet.clients, threads, strict=True):
                client.ended.set()
                thread.join(PATIENCE)


def play(fleet: Fleet) -> list[Finding]:
    everywhere = dict.fromkeys(range(NODES), NODES)
    fleet.wait("at the start", everywhere)
    time.sleep(4 * INTERVAL)
    whole = fleet.rate(5)
    fleet.network.join([0, 1], [2, 3])
    at_first = fleet.rate(DEAD_AFTER - 2 * INTERVAL)
    cut = DEAD_AFTER - 2 * INTERVAL + fleet.wait("cut in two", dict.fromkeys(range(NODES), 2))
    time.sleep(2 * INTERVAL)
    sides = fleet.rate(5)
    fleet.network.join([0, 1, 2, 3], [])
    joined = fleet.wait("joined again", everywhere)
    time.sleep(2 * INTERVAL)
    again = fleet.rate(5)
    fleet.programs[3].process.kill()
    dead = fleet.wait("one was killed", dict.fromkeys(range(NODES - 1), NODES - 1))
    time.sleep(2 * INTERVAL)
    without = fleet.rate(5)
    problems = sum(client.problems for client in fleet.clients[:3])
    return [
        beside("asked for, a second", NODES * LOAD),
        within("admitted by all, a second", whole, LIMIT, 10),
        at_most("admitted by all until the cut is noticed", at_first, 1.25 * LIMIT),
        at_most("the cut is noticed after", cut, DEAD_AFTER + 2 * INTERVAL, "s"),
        within("admitted by both sides", sides, 2 * LIMIT, 10),
        at_most("they have found each other after", joined, 4 * INTERVAL, "s"),
        within("admitted by all again", again, LIMIT, 10),
        at_most("one that is killed is dead after", dead, 5, "s"),
        within("admitted by those that are left", without, LIMIT, 10),
        at_most("requests without an answer, but for those to the killed one", problems, 0),
    ]


def start(binary: Path, network: Network, processes: Processes, place: int) -> Program:
    directory = processes.directory / str(place)
    directory.mkdir()
    seeds = ", ".join(f'"{network.address(seed)}:{GOSSIP}"' for seed in (0, 1))
    (directory / "config.toml").write_text(f"""\
workers = 1
upgrade_socket = "{directory}/upgrade"
[admin]
listen = "127.0.0.1:{ADMIN}"
state_file = "{directory}/state"
[[listeners]]
name = "web"
listen = "127.0.0.1:{PORT}"
[[routes]]
respond = {{}}
[rate_limit]
algorithm = "sliding_window"
requests = {LIMIT}
window = "1s"
key = "route"
store = "cluster"
[cluster]
listen = "{network.address(place)}:{GOSSIP}"
name = "node-{place}"
seeds = [{seeds}]
key = "the key of scripts/fleet, and of no other fleet"
interval = "{INTERVAL * 1000:.0f}ms"
dead_after = "{DEAD_AFTER:.0f}s"
""")
    command = network.command(place, [str(binary), "--config", str(directory / "config.toml")])
    return processes.start(f"node {place}", command, os.sched_getaffinity(0))


def wait_ready(fleet: Fleet, place: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        fleet.programs[place].check()
        try:
            fleet.nodes(place)
            return
        except OSError:
            if time.monotonic() > deadline:
                raise Failure(f"node {place} does not answer: {fleet.programs[place].last_words()}") from None
            time.sleep(0.05)
