"""nginx: a map of whole `Authorization` headers."""

from lab import machine
from lab.proxies import Proxy

TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


class Nginx(Proxy):
    name = "nginx"
    patience_seconds = 90

    def configure(self):
        entries = self.write("tokens.map", "".join(f'"Bearer {token}" 1;\n' for token in self.tokens()))
        temporary = " ".join(f"{kind}_temp_path {self.folder}/{kind};" for kind in TEMPORARY)
        # Streaming both ways: with nginx's defaults, large bodies would go through files, or through buffers of 4 KiB, which cost it
        # two and a half times the CPU.
        forward = """proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Authorization ""; proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_request_buffering off; proxy_max_temp_file_size 0;
      proxy_buffer_size 16k; proxy_buffers 16 32k; proxy_busy_buffers_size 64k; proxy_pass http://up;"""
        if self.setting.behind == "websocket":
            forward = forward.replace('Connection "";', "Connection $for_upgrade; proxy_set_header Upgrade $http_upgrade; proxy_read_timeout 600s; proxy_send_timeout 600s;")
        if self.setting.behind == "grpc":
            forward = """grpc_set_header Authorization ""; grpc_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      grpc_buffer_size 64k; grpc_read_timeout 600s; grpc_send_timeout 600s; grpc_pass grpc://up;"""
        location = lambda path: f"location {path} {{ if ($allowed = 0) {{ return 401; }}\n      {forward} }}\n"
        locations = "".join(location(f"/{name}/") for name in self.route_names()) or location("/")
        log = f"access_log {self.folder}/access.log combined buffer=64k flush=1s;" if self.setting.access_log else "access_log off;"
        share = " reuseport" if self.setting.workers > 1 else ""
        # nginx 1.22 tells HTTP/2 from HTTP/1.1 by ALPN alone: in the clear a port speaks one of them.
        clear = " http2" if self.setting.behind == "grpc" else ""
        file = self.write("nginx.conf", f"""worker_processes {self.setting.workers}; daemon off; user root; pid {self.folder}/nginx.pid; error_log {self.folder}/nginx.err;
worker_rlimit_nofile {machine.descriptors()}; events {{ worker_connections 32768; }}
http {{ {log} keepalive_requests 100000000; keepalive_timeout 600; {temporary} client_max_body_size 0; client_body_buffer_size 256k;
  map_hash_bucket_size 256; map_hash_max_size {max(262_144, 2 * self.setting.tokens)};
  map $http_upgrade $for_upgrade {{ default upgrade; "" ""; }}
  map $http_authorization $allowed {{ default 0; include {entries}; }}
  upstream up {{ server 127.0.0.1:{self.upstream_port}; keepalive 1024; keepalive_requests 100000000; keepalive_timeout 300s; }}
  ssl_certificate {self.site.certificate}; ssl_certificate_key {self.site.key}; ssl_protocols TLSv1.2 TLSv1.3; ssl_session_cache shared:tls:10m;
  server {{ listen 127.0.0.1:{self.plain}{clear} backlog=16384{share}; listen 127.0.0.1:{self.tls} ssl http2 backlog=16384{share};
    {locations} }} }}
""")
        return ["nginx", "-c", str(file), "-p", str(self.folder)]
