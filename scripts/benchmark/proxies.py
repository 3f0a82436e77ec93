"""The contestants' configurations, on equal terms.

All of them: one worker a core that they have, no access log, clients' connections kept as long as they like, upstream
connections kept and shared, Host passed on and X-Forwarded-For set, nothing buffered on disk, round robin, and all
other settings as they come. `tls` has the terms of TLS; by ALPN clients choose between HTTP/2 and HTTP/1.1.
loadbalancer, HAProxy and Envoy probe GET /health every 5 s; nginx has no such thing in its free version. loadbalancer
does more a request than they are asked to: it limits clients, and it counts.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from .failure import Failure
from .nginx_config import write_nginx_config
from .processes import Program, free_port, wait_until
from .stage import ROOT, Stage
from .tls import SUITE, VERSION, certificate, check_terms
from .web import answers

START_TIME = 60.0  # seconds; a table of 100,000 routes takes a while


@dataclass(frozen=True)
class Proxy:
    """A proxy that runs and answers."""

    program: Program
    address: str
    tls: bool

    @property
    def url(self) -> str:
        """Without a path."""
        return f"{'https' if self.tls else 'http'}://{self.address}"

    @property
    def pid(self) -> int:
        return self.program.pid


def started(stage: Stage, program: Program, port: int, tls: bool) -> Proxy:
    proxy = Proxy(program, f"127.0.0.1:{port}", tls)
    wait_until(program.name, program, lambda: answers(proxy.address, "/health", tls), START_TIME)
    if tls:
        check_terms(stage.directory, program.name, proxy.address)
    return proxy


def loadbalancer(
    stage: Stage,
    name: str,
    binary: Path,
    servers: list[str],
    settings: dict[str, str] | None = None,
    routes: str = "",
    tls: bool = False,
) -> Proxy:
    """The shipped config.toml with other addresses and `workers`, and whatever a scenario sets besides.

    The rate limit stays on as shipped, in memory and by client address, but for its number: 1,000,000 requests in 10 s
    is what a fast machine could reach, and a test must not be denied.
    """
    port = free_port()
    # Servers and routes go into the file because they can be too long for the environment.
    quoted = ", ".join(f'"{server}"' for server in servers)
    shipped = (ROOT / "config.toml").read_text()
    text, found = re.subn(r"^servers = \[.*?^\]", f"servers = [{quoted}]", shipped, flags=re.MULTILINE | re.DOTALL)
    if found != 1:
        raise Failure("config.toml does not have the one list of servers that this script replaces")
    environment = {
        "LB__WORKERS": str(stage.placement.workers),
        "LB__LISTENERS__0__LISTEN": f"127.0.0.1:{port}",
        "LB__ADMIN__LISTEN": f"127.0.0.1:{free_port()}",
        "LB__ADMIN__STATE_FILE": str(stage.directory / f"{port}.state"),
        "LB__RATE_LIMIT__REQUESTS": "1000000000",
        "LB__DRAIN_TIMEOUT": "1s",
        **(settings or {}),
    }
    if tls:
        listener = "LB__LISTENERS__0__TLS"
        certified = certificate(stage.directory)
        environment[f"{listener}__CERTIFICATES__0__CERT"] = str(certified.cert)
        environment[f"{listener}__CERTIFICATES__0__KEY"] = str(certified.key)
        environment[f"{listener}__MIN_VERSION"] = "1.3"
    config = stage.write("loadbalancer.toml", text + routes)
    command = [str(binary), "--config", str(config)]
    return started(stage, stage.start_proxy(name, command, environment=environment), port, tls)


def nginx(stage: Stage, servers: list[str], tls: bool = False) -> Proxy:
    port = free_port()
    encryption = ""
    if tls:
        certified = certificate(stage.directory)
        encryption = f"""
            ssl_certificate {certified.cert};
            ssl_certificate_key {certified.key};
            ssl_protocols {VERSION};
            ssl_conf_command Ciphersuites {SUITE};
        """
    upstream = "\n".join(f"        server {server};" for server in servers)
    config = f"""
        upstream app {{
            {upstream}
            keepalive 512;  # more than any scenario has in flight, so that none is closed for want of room
            keepalive_requests 1000000000;
        }}
        server {{
            listen 127.0.0.1:{port} backlog=4096 {"ssl http2" if tls else ""};
            {encryption}
            location / {{
                proxy_pass http://app;
                proxy_http_version 1.1;
                proxy_set_header Connection "";
                proxy_set_header Host $http_host;
                proxy_set_header X-Forwarded-For $remote_addr;
                proxy_request_buffering off;
                proxy_max_temp_file_size 0;
            }}
        }}
    """
    path = write_nginx_config(stage, "nginx", stage.placement.workers, config)
    return started(stage, stage.start_proxy("nginx", ["nginx", "-c", str(path), "-e", "stderr"]), port, tls)


def haproxy(stage: Stage, servers: list[str], splice: bool = False, probes: str = "5s", tls: bool = False) -> Proxy:
    """HAProxy; with `splice` it moves bodies inside the kernel where it finds that useful."""
    port = free_port()
    splicing = "option splice-auto\n option splice-request\n option splice-response" if splice else ""
    listed = "\n".join(f" server s{number} {server} check inter {probes}" for number, server in enumerate(servers))
    encryption = ""
    if tls:
        terms = f"ssl-min-ver {VERSION} ciphersuites {SUITE} alpn h2,http/1.1"
        encryption = f"ssl crt {certificate(stage.directory).both} {terms}"
    # It may keep as many unused connections to servers as it has file descriptors for, and may use them for a client's
    # first request too: by default ("safe") it would open one for each new client.
    config = f"""
global
 nbthread {stage.placement.workers}
 maxconn 16384
 no strict-limits
 tune.pool-low-fd-ratio 85
 tune.pool-high-fd-ratio 90
defaults
 mode http
 timeout connect 3s
 timeout client 75s
 timeout server 60s
 option http-keep-alive
 option forwardfor
 http-reuse always
 {splicing}
frontend web
 bind 127.0.0.1:{port} backlog 4096 {encryption}
 default_backend app
backend app
 balance roundrobin
 option httpchk GET /health
{listed}
"""
    name = "haproxy splice" if splice else "haproxy"
    path = stage.write(f"{name}.cfg", config)
    return started(stage, stage.start_proxy(name, ["haproxy", "-db", "-f", str(path)]), port, tls)


def envoy(binary: Path, stage: Stage, servers: list[str], tls: bool = False) -> Proxy:
    port = free_port()
    places = [server.split(":") for server in servers]
    endpoints = ", ".join(
        f"{{endpoint: {{address: {{socket_address: {{address: {host}, port_value: {number}}}}}}}}}"
        for host, number in places
    )
    encryption = ""
    if tls:
        # The choice of the suite is not its own: its library takes what the client prefers.
        certified = certificate(stage.directory)
        encryption = f"""transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            tls_params: {{tls_minimum_protocol_version: TLSv1_3, tls_maximum_protocol_version: TLSv1_3}}
            alpn_protocols: [h2, http/1.1]
            tls_certificates:
            - {{certificate_chain: {{filename: {certified.cert}}}, private_key: {{filename: {certified.key}}}}}
"""
    config = f"""
static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - {encryption}
      filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: web
          use_remote_address: true
          route_config:
            virtual_hosts:
            - {{name: all, domains: ["*"], routes: [{{match: {{prefix: "/"}}, route: {{cluster: app, timeout: 60s}}}}]}}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
  clusters:
  - name: app
    type: STATIC
    lb_policy: ROUND_ROBIN
    connect_timeout: 3s
    circuit_breakers:
      thresholds: [{{max_connections: 100000, max_pending_requests: 100000, max_requests: 100000}}]
    health_checks:
    - timeout: 2s
      interval: 5s
      healthy_threshold: 2
      unhealthy_threshold: 3
      http_health_check: {{path: /health}}
    load_assignment: {{cluster_name: app, endpoints: [{{lb_endpoints: [{endpoints}]}}]}}
"""
    path = stage.write("envoy.yaml", config)
    workers = str(stage.placement.workers)
    command = [str(binary), "-c", str(path), "--concurrency", workers, "--disable-hot-restart", "--log-level", "warn"]
    return started(stage, stage.start_proxy("envoy", command), port, tls)
