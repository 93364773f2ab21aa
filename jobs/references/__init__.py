"""Real data and other sets of images as features: built, imported, checked, sent through the store."""
