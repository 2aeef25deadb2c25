#!/usr/bin/env python3
"""A management interface that answers Flotilla's "check status": GET /api/v1/management/stats.

Usage: FLOTILLA_PUBLIC_KEY=… FLOTILLA_SECRET_KEY=… status-interface.py PORT
Prints the address that it listens on. Only the standard library is needed; put TLS in front of it.
"""
import hmac
import json
import os
import shutil
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def memory():
    with open("/proc/meminfo") as lines:
        known = {name: int(rest.split()[0]) * 1024 for name, rest in (line.split(":") for line in lines)}
    return known


def stats():
    disk, mem = shutil.disk_usage("/"), memory()
    one, five, fifteen = os.getloadavg()
    with open("/proc/uptime") as uptime:
        up = int(float(uptime.read().split()[0]))
    percent = -(-disk.used * 100 // (disk.used + disk.free))
    return {
        "kernel": os.uname().release,
        "disk_usage_percent": percent,
        "disk_total": disk.total,
        "disk_used": disk.used,
        "disk_available": disk.free,
        "disks": [{"mount": "/", "percent": percent, "total": disk.total, "available": disk.free}],
        "memory_total": mem["MemTotal"],
        "memory_used": mem["MemTotal"] - mem["MemAvailable"],
        "memory_available": mem["MemAvailable"],
        "load_1m": one,
        "load_5m": five,
        "load_15m": fifteen,
        "cpus": os.cpu_count(),
        "uptime_s": up,
        "services": [{"unit": "app", "state": "active"}],
        "recent_errors": [],
        "version": "1.0",
        "checked_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


class Handler(BaseHTTPRequestHandler):
    def allowed(self):
        for name in ("public_key", "secret_key"):
            wanted = os.environ.get("FLOTILLA_" + name.upper(), "")
            if not wanted or not hmac.compare_digest(self.headers.get(name, ""), wanted):
                return False
        return True

    def do_GET(self):
        status, answer = 200, None
        if not self.allowed():
            status, answer = 401, {"error": "the keys are not right"}
        elif self.path.split("?")[0].rstrip("/") != "/api/v1/management/stats":
            status, answer = 404, {"error": "there is no such endpoint"}
        body = json.dumps(answer or stats()).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
    print(f"http://127.0.0.1:{server.server_port}/api/v1/management", flush=True)
    server.serve_forever()
