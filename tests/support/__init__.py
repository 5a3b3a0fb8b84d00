"""What the end-to-end tests share: servers as processes, clients, proxies, traces."""
