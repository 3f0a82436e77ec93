"""Network namespaces with an address each, that can be cut off from each other. All of it ends with the script."""

import ctypes
import os
import subprocess
from pathlib import Path

from benchmark.failure import Failure

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000
NAMESPACES = Path("/run/netns")


class Network:
    """A namespace for each place, and one with two bridges: places at the same bridge reach each other."""

    def __init__(self, places: int) -> None:
        if os.geteuid() != 0:
            raise Failure("network namespaces are for root alone")
        self.prefix = f"lb{os.getpid()}"
        self.places = range(places)

    def __enter__(self) -> "Network":
        try:
            self.make()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for name in [self.middle, *map(self.name, self.places)]:
            if (NAMESPACES / name).exists():
                ip("netns", "delete", name)  # and with it all devices in it, and their other ends

    @property
    def middle(self) -> str:
        return f"{self.prefix}-middle"

    def name(self, place: int) -> str:
        return f"{self.prefix}-{place}"

    @staticmethod
    def address(place: int) -> str:
        return f"10.83.0.{place + 1}"

    def make(self) -> None:
        ip("netns", "add", self.middle)
        for bridge in ("left", "right"):
            self.in_middle("link", "add", bridge, "type", "bridge")
            self.in_middle("link", "set", bridge, "up")
        for place in self.places:
            name = self.name(place)
            ip("netns", "add", name)
            ip("-n", name, "link", "add", "out", "type", "veth", "peer", "name", f"to{place}", "netns", self.middle)
            ip("-n", name, "address", "add", f"{self.address(place)}/24", "dev", "out")
            for device in ("lo", "out"):
                ip("-n", name, "link", "set", device, "up")
            self.in_middle("link", "set", f"to{place}", "up")
        self.join(list(self.places), [])

    def join(self, left: list[int], right: list[int]) -> None:
        """Has the places of each list reach each other, and nobody else."""
        for bridge, places in (("left", left), ("right", right)):
            for place in places:
                self.in_middle("link", "set", f"to{place}", "master", bridge)

    def in_middle(self, *arguments: str) -> None:
        ip("-n", self.middle, *arguments)

    def command(self, place: int, command: list[str]) -> list[str]:
        """What runs `command` there."""
        return ["ip", "netns", "exec", self.name(place), *command]

    def enter(self, place: int) -> None:
        """Has this thread open its sockets there, for as long as it lives."""
        with (NAMESPACES / self.name(place)).open() as namespace:
            if LIBC.setns(namespace.fileno(), CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")


def ip(*arguments: str) -> None:
    try:
        subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise Failure("ip is missing; install it: apt-get install iproute2") from None
    except subprocess.CalledProcessError as error:
        raise Failure(f"ip {' '.join(arguments)}: {error.stderr.strip()}") from None
