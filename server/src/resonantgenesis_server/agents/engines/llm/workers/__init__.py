"""Model calls in processes of their own, for many processors."""
