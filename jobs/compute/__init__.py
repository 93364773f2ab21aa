"""Where work is computed: a worker and what it keeps, shards through samplers, images through extractors."""
