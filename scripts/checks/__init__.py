"""What scripts/throughput, scripts/failover, scripts/bandwidth, scripts/databases and scripts/fleet share, and do.

Each has a file of its name here. `command` is what their command lines have in common, `forwarding` a load balancer
with listeners of TCP and UDP, `limits` are the cases of `bandwidth`, `namespaces` the network of `fleet`, `visits` the clients of `failover`, `redis` and
`postgresql` are of `databases`. Processes, ports and tools are the benchmark's; clients, servers and findings are those
of the trials.
"""
