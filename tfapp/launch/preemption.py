"""Google Cloud tells a machine in advance that it will be taken away; here that becomes a SIGTERM to ourselves."""

from __future__ import annotations

import os
import signal
import threading
import time
import urllib.error
import urllib.request
from functools import cache
from pathlib import Path

PRODUCT = Path("/sys/class/dmi/id/product_name")
# The variable by which Google's own client libraries are pointed to another metadata server.
HOST = "GCE_METADATA_HOST"
AGAIN_AFTER = 30.0


def on_google_cloud() -> bool:
    """Whether there is a metadata server to ask: on a VM of Compute Engine, or where GCE_METADATA_HOST names one."""
    if os.environ.get(HOST):
        return True
    try:
        return "Google Compute Engine" in PRODUCT.read_text(encoding="utf-8")
    except OSError:
        return False


@cache
def watch() -> threading.Thread | None:
    """Wait for the notice in a thread of its own, once a process; None where there is nobody to ask.

    https://cloud.google.com/compute/docs/instances/create-use-preemptible#detecting_if_a_vm_was_preempted
    """
    if not on_google_cloud():
        return None
    thread = threading.Thread(target=_wait, daemon=True, name="preemption")
    thread.start()
    return thread


def _wait() -> None:
    host = os.environ.get(HOST) or "metadata.google.internal"
    # The server answers when the value changes, so nothing is asked again and again.
    url = f"http://{host}/computeMetadata/v1/instance/preempted?wait_for_change=true&timeout_sec=300"
    first = url.partition("?")[0]
    while True:
        for address in (first, url):
            if _preempted(address):
                os.kill(os.getpid(), signal.SIGTERM)
                return
        time.sleep(1)


def _preempted(url: str) -> bool:
    request = urllib.request.Request(url, headers={"Metadata-Flavor": "Google"})
    try:
        # No proxy knows the metadata server.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=330) as answer:
            return answer.read().strip() == b"TRUE"
    except (OSError, urllib.error.URLError):
        time.sleep(AGAIN_AFTER)
        return False
