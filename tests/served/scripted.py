"""A double of a model server, run as a command: `python scripted.py BEHAVIOUR PORT`. It is no test.

Behaviours are joined by "+"; each of them is a way in which a server can disappoint.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

BEHAVIOURS = set(sys.argv[1].split("+"))


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        pages = {"/health": {"status": "healthy"}, "/v1/models": {"data": [{"id": "scripted", "owned_by": "scripted"}]}}
        self.reply(pages.get(self.path, {"error": "no such page"}), 200 if self.path in pages else 404)

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if "silent" in BEHAVIOURS:
            time.sleep(1000)
        if "dies" in BEHAVIOURS:
            print("out of memory", flush=True)
            os._exit(7)
        if "refuses" in BEHAVIOURS:
            self.reply({"error": {"message": f"bad key {self.headers.get('Authorization')}"}}, 401)
            return
        if "loading" in BEHAVIOURS:
            BEHAVIOURS.discard("loading")
            self.reply({"error": {"message": "loading model"}}, 503)
            return
        words = [] if "empty" in BEHAVIOURS else ["ready", "!"]
        events: list[Any] = [{"choices": [{"delta": {"content": word}}]} for word in words]
        usage = {"prompt_tokens": 1, "completion_tokens": len(words), "total_tokens": 1 + len(words)}
        events += [{"choices": [{"delta": {}, "finish_reason": "stop"}]}, {"choices": [], "usage": usage}]
        text = "".join(f"data: {json.dumps({'model': asked['model'], **event})}\n\n" for event in events)
        self.reply((text + "data: [DONE]\n\n").encode(), 200)

    def reply(self, value: Any, status: int) -> None:
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        kind = "text/event-stream" if isinstance(value, bytes) else "application/json"
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def main() -> None:
    if "stubborn" in BEHAVIOURS:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "family" in BEHAVIOURS:
        # A worker that leaves its parent, its session, and the signals that end things in order.
        code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(1000)"
        double_fork = f"import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', {code!r}], "
        double_fork += "start_new_session=True, stdout=subprocess.DEVNULL).pid)"
        done = subprocess.run([sys.executable, "-c", double_fork], stdout=subprocess.PIPE, check=True)
        Path(os.environ["PIDS"]).write_text(f"{os.getpid()} {done.stdout.decode()}", encoding="utf-8")
    if "noisy" in BEHAVIOURS:
        for number in range(60_000):
            print(f"line {number}: " + "x" * 80)
        sys.stdout.flush()
    if "rude" in BEHAVIOURS:
        print(
            f"\x1b[31mred\x1b[0m \x1b]0;title\x07 api_key={os.environ['SERVER_SECRET']} {os.environ['SERVER_SECRET']}"
        )
        print("10%\r50%\r100%", flush=True)
    if "exits" in BEHAVIOURS:
        sys.exit(3)
    if "deaf" in BEHAVIOURS:
        print("still loading", flush=True)
        time.sleep(1000)
    port = int(sys.argv[2])
    if "loses" in BEHAVIOURS:
        # Another program takes the port, the first time: it is a child of nobody here.
        mark = Path(os.environ["MARK"])
        if not mark.exists():
            mark.write_text(str(port), encoding="utf-8")
            while mark.exists():
                time.sleep(0.02)
    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    main()
