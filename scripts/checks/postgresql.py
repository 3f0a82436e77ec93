"""A PostgreSQL of our own in the run's directory, and its clients.

It refuses to run as root, so root runs it as nobody. Debian keeps its programs where no PATH leads, a directory for each
version.
"""

import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path

from benchmark.failure import Failure
from benchmark.processes import Processes, free_port, wait_until
from trials.backends import EVERYWHERE

USER = "nobody"  # whom root runs it as
SCALE = 2  # of pgbench's tables: 100,000 rows each
COLUMNS = "number, md5(number::text)"
COPY_ROWS = 1_000_000  # of a table that is copied through, about 40 MB


def find_programs() -> None:
    """Adds the newest version's directory to the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4].split(".")[0]))
    if found:
        os.environ["PATH"] += f":{found[-1].parent}"


@dataclass
class PostgreSql:
    processes: Processes
    port: int

    @classmethod
    def start(cls, processes: Processes) -> "PostgreSql":
        server = cls(processes, free_port())
        directory = processes.directory / "postgresql"
        directory.mkdir(mode=0o700)
        if os.geteuid() == 0:
            processes.directory.chmod(0o711)  # nobody has to get through
            user = pwd.getpwnam(USER)
            os.chown(directory, user.pw_uid, user.pw_gid)
        data = str(directory / "data")
        initdb = ["initdb", "-D", data, "--username=bench", "--auth=trust", "--encoding=UTF8", "--no-sync"]
        server.finish("initdb", as_user(initdb), 120)
        # Only memory is measured: nothing is forced to the disk.
        settings = ["fsync=off", "synchronous_commit=off"]
        settings += ["listen_addresses=127.0.0.1", f"unix_socket_directories={data}"]
        flags = [flag for setting in settings for flag in ("-c", setting)]
        command = as_user(["postgres", "-D", data, "-p", str(server.port), *flags])
        program = processes.start("postgresql", command, EVERYWHERE)
        wait_until("postgresql", program, lambda: "ready to accept connections" in program.log.read_text(), 60)
        server.finish("pgbench", ["pgbench", "--initialize", "--quiet", f"--scale={SCALE}", *of(server.port)], 120)
        return server

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def finish(self, name: str, command: list[str], seconds: float) -> str:
        """Runs a program to its end, and gives its output."""
        return self.processes.finish(self.processes.start(name, command, EVERYWHERE), seconds)

    def transactions(self, port: int, flags: list[str], seconds: int) -> float:
        """Transactions a second that pgbench gets at a port, none of which may fail."""
        command = ["pgbench", "--no-vacuum", f"--time={seconds}", "--jobs=2", *flags, *of(port)]
        output = self.finish("pgbench", command, seconds + 60)
        if "number of failed transactions: 0 " not in output or "ERROR" in output or "aborted" in output:
            raise Failure(f"pgbench: {output.strip()}")
        line = next(line for line in output.splitlines() if line.startswith("tps = "))
        return float(line.split()[2])

    def copied(self, port: int) -> bytes:
        """A table, as it comes at a port."""
        query = f"copy (select {COLUMNS} from generate_series(1, {COPY_ROWS}) number) to stdout"
        return self.psql(port, b"", query)

    def copied_back(self, port: int, table: bytes) -> int:
        """How many rows of a table that is sent to a port arrive as they should."""
        create = "create temp table sent (number int, digest text)"
        count = "select count(*) from sent where digest = md5(number::text)"
        return int(self.psql(port, table, create, "copy sent from stdin", count))

    def psql(self, port: int, given: bytes, *commands: str) -> bytes:
        flags = [flag for one in commands for flag in ("--command", one)]
        whole = ["psql", "--no-psqlrc", "--quiet", "--tuples-only", "--set=ON_ERROR_STOP=1", *flags, *of(port)]
        done = subprocess.run(whole, input=given, capture_output=True, timeout=120)
        if done.returncode:
            raise Failure(f"psql: {done.stderr.decode(errors='replace').strip()}")
        return done.stdout


def of(port: int) -> list[str]:
    return ["--host=127.0.0.1", f"--port={port}", "--username=bench", "postgres"]


def as_user(command: list[str]) -> list[str]:
    """The command, as somebody who is not root; it ends with the script all the same."""
    if os.geteuid() != 0:
        return command
    group = str(pwd.getpwnam(USER).pw_gid)
    return ["setpriv", f"--reuid={USER}", f"--regid={group}", "--clear-groups", "--pdeathsig=TERM", "--", *command]
