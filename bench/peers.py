"""The peers, each with the smallest configuration that makes it a fast proxy to the stage's backend with two threads or
processes, TLS in front and kept-alive connections behind. None of them writes a log.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.process import BenchError, accepts, free_port
from bench.programs import CADDY, ENVOY, HAPROXY, NGINX, TRAEFIK, Program
from bench.stage import Stage


@dataclass(frozen=True)
class Door:
    """A way to the backend: where it listens, with TLS and (0: doesn't) without, and what requests must look like."""

    name: str
    tls_port: int
    plain_port: int
    prefix: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    address: str = "127.0.0.1"

    def url(self, path: str, *, tls: bool) -> str:
        scheme, port = ("https", self.tls_port) if tls else ("http", self.plain_port)
        return f"{scheme}://{self.address}:{port}{self.prefix}{path}"


Command = tuple[Sequence[str | Path], Mapping[str, str]]


@dataclass(frozen=True)
class Peer:
    """`command` writes the configuration and says what to run, given the stage and the TLS and plain ports."""

    name: str
    program: Program
    command: Callable[[Stage, str | Path, int, int], Command]

    def start(self, stage: Stage) -> Door:
        """The peer, running. BenchError when it isn't installed or doesn't start."""
        path = self.program.find()
        if path is None:
            raise BenchError(f"not installed: {self.program.install}")
        tls, plain = free_port(), free_port()
        name = self.name.replace(" ", "-")
        command, environment = self.command(stage, path, tls, plain)
        stage.processes.start(name, command, environment)
        stage.processes.wait_for(name, lambda: accepts("127.0.0.1", tls) and accepts("127.0.0.1", plain))
        return Door(self.name, tls, plain)


def _nginx(stage: Stage, path: str | Path, tls: int, plain: int, *, auth: bool = False) -> Command:
    check = "auth_request /_auth;" if auth else ""
    name = "nginx-auth" if auth else "nginx"
    proxied = 'proxy_http_version 1.1; proxy_set_header Connection "";'
    config = f"""
worker_processes 2; daemon off; pid {name}.pid; error_log {name}-error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 3600;
  upstream backend {{ server {stage.address}:{stage.port}; keepalive 64; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{tls} ssl reuseport; listen 127.0.0.1:{plain} reuseport;
    ssl_certificate {stage.cert}; ssl_certificate_key {stage.key};
    proxy_max_temp_file_size 0;
    location / {{ {check} proxy_pass http://backend; {proxied} }}
    location = /_auth {{ internal; proxy_pass http://backend/auth; {proxied} proxy_pass_request_body off;
      proxy_set_header Content-Length ""; }}
  }}
}}
"""
    return [path, "-p", stage.directory, "-c", stage.write(f"{name}.conf", config)], {}


def _nginx_auth(stage: Stage, path: str | Path, tls: int, plain: int) -> Command:
    return _nginx(stage, path, tls, plain, auth=True)


def _haproxy(stage: Stage, path: str | Path, tls: int, plain: int) -> Command:
    pem = stage.write("haproxy.pem", stage.cert.read_text() + stage.key.read_text())
    config = f"""
global
  nbthread 2
  maxconn 4096
defaults
  mode http
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  http-reuse always
frontend front
  bind 127.0.0.1:{tls} ssl crt {pem}
  bind 127.0.0.1:{plain}
  default_backend back
backend back
  server one {stage.address}:{stage.port}
"""
    return [path, "-f", stage.write("haproxy.cfg", config)], {}


_LUA = """
local allowed = {}
function envoy_on_request(handle)
  local headers = handle:headers()
  local token = headers:get("authorization") or ""
  local key = token .. " " .. headers:get(":method") .. " " .. headers:get(":path")
  local known = allowed[key]
  if known and known > os.time() then return end
  local answer = handle:httpCall("backend", {[":method"] = "GET", [":path"] = "/auth", [":authority"] = "auth",
    ["authorization"] = token}, "", 1000)
  if answer[":status"] ~= "200" then handle:respond({[":status"] = "403"}, "") return end
  allowed[key] = os.time() + 10
end
"""
_ENVOY_TYPES = "type.googleapis.com/envoy.extensions"


def _envoy(stage: Stage, path: str | Path, tls: int, plain: int) -> Command:
    cluster = {
        "endpoints": [{"lb_endpoints": [{"endpoint": _socket(stage.address, stage.port)}]}],
        "cluster_name": "backend",
    }
    config = {
        "static_resources": {
            "listeners": [
                {**_socket("127.0.0.1", tls), "filter_chains": [{**_envoy_tls(stage), **_envoy_filters()}]},
                {**_socket("127.0.0.1", plain), "filter_chains": [_envoy_filters()]},
            ],
            "clusters": [{"name": "backend", "type": "STATIC", "load_assignment": cluster}],
        }
    }
    file = stage.write("envoy.json", json.dumps(config))
    return [path, "-c", file, "--concurrency", "2", "-l", "error", "--disable-hot-restart"], {}


def _socket(address: str, port: int) -> dict[str, Any]:
    return {"address": {"socket_address": {"address": address, "port_value": port}}}


def _extension(name: str, kind: str, **settings: Any) -> dict[str, Any]:
    return {"name": f"envoy.{name}", "typed_config": {"@type": f"{_ENVOY_TYPES}.{kind}", **settings}}


def _envoy_tls(stage: Stage) -> dict[str, Any]:
    files = {"certificate_chain": {"filename": str(stage.cert)}, "private_key": {"filename": str(stage.key)}}
    context = {"tls_certificates": [files]}
    kind = "transport_sockets.tls.v3.DownstreamTlsContext"
    return {"transport_socket": _extension("transport_sockets.tls", kind, common_tls_context=context)}


def _envoy_filters() -> dict[str, Any]:
    route = {"match": {"prefix": "/"}, "route": {"cluster": "backend", "timeout": "0s"}}
    manager = _extension(
        "filters.network.http_connection_manager",
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="bench",
        generate_request_id=False,
        route_config={"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        http_filters=[
            _extension("filters.http.lua", "filters.http.lua.v3.Lua", default_source_code={"inline_string": _LUA}),
            _extension("filters.http.router", "filters.http.router.v3.Router"),
        ],
    )
    return {"filters": [manager]}


_TWO_THREADS = {"GOMAXPROCS": "2"}


def _traefik(stage: Stage, path: str | Path, tls: int, plain: int) -> Command:
    dynamic = f"""
http:
  routers:
    tls: {{rule: "PathPrefix(`/`)", entryPoints: [tls], service: backend, tls: {{}}}}
    plain: {{rule: "PathPrefix(`/`)", entryPoints: [plain], service: backend}}
  services:
    backend: {{loadBalancer: {{servers: [{{url: "http://{stage.address}:{stage.port}"}}]}}}}
tls:
  certificates: [{{certFile: {stage.cert}, keyFile: {stage.key}}}]
"""
    static = f"""
global: {{checkNewVersion: false, sendAnonymousUsage: false}}
log: {{level: ERROR}}
serversTransport: {{maxIdleConnsPerHost: 64}}
entryPoints:
  tls: {{address: "127.0.0.1:{tls}"}}
  plain: {{address: "127.0.0.1:{plain}"}}
providers: {{file: {{filename: {stage.write("traefik-dynamic.yaml", dynamic)}}}}}
"""
    return [path, f"--configFile={stage.write('traefik.yaml', static)}"], _TWO_THREADS


def _caddy(stage: Stage, path: str | Path, tls: int, plain: int) -> Command:
    config = f"""
{{
  admin off
  auto_https off
  persist_config off
  log {{
    level ERROR
  }}
}}
https://127.0.0.1:{tls} {{
  tls {stage.cert} {stage.key}
  reverse_proxy {stage.address}:{stage.port} {{
    transport http {{
      keepalive_idle_conns_per_host 64
    }}
  }}
}}
http://127.0.0.1:{plain} {{
  reverse_proxy {stage.address}:{stage.port} {{
    transport http {{
      keepalive_idle_conns_per_host 64
    }}
  }}
}}
"""
    home = {"HOME": str(stage.directory), "XDG_DATA_HOME": str(stage.directory), **_TWO_THREADS}
    return [path, "run", "--adapter", "caddyfile", "--config", stage.write("Caddyfile", config)], home


PEERS = (
    Peer("HAProxy", HAPROXY, _haproxy),
    Peer("nginx", NGINX, _nginx),
    Peer("nginx auth_request", NGINX, _nginx_auth),
    Peer("Envoy + cached authorisation", ENVOY, _envoy),
    Peer("Traefik", TRAEFIK, _traefik),
    Peer("Caddy", CADDY, _caddy),
)
