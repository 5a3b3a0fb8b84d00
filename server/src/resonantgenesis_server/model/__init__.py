"""Values of the domain. They import nothing else of ours."""
