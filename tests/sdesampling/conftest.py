"""One thread for all tests: small tensors gain nothing from more, and lose a lot where cores are shared."""

import torch

torch.set_num_threads(1)
