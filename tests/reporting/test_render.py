import base64
import dataclasses
import io
import re
from html import escape
from html.parser import HTMLParser
from statistics import NormalDist

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits, load_sample_image

from omnivore_jax.core.errors import UserError
from omnivore_jax.reporting import render, report
from omnivore_jax.reporting.runs import read_run
from tests.reporting import small_report

EMPTY = {"meta", "link", "img", "br", "input"}
SECTIONS = [
    "results",
    "retrieval",
    "samples",
    "curves",
    "confusion",
    "comparison",
    "parameters",
    "bad",
    "config",
]


class Page(HTMLParser):
    """Checks that tags nest, and collects what a test asks for."""

    def __init__(self, html: str):
        super().__init__()
        self.open, self.tags, self.text, self.ids, self.links = [], [], [], [], []
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.note(tag, attributes)
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.note(tag, attributes)

    def note(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append((tag, attributes))
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.links += [
            attributes[key] for key in ("href", "src", "srcset", "action") if key in attributes
        ]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    small_report.write_run(folder / "small", small_report.make())
    (folder / "small" / "bad_records.jsonl").write_text(
        '{"dataset": "pictures", "id": "a.jpg", "reason": "<script>alert(1)</script>", "step": 3}\n'
    )
    small_report.write_run(
        folder / "small-pictures", small_report.make("small-pictures", ("pictures",))
    )
    small_report.write_run(
        folder / "small-reliefs", small_report.make("small-reliefs", ("reliefs",))
    )
    small_report.write_run(
        folder / "small-mixed", small_report.make("small-mixed", batching="mixed")
    )
    return folder


@pytest.fixture(scope="module")
def html(runs):
    return render.write_page(runs / "small").read_text()


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


def test_the_page_needs_nothing_from_elsewhere(html, page):
    assert not re.search(r"https?:|//\w+\.|@import|url\((?!#)", html)
    assert all(link.startswith(("data:", "#")) for link in page.links)
    assert not any(tag in ("script", "iframe", "object") for tag, _ in page.tags)


def test_every_section_is_there_and_can_be_reached(page):
    sections = [attributes["id"] for tag, attributes in page.tags if tag == "section"]
    assert sections == SECTIONS and len(page.ids) == len(set(page.ids))
    assert {
        link[1:] for link in page.links if link.startswith("#") and link[1:] in SECTIONS
    } == set(SECTIONS)
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)


def test_every_picture_says_what_it_shows(page):
    pictures = [attributes for tag, attributes in page.tags if tag == "img"]
    assert (
        len(pictures) == 4 + 2 * 4 + 2 + 2 * 2
    )  # samples (reliefs twice: colours, depth), queries, neighbours
    assert all(picture["alt"] for picture in pictures)
    assert {picture["alt"] for picture in pictures} >= {
        "Neighbour 1 among depth maps: <b>one</b>, right",
        "Neighbour 2 among depth maps: 4, wrong",
    }


def test_names_are_text_wherever_they_stand(html, page):
    assert "<b>one" not in html and "<script" not in html and "<x>" not in html
    assert "<b>one</b>" in page.words and "<script>alert(1)</script>" in page.words
    assert "python -m omnivore_jax.main <x>" in page.words


def test_the_figures_are_those_that_scikit_learn_counts(page):
    counts = small_report.confusion()
    top1 = np.trace(counts) / counts.sum()
    assert (
        f"pictures {100 * top1:.1f} % ±" in page.words
        and f"{counts.sum()} Curves" not in page.words
    )
    drawn = [int(text) for text in page.text if text.isdigit()]
    assert all(
        drawn.count(count) >= 2 for count in counts.diagonal()
    )  # in the matrix of both datasets
    wrong = counts - np.diag(counts.diagonal())
    true, predicted = np.unravel_index(wrong.argmax(), wrong.shape)
    names = small_report.CLASSES
    first = f"Most often confused: {names[true]} taken for {names[predicted]} ({wrong.max()})"
    assert page.words.count(first) == 2


def test_siblings_are_compared_as_specialists_and_as_another_way_of_batching(page):
    words = page.words
    assert "One model for all, or one for each" in words and "Separate or mixed batches" in words
    assert "difference +0.0 +0.0 −950" in words  # 1200 - (1050 + 1100)
    assert "mixed small-mixed" in words


def test_what_is_missing_is_said(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "learning_rate": 0.1}\n{"torn')
    words = Page(render.write_page(tmp_path).read_text()).words
    for said in (
        "has not been evaluated yet",
        "Not evaluated yet",
        "No samples are stored",
        "No run of a single dataset",
    ):
        assert said in words
    for said in (
        "config.json is not in this folder",
        "Command not recorded",
        "Not counted",
        "No damaged record",
    ):
        assert said in words
    bare = report.Report(report.RunInfo("bare", "configs/bare.py", 0, 10, "separate", "cpu x 1"))
    report.save(bare, tmp_path)
    assert (
        "not known: the run was done in several pieces"
        in Page(render.render(read_run(tmp_path))).words
    )


def test_many_classes_are_listed_by_what_is_confused_most(runs):
    run = read_run(runs / "small")
    result = run.report.datasets[0]
    counts = np.zeros((60, 60), int)
    counts[np.arange(60), np.arange(60)] = 9
    counts[41, 7] = 3
    names = tuple(f"class {i}" for i in range(60))
    many = dataclasses.replace(result, classes=names, confusion=counts)
    page = Page(
        render.render(
            dataclasses.replace(run, report=dataclasses.replace(run.report, datasets=(many,)))
        )
    )
    assert "class 41 class 7 3 25.0 %" in page.words and not any(
        "matrix" in a.get("class", "") for _, a in page.tags
    )


def test_the_uncertainty_is_half_of_wilsons_interval():
    result = dataclasses.replace(small_report.make().datasets[0], top1=0.92, n=1000)
    z = NormalDist().inv_cdf(0.975)
    shares = np.linspace(0, 1, 1_000_001)
    inside = shares[
        np.abs(0.92 - shares) <= z * np.sqrt(shares * (1 - shares) / 1000)
    ]  # its definition
    assert render.uncertainty(result) == pytest.approx((inside[-1] - inside[0]) / 2, abs=1e-5)


def test_the_table_for_a_terminal_says_figures_and_chance_in_straight_columns():
    lines = render.summary_table(small_report.make()).splitlines()
    top1 = f"{100 * small_report.classification().top1:.1f} %"
    assert lines[0].split() == ["validation", "top-1", "chance", "top-5", "samples"]
    assert [lines[i].split("  ")[0] for i in (2, 3, 4)] == [
        "pictures",
        "reliefs",
        "reliefs, depth only",
    ]
    assert all(top1 in line and "899" in line for line in lines[2:5])
    assert lines[-1].split() == "pictures -> reliefs, depth maps 93.8 % 10.0 % 12.5 % 899".split()
    assert len({len(line) for line in lines[:5]}) == 1


@pytest.mark.parametrize(("name", "kind"), [("flower.jpg", "jpeg"), ("digit", "png")])
def test_a_picture_is_its_own_address(name, kind):
    picture = load_digits().images[0][..., None].repeat(3, -1).astype(np.uint8) * 15
    if name == "flower.jpg":
        picture = load_sample_image(name)[::4, ::4]
    head, data = render.address(picture).split(",")
    assert head == f"data:image/{kind};base64"
    back = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
    assert np.abs(back.astype(float) - picture).mean() < (4 if kind == "jpeg" else 1e-9)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.6, "1 min 0 s"), (371.4, "6 min 11 s"), (3725.0, "1 h 2 min")],
)
def test_a_time_for_people(seconds, text):
    assert render.duration(seconds) == text


def test_a_page_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("")
    (tmp_path / "report.html").mkdir()
    with pytest.raises(UserError, match=r"report\.html cannot be written"):
        render.write_page(tmp_path)


def test_a_page_of_samples_alone_shows_each_with_its_class_and_nothing_from_elsewhere(tmp_path):
    samples = small_report.make().samples
    render.write_samples(tmp_path / "x.html", "<mine>", "As stored.", samples)
    page = (tmp_path / "x.html").read_text()
    assert "&lt;mine&gt;" in page and "As stored." in page
    shown = sum(len(sheet.names) * (1 + (sheet.depth is not None)) for sheet in samples)
    assert page.count("<img") == page.count("data:image/") == shown > 8
    names = [escape(name) for sheet in samples for name in sheet.names]
    assert all(f"<figcaption>{name}" in page for name in names)
    assert "http" not in page
