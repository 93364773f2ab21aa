"""From a spec to configurations and shards: names become digests, `auto` becomes a value, costs are told."""
