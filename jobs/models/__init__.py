"""What can be named and loaded: catalogue, added and fetched weights, plug-ins, models built from them."""
