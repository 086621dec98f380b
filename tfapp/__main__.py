"""The process `tfapp`, also as `python -m tfapp` where the script is not on the PATH."""

import sys


def run() -> int:
    """The command with the process's words; a Ctrl-C while its modules are loaded is as quiet as a later one."""
    try:
        from tfapp.cli.main import main

        return main()
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(run())
