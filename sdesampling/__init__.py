"""SDEs, samplers, score networks and GANs in pure PyTorch: a library that can be imported on its own.

A model, its randomness and a sampler make images. Here the model is of data whose score is known:

    >>> import torch
    >>> from sdesampling.analytic import GaussianNetwork
    >>> from sdesampling.noise import NoiseStream
    >>> from sdesampling.samplers import build_sampler, run
    >>> from sdesampling.sde import VE
    >>> model = GaussianNetwork(VE(), torch.full((1, 8, 8), 0.5), torch.full((1, 8, 8), 0.1)).model()
    >>> sampler = build_sampler("predictor_corrector", model, steps=50, snr=0.16)
    >>> state = run(sampler, NoiseStream(seed=0, replicate=0, indices=range(16)))
    >>> sampler.finish(state).shape, state.evaluations
    (torch.Size([16, 1, 8, 8]), 100)

`models.load_model` reads one from a file, `checkpoints.read_checkpoint` reads what others trained, and
`score.ScoreModel(network, sde, shape)` makes one of any network. Where to look further:

    sde, score                  noise levels and steps of time; a network together with its SDE
    networks, latent            score networks, generators, discriminators; a GAN or a decoder as a model
    models, configs             a model as a file, and as data
    checkpoints, torch_files, identification, upstream_configs, diffusers_pipelines
                                weights and configurations of others
    noise                       random numbers, each a function of seed, sample, purpose and step
    samplers                    all of one shape: init, step, finish; by name in SAMPLERS
    predictors, correctors, dormand_prince, exponential_integrator
                                what samplers are made of
    likelihood, calibration     bits per dimension; the logit of a discriminator
    training                    score matching, GANs
    analytic                    models of data whose score is known in closed form
    memory, choices             bytes of an evaluation; names checked against those that exist

Must not import Ray, pyarrow, click, `jobs`, `cluster` or `fid`.
"""
