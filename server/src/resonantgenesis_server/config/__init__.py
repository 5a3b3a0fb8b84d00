"""Settings: their declarations, and where each value comes from.

The names here are apart from the declarations, which take a while to import.
"""

from pathlib import Path

ENV_PREFIX = "RESONANTGENESIS_"
#: The variable that names the file with settings, and the file if it names none.
CONFIG_VARIABLE = f"{ENV_PREFIX}CONFIG"
DEFAULT_FILE = Path("resonantgenesis.toml")
