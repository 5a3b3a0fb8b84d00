"""Values of the domain. Imports nothing else of ours."""
