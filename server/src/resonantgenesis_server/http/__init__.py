"""HTTP: the application, its packages, and the server below them."""

from .dependencies import check_dependencies

check_dependencies()
