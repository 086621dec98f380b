from __future__ import annotations

import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tfapp.launch import preemption

WAITING = """
import signal, sys, time
from tfapp.launch import preemption
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
assert preemption.watch() is not None and preemption.watch() is preemption.watch()
time.sleep(30)
"""


@pytest.fixture
def metadata():
    """A metadata server that says FALSE, then TRUE to who waits for a change."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers["Metadata-Flavor"]))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"TRUE" if "wait_for_change=true" in self.path else b"FALSE")

        def log_message(self, *words: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


@pytest.mark.moderate
def test_a_notice_of_preemption_is_a_sigterm(metadata, monkeypatch) -> None:
    host, asked = metadata
    monkeypatch.setenv(preemption.HOST, host)
    done = subprocess.run([sys.executable, "-c", WAITING], timeout=20, check=False)
    assert done.returncode == 143
    assert [path.partition("?")[0] for path, _ in asked] == ["/computeMetadata/v1/instance/preempted"] * 2
    assert {flavor for _, flavor in asked} == {"Google"}


def test_elsewhere_nobody_is_asked(monkeypatch, tmp_path) -> None:
    monkeypatch.delenv(preemption.HOST, raising=False)
    monkeypatch.setattr(preemption, "PRODUCT", tmp_path / "absent")
    assert not preemption.on_google_cloud()
    (tmp_path / "absent").write_text("Google Compute Engine\n")
    assert preemption.on_google_cloud()
