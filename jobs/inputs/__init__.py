"""What users bring as files: data sets, images, archives, masks, and the reading of them."""
