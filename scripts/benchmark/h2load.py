"""The clients that are h2load, and how it is run."""

import math
import re
import time
from dataclasses import dataclass

from .failure import Failure
from .stage import Figures, Stage
from .tls import GROUP, SUITE

FIRST = 4000  # requests over HTTP/2 that tell how many fit into a time


@dataclass(frozen=True)
class Answers:
    """Those with status 200, and what else a run of h2load gave."""

    times: list[int]  # microseconds from request to answer, in order
    seconds: float  # from the first request to the last answer
    report: str


@dataclass(frozen=True)
class FixedRate:
    """A fixed number of requests a second, spread evenly over the connections, whatever the proxy does."""

    path: str
    connections: int
    rate: int

    def run(self, stage: Stage, url: str, seconds: float) -> Figures:
        requests = math.ceil(self.rate * seconds / self.connections) * self.connections
        # One connection a millisecond at the start: opened together, all would send in the same instant for ever.
        pace = [f"--rps={self.rate / self.connections}", "--rate=1", "--rate-period=1ms"]
        begin = time.monotonic()
        times = h2load(stage, f"{url}{self.path}", self.connections, requests, pace).times
        elapsed = time.monotonic() - begin
        return {"requests": len(times), "errors": requests - len(times), "seconds": elapsed} | percentiles(times)


@dataclass(frozen=True)
class Http2:
    """As many requests over HTTP/2 as the proxy can answer, by prior knowledge where there is no TLS."""

    path: str
    connections: int
    streams: int  # at a time, of each connection
    body: int  # bytes of each answer

    def run(self, stage: Stage, url: str, seconds: float) -> Figures:
        # How many requests there are is fixed, by what the first ones take: if instead the time is, h2load keeps quiet
        # about connections that were lost.
        begin = time.monotonic()
        first = self.send(stage, url, FIRST)
        left = seconds - (time.monotonic() - begin)
        number = max(self.connections, round(FIRST * left / first.seconds))
        rest = self.send(stage, url, number)
        times = sorted(first.times + rest.times)
        counts = {"requests": len(times), "errors": FIRST + number - len(times)}
        return counts | {"seconds": first.seconds + rest.seconds} | percentiles(times)

    def send(self, stage: Stage, url: str, requests: int) -> Answers:
        answers = h2load_http2(stage, f"{url}{self.path}", self.connections, self.streams, requests)
        received = re.search(r"\((\d+)\) data", answers.report)
        if len(answers.times) == requests and not (received and int(received[1]) >= requests * self.body):
            raise Failure(f"answers to {self.path} are shorter than {self.body} bytes")
        return answers


@dataclass(frozen=True)
class Handshakes:
    """A connection a request, over TLS with a full handshake each.

    When wrk or h2load connects again, it resumes the session of the connection before, and that cannot be switched off.
    So here each client of h2load has one connection, and h2load is started again and again.
    """

    path: str
    at_once: int

    def run(self, stage: Stage, url: str, seconds: float) -> Figures:
        begin = time.monotonic()
        sent = answered = 0
        while time.monotonic() < begin + seconds:
            closing = ["-H", "Connection: close"]
            answered += len(h2load(stage, f"{url}{self.path}", self.at_once, self.at_once, closing).times)
            sent += self.at_once
        return {"requests": answered, "errors": sent - answered, "seconds": time.monotonic() - begin}


def h2load(stage: Stage, url: str, connections: int, requests: int, more: list[str]) -> Answers:
    """Sends so many HTTP/1.1 requests."""
    return run(stage, url, ["--h1", f"-c{connections}", f"-n{requests}", *more])


def h2load_http2(stage: Stage, url: str, connections: int, streams: int, requests: int) -> Answers:
    """Sends so many requests over HTTP/2 and nothing else, up to `streams` at a time on each connection."""
    return run(stage, url, ["--npn-list=h2", f"-c{connections}", f"-m{streams}", f"-n{requests}"])


def run(stage: Stage, url: str, more: list[str]) -> Answers:
    log = stage.write("h2load.tsv", "")
    tls = [f"--tls13-ciphers={SUITE}", f"--groups={GROUP}"] if url.startswith("https:") else []
    program = stage.start_load("h2load", ["h2load", "-t1", f"--log-file={log}", *tls, *more, url])
    report = stage.processes.finish(program, 300)
    # A row is when the request was sent, in microseconds, the status of its answer, and how long that took.
    rows = [line.split("\t") for line in log.read_text().splitlines()]
    log.unlink()
    answered = [(int(start), int(took)) for start, status, took, *_ in rows if status == "200"]
    if not answered:
        raise Failure(f"h2load had no answer: {program.last_words()}")
    begin, end = min(start for start, _ in answered), max(start + took for start, took in answered)
    return Answers(sorted(took for _, took in answered), (end - begin) / 1e6, report)


def percentiles(ordered: list[int]) -> Figures:
    """Of microseconds, in milliseconds."""
    wanted = {"p50": 50, "p99": 99, "p999": 99.9}
    return {name: percentile(ordered, percent) / 1e3 for name, percent in wanted.items()}


def percentile(ordered: list[int], percent: float) -> int:
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]
