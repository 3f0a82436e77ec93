"""Prints what came of a run."""

from .accounting import Account
from .clients import Record
from .stage import Stage

MOST_VIOLATIONS = 50


def percentile(sorted_values: list[float], share: float) -> float:
    if not sorted_values:
        return float("nan")
    return sorted_values[min(len(sorted_values) - 1, int(len(sorted_values) * share))]


def table(head: list[str], rows: list[list[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def print_run(stage: Stage, account: Account, records: list[Record], seed: int) -> None:
    """Counts, events, latency and violations, with times in seconds from the start."""
    at = stage.begun
    print(f"seed {seed}, {len(records)} requests, {len(stage.notes)} events\n")
    print(table(["seen", "count"], [[what, count] for what, count in sorted(account.counts.items())]))
    excused = account.excused or {"nothing": 0}
    print("\n" + table(["excused", "count"], [[what, count] for what, count in sorted(excused.items())]))
    times = sorted(record.seconds * 1000 for record in records)
    shares = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("worst", 1.0)]
    print("\n" + table(["latency", "ms"], [[name, f"{percentile(times, share):.0f}"] for name, share in shares]))
    notes = sorted(stage.notes, key=lambda note: note.begun)
    events = [[f"{note.begun - at:.1f}", f"{note.ended - note.begun:.1f}", note.what] for note in notes]
    print("\n" + table(["at, s", "took, s", "event"], events))
    violations = sorted(account.violations, key=lambda violation: violation.at)
    print(f"\n{len(violations)} violations")
    for violation in violations[:MOST_VIOLATIONS]:
        print(f"  {violation.at - at:.3f} s  {violation.text}")
    if len(violations) > MOST_VIOLATIONS:
        print(f"  and {len(violations) - MOST_VIOLATIONS} more")
