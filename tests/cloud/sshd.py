"""A real sshd on loopback, with keys of its own, for the user who runs the tests."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

SERVER = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def serving(folder: Path, environment: Mapping[str, str]) -> Iterator[tuple[str, Path]]:
    """`user@127.0.0.1:port` of a server whose sessions get these variables, and ssh's configuration file for it.

    The test is skipped where OpenSSH's server or rsync is not installed.
    """
    if not SERVER or not shutil.which("ssh-keygen") or not shutil.which("rsync"):
        pytest.skip("OpenSSH's server and rsync are needed: apt install openssh-server rsync")
    folder.mkdir()
    for key in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key], check=True)
    port = free_port()
    variables = " ".join(f'{name}="{value}"' for name, value in environment.items())
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/user.pub\n"
        f"PidFile {folder}/pid\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nSetEnv {variables}\n"
        "PermitRootLogin prohibit-password\n"
    )
    (folder / "ssh_config").write_text(
        f"Host 127.0.0.1\n  IdentityFile {folder}/user\n  IdentitiesOnly yes\n  StrictHostKeyChecking no\n"
        f"  UserKnownHostsFile {folder}/known\n  LogLevel ERROR\n"
    )
    Path("/run/sshd").mkdir(exist_ok=True)
    with open(folder / "log", "wb") as log:
        server = subprocess.Popen([SERVER, "-D", "-e", "-f", folder / "sshd_config"], stderr=log)
    try:
        until = time.monotonic() + 10
        while b"listening" not in (folder / "log").read_bytes():
            assert time.monotonic() < until and server.poll() is None, (folder / "log").read_text()
            time.sleep(0.05)
        yield f"{getpass.getuser()}@127.0.0.1:{port}", folder / "ssh_config"
    finally:
        server.terminate()
        server.wait()
