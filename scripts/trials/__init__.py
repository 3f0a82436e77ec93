"""What scripts/chaos and scripts/reliability share, and do.

`wire` speaks HTTP and is exact about what did not go well; `clients` and `tunnels` (WebSocket) use it and keep
accounts; `backends`, `balancer` (with its `configuration`) and `redis` are the programs; `stage` starts them all;
`events` happen to them; `accounting` judges what clients saw by what servers wrote down; `report` prints that.
`chaos` and `reliability` read the arguments; each file of `measurements` is one measurement of the latter. Processes,
ports and tools are the benchmark's.
"""
