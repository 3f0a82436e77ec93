"""What happens to the programs meanwhile: a class for each kind of event, in groups that run side by side."""

from collections.abc import Mapping

from . import kills, redis, reloads, servers, upgrades
from .event import Event

GROUPS: Mapping[str, list[type[Event]]] = {
    "KILLS": [kills.Kill, kills.Restart, kills.Pause],
    "REDIS": [redis.Pause, redis.Kill],
    "RELOADS": [
        reloads.Rename,
        reloads.Hangup,
        reloads.Post,
        reloads.Invalid,
        servers.Drain,
        servers.Weigh,
        servers.Remove,
    ],
    "UPGRADES": [upgrades.ByFlag, upgrades.BySignal, upgrades.NewBinary, upgrades.BrokenBinary, upgrades.BrokenFile],
}
