"""What scripts/bench does: `command` reads the arguments, `rounds` plays the `scenarios`, `report` writes the tables.

`model` has the words that all of them use. A scenario asks `contestants` (configured in `proxies`) for what `origins`
serve; `load` and `h2load` have the clients, `tls` what they and the proxies encrypt with, `measurements` and `idle` what
is read from a proxy, `accounting` how the kernel counts.
"""
