"""Nothing here needs a database or a gateway."""
