"""`serve` without the command line's own program: the same settings, the same exit codes."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from resonantgenesis_server.config import StartupError
from resonantgenesis_server.config_load import load_settings
from resonantgenesis_server.main import serve


def arguments() -> dict[str, Any]:
    """Those of `resonantgenesis serve`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=["serve"])
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    parser.add_argument("--data")
    parser.add_argument("--agent", action="append", default=[])
    given = vars(parser.parse_args())
    agents = dict(agent.split("=", 1) for agent in given.pop("agent"))
    del given["command"]
    return {**given, "agents": agents or None}


def main() -> int:
    try:
        return serve(load_settings(arguments()).settings)
    except StartupError as error:
        print(f"resonantgenesis: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
