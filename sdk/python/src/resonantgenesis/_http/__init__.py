"""What both shells share of httpx: requests, connections and what its errors mean."""
