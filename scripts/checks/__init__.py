"""What scripts/throughput, scripts/failover, scripts/bandwidth and scripts/databases share, and do.

Each has a file of its name here. `command` is what their command lines have in common, `forwarding` a load balancer
with listeners of TCP and UDP, `rates` and `transfers` are of `bandwidth`, `visits` of `failover`, `redis` and `postgresql` of
`databases`. Processes, ports and tools are the benchmark's, clients, servers and findings those of the trials.
"""
