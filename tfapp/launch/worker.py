"""A worker's process: `python -m tfapp.launch.worker WORDS`, the command line as a launcher starts it.

The same verbs and exit codes as `tfapp`; beside them it ends with its parent, keeps to its share of the
machine, and tells how it ended.
"""

from __future__ import annotations

import os
import sys
import traceback

from tfapp.cli.main import main
from tfapp.errors import Expected
from tfapp.launch import lifeline, share, signs

PARENT = "TFAPP_PARENT"


def run(words: list[str]) -> int:
    """Run the command line; tell the launcher its exit code, or the error that was not expected."""
    try:
        if share.VARIABLE in os.environ:
            share.take(os.environ[share.VARIABLE])
        code = main(words)
    except Expected as error:
        print(f"error: {error}", file=sys.stderr)
        code = error.exit_code
    except Exception as error:
        signs.tell(crashed=f"{type(error).__name__}: {error}"[:500])
        traceback.print_exc()
        return 1
    signs.tell(ended=code)
    return code


if __name__ == "__main__":
    lifeline.die_with(int(os.environ.pop(PARENT)))
    sys.exit(run(sys.argv[1:]))
