"""The release build, made if need be."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from benchmark.failure import Failure
from benchmark.stage import ROOT


def built() -> Path:
    if not shutil.which("cargo"):
        raise Failure("cargo is missing: install a Rust toolchain, or use --binary")
    command = ["cargo", "build", "--release", "--locked", "--bins"]
    if subprocess.run(command, cwd=ROOT, stdout=sys.stderr).returncode:
        raise Failure(f"{' '.join(command)} failed")
    command = ["cargo", "metadata", "--no-deps", "--format-version", "1"]
    metadata = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)
    return Path(metadata["target_directory"]) / "release" / "loadbalancer"
