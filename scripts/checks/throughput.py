"""The command line of scripts/throughput, and its run."""

import subprocess
from pathlib import Path

from .command import arguments, run
from .forwarding import Listener, processes, start, start_server

DESCRIPTION = """\
Starts a server and loadbalancer before it, and measures bytes and requests over TCP, then datagrams, directly and
through the load balancer, with checksums of all that is sent. All other arguments are those of `throughput run`, such as
--mib 64, --connections 100 or --at-least 0.3.
"""


def main(given: list[str]) -> int:
    parser = arguments("throughput", DESCRIPTION, "throughput")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--tcp", action="store_true", help="TCP only")
    only.add_argument("--udp", action="store_true", help="UDP only")
    parser.add_argument("--only", metavar="PARTS", help="of up,down,both,requests; UDP has the last only")
    options, more = parser.parse_known_args(given)
    modes = [mode for mode, skipped in (("tcp", options.udp), ("udp", options.tcp)) if not skipped]
    if options.only:
        more += ["--only", options.only]
        if not options.udp and "requests" not in options.only.split(","):
            modes = ["tcp"]
    return run("throughput", options.binary, lambda binary: measure(binary, modes, more))


def measure(binary: Path, modes: list[str], more: list[str]) -> int:
    with processes() as running:
        server = start_server(running, binary, "throughput", "serve")
        listeners = [Listener(mode, mode, server) for mode in modes]
        balancer = start(running, binary, [listener.text() for listener in listeners])
        worst = 0
        for listener in listeners:
            print(f"\n## {listener.mode}\n", flush=True)
            command = [str(binary.parent / "throughput"), "run", "--direct", server, "--through", listener.address]
            command += ["--pid", str(balancer.pid), *(["--udp"] if listener.mode == "udp" else []), *more]
            status = subprocess.run(command, stdin=subprocess.DEVNULL).returncode
            if status == 2:
                break  # it is no better with the next listener
            worst = max(worst, status)
        running.check()
        return status or worst
