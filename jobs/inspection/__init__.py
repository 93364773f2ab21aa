"""What people ask of images that are there: scores of two sets, audit, export, likelihood."""
