"""The HTTP face: application, wings, and the server below."""

from .dependencies import check_dependencies

check_dependencies()
