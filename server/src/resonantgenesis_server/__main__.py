"""`python -m resonantgenesis_server` is the command `resonantgenesis`."""

import sys

from .cli import main

sys.exit(main())
