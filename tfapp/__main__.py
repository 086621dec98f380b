"""`python -m tfapp`, for where the `tfapp` script is not on the PATH."""

import sys

from tfapp.cli.main import main

sys.exit(main())
