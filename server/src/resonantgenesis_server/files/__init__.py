"""What files hold, on disk, and how it gets there and away again."""
