"""The contestants' configurations for TCP, on equal terms.

All of them: one worker a core that they have, no log, round robin, and all other settings as they come; HAProxy is
told to splice. loadbalancer and HAProxy probe each server with a connection every 5 s.
"""

from pathlib import Path

from .nginx_config import write_nginx_stream_config
from .processes import free_port
from .proxies import Proxy, started
from .stage import Stage


def loadbalancer(name: str, binary: Path, stage: Stage, servers: list[str]) -> Proxy:
    port = free_port()
    quoted = ", ".join(f'"{server}"' for server in servers)
    config = stage.write(
        "loadbalancer-tcp.toml",
        f"""
workers = {stage.placement.workers}
drain_timeout = "1s"
upgrade_socket = "off"
admin = {{ listen = "off" }}

[[listeners]]
listen = "127.0.0.1:{port}"
mode = "tcp"
upstream = "app"

[[upstreams]]
name = "app"
servers = [{quoted}]
""",
    )
    command = [str(binary), "--config", str(config)]
    return started(stage, stage.start_proxy(name, command), port, tls=False)


def nginx(stage: Stage, servers: list[str]) -> Proxy:
    port = free_port()
    upstream = " ".join(f"server {server};" for server in servers)
    config = f"""
        upstream app {{ {upstream} }}
        server {{ listen 127.0.0.1:{port} backlog=4096; proxy_pass app; }}
    """
    path = write_nginx_stream_config(stage, stage.placement.workers, config)
    return started(stage, stage.start_proxy("nginx", ["nginx", "-c", str(path), "-e", "stderr"]), port, tls=False)


def haproxy(stage: Stage, servers: list[str]) -> Proxy:
    port = free_port()
    listed = "\n".join(f" server s{number} {server} check inter 5s" for number, server in enumerate(servers))
    config = f"""
global
 nbthread {stage.placement.workers}
 maxconn 9900
 no strict-limits
defaults
 mode tcp
 timeout connect 3s
 timeout client 1h
 timeout server 1h
 option splice-auto
 option splice-request
 option splice-response
frontend front
 bind 127.0.0.1:{port} backlog 4096
 default_backend app
backend app
 balance roundrobin
{listed}
"""
    path = stage.write("haproxy-tcp.cfg", config)
    return started(stage, stage.start_proxy("haproxy", ["haproxy", "-db", "-f", str(path)]), port, tls=False)
