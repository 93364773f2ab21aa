"""Where published weights are: addresses that `sdesweep models fetch` reads, and pages for people.

A digest is stated only where the files, or their publishers, state it; others are printed when they are
fetched. Knows no network and no file.
"""

from __future__ import annotations

from dataclasses import dataclass

_CSINVA = "gan-vae-pretrained-pytorch"
_CSINVA_RAW = f"https://raw.githubusercontent.com/csinva/{_CSINVA}/9b6401e122fa186a3a57f97c5df57e3603121fba"
_CSINVA_PAGE = f"https://github.com/csinva/{_CSINVA}"
_RESNETS = "https://raw.githubusercontent.com/akamaster/pytorch_resnet_cifar10"
_RELEASES = "https://github.com/{}/releases/download/{}"


@dataclass(frozen=True)
class Download:
    """A file at one or several addresses."""

    urls: tuple[str, ...]
    sha256: str | None = None

    @property
    def name(self) -> str:
        """The file's own name."""
        return self.urls[0].rpartition("/")[2]


@dataclass(frozen=True)
class Origin:
    """Where the weights of a name come from. Without files they can only be taken by hand from the page."""

    page: str
    files: tuple[Download, ...] = ()


def _score_sde(folder: str) -> Origin:
    return Origin(f"https://drive.google.com/drive/folders/{folder}")


ORIGINS = {
    "inception": Origin(
        "https://github.com/mseitzer/pytorch-fid",
        (
            Download(
                (
                    _RELEASES.format("mseitzer/pytorch-fid", "fid_weights")
                    + "/pt_inception-2015-12-05-6726825d.pth",
                    _RELEASES.format("toshas/torch-fidelity", "v0.2.0")
                    + "/weights-inception-2015-12-05-6726825d.pth",
                ),
                "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
            ),
        ),
    ),
    "mnist-lenet": Origin(
        _CSINVA_PAGE,
        (
            Download(
                (f"{_CSINVA_RAW}/mnist_classifier/weights/lenet_epoch=12_test_acc=0.991.pth",),
                "7b3591ba5a63752a7e728d7f7e511266556a2ec66844810da9f475e07019b85e",
            ),
        ),
    ),
    "cifar10-resnet20": Origin(
        "https://github.com/akamaster/pytorch_resnet_cifar10",
        (
            Download(
                (
                    f"{_RESNETS}/d5489e8995e81e91ce6b1d69dcc98ad579b0b153"
                    "/pretrained_models/resnet20-12fca82f.th",
                ),
                "12fca82f0bebc4135bf1f32f6e3710e61d5108578464b84fd6d7f5c1b04036c8",
            ),
        ),
    ),
    "mnist_mlp_gan": Origin(
        _CSINVA_PAGE,
        (
            Download(
                (f"{_CSINVA_RAW}/mnist_gan_mlp/weights/G--300.ckpt",),
                "3163c6503c144d35fe44bb0247bbc61cd8e49c50ea3d84c1b7c080dc18fbf84c",
            ),
            Download(
                (f"{_CSINVA_RAW}/mnist_gan_mlp/weights/D--300.ckpt",),
                "5ccc1cee6b036477a4f4c5f789f370b4ed9405dba5a16298291d355f6d50836a",
            ),
        ),
    ),
    "mnist_vae": Origin(
        _CSINVA_PAGE,
        (
            Download(
                (f"{_CSINVA_RAW}/mnist_vae/weights/vae_epoch_25.pth",),
                "233916a8095759cf732f4dc19c381bc8de03d97040e68f4252a257a5502a9c70",
            ),
        ),
    ),
    "mnist_dcgan": Origin(
        _CSINVA_PAGE,
        tuple(
            Download((f"{_CSINVA_RAW}/mnist_dcgan/weights/{name}_epoch_99.pth",)) for name in ("netG", "netD")
        ),
    ),
    "cifar10_dcgan": Origin(f"{_CSINVA_PAGE}/tree/master/cifar10_dcgan/weights"),
    "cifar10_sngan": Origin("https://github.com/kwotsin/mimicry"),
    "ncsn/cifar10": Origin("https://github.com/ermongroup/ncsn"),
    "ncsn/celeba": Origin("https://github.com/ermongroup/ncsn"),
    "ncsn/mnist": Origin("https://github.com/ermongroup/ncsn"),
    "ncsnv2/cifar10": Origin("https://github.com/ermongroup/ncsnv2"),
    "ncsnv2/celeba": Origin("https://github.com/ermongroup/ncsnv2"),
    "ve/cifar10_ncsnpp": _score_sde("1sP4GwvrYiI-sDPTp7sKYzsxJLGVamVMZ"),
    "ve/cifar10_ncsnpp_continuous": _score_sde("1b0gy_LLgO_DaQBgoWXwlVnL_rcAUgREh"),
    "ve/cifar10_ncsnpp_deep_continuous": _score_sde("11s6A_xM7qiztdj8AHQWqaIAUSC3I7uX2"),
    "vp/cifar10_ddpm": _score_sde("1zDKcy3xbsN3F4AfyB_DfY_1oho89iKcf"),
    "vp/cifar10_ddpm_continuous": _score_sde("1RHNxW1qY-mTr0JMAE5t4V181Hi_aVWXK"),
    "vp/cifar10_ddpmpp": _score_sde("1zOVj03ZBcq339p5QEKJPh2bBrxR_HOCM"),
    "vp/cifar10_ddpmpp_continuous": _score_sde("1xYjVMx10N9ivQQBIsEoXEeu9nvSGTBrC"),
    "vp/cifar10_ddpmpp_deep_continuous": _score_sde("1ZMLBiu9j7-rpdTQu8M2LlHAEQq4xRYrj"),
    "subvp/cifar10_ddpm_continuous": _score_sde("1DeebpmBkCxlZx89t3z45Te37T7BPOzd2"),
    "subvp/cifar10_ddpmpp_continuous": _score_sde("1bLgmnEAZnysRZfWt8qN3omGfijJ_B884"),
    "subvp/cifar10_ddpmpp_deep_continuous": _score_sde("16QGkviGcizSbIPRk37-YksUhlNIna4Ys"),
}
