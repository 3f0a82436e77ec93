"""What every nginx of a run, contestant or origin, has in its configuration."""

import os
from pathlib import Path

from .stage import Stage

CONNECTIONS = 19_500  # a worker's, to both sides together


def write_nginx_config(stage: Stage, name: str, workers: int, http: str) -> Path:
    """A configuration around the contents of `http`, for the contestant and for origins."""
    temporary = stage.directory / "nginx"
    temporary.mkdir(exist_ok=True)
    own_paths = "\n".join(
        f"{kind}_temp_path {temporary}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    contents = f"""
        http {{
            access_log off;
            {own_paths}
            default_type application/octet-stream;
            sendfile on;
            tcp_nodelay on;
            keepalive_timeout 75s;
            keepalive_requests 1000000000;
            client_max_body_size 0;
            {http}
        }}
    """
    return write(stage, name, workers, contents)


def write_nginx_stream_config(stage: Stage, workers: int, stream: str) -> Path:
    """A configuration around the contents of `stream`: its layer 4, a module of its own with some distributions."""
    module = stream_module()
    load = f"load_module {module};" if module else ""
    return write(stage, "nginx-stream", workers, f"stream {{ {stream} }}", load)


def stream_module() -> Path | None:
    """Where nginx's layer 4 is, if it is not built in."""
    places = [Path(f"/usr/lib{part}/nginx/modules/ngx_stream_module.so") for part in ("", "64")]
    return next((place for place in places if place.exists()), None)


def write(stage: Stage, name: str, workers: int, contents: str, load: str = "") -> Path:
    user = "user root;" if os.geteuid() == 0 else ""  # the directory of this run is its owner's alone
    return stage.write(
        f"{name}.conf",
        f"""
        {load}
        {user}
        daemon off;
        worker_processes {workers};
        pid {stage.processes.new_file("nginx.pid")};
        error_log stderr warn;
        events {{ worker_connections {CONNECTIONS}; }}
        {contents}
        """,
    )
