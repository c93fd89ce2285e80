"""The evidence in tables for spreadsheets, and as LaTeX for a paper."""

import csv
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from helpers import synthetic
from helpers.command import Command
from helpers.synthetic_evidence import write_evidence

from camreport.errors import ResultsError
from camreport.insight.evidence import evidence_table
from camreport.report import export
from camreport.report.export.archive import remove_exports
from camreport.report.export.tex import escaped
from camreport.report.gallery import render_gallery
from camreport.results.reader import load_results


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty-two images with full evidence, drawn, in all tables."""
    folder = tmp_path_factory.mktemp("export") / "out"
    synthetic.write_results(folder, 32, grids=synthetic.SMALL, photo_side=32)
    write_evidence(folder, level="full", sample=31, regions=True)
    export.export_tables(folder)
    export.export_tex(folder)
    return folder


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def test_every_map_has_its_numbers_in_its_line(out: Path) -> None:
    with np.load(out / "results/evidence-000000.npz") as arrays:
        for row in rows_of(out / "maps.csv"):
            index = int(row["image"][-9:-4])
            for number in ("contrast", "effect", "order.tied", "regions.iou"):
                name = f"{number}/{row['method']}/{row['layer']}"
                value = np.nan  # of the order there are numbers at the last layer and fused
                if name in arrays:
                    value = arrays[name][index, int(row["class_index"])]
                text = row[number]
                assert float(text or "nan") == pytest.approx(value, abs=1e-5, nan_ok=True)
        assert "grid" not in row, "it belongs to collages"


def test_every_image_has_its_numbers_in_its_line(out: Path) -> None:
    rows = rows_of(out / "images.csv")
    assert len(rows) == 32
    assert sum(row["effect.grad_cam"] == "" for row in rows) >= 1, "one is not in the sample"
    assert {"contrast.layer_cam", "regions.hit.grad_cam", "extent.gini14.layer_cam"} <= {*rows[0]}


def test_the_tables_of_the_evidence_are_in_a_file_of_their_own(out: Path) -> None:
    table = evidence_table(load_results(out))
    assert table is not None
    rows = rows_of(out / "evidence.csv")
    assert len(rows) == len(table.tallies)
    assert {row["classes"] for row in rows} == {"predicted", "cat", "dog"}
    for row, own in zip(rows, table.tallies, strict=True):
        assert (row["number"], row["row"], row["layer"]) == own.key
        assert (int(row["n"]), int(row["undefined"])) == (own.n, sum(own.undefined.values()))
        assert float(row["median"] or "nan") == pytest.approx(own.median)
        assert row["told_apart_from_best"] == {None: "", True: "yes", False: "no"}[own.apart]


def cells_of(text: str) -> list[list[str]]:
    """Return the cells of the lines of the table's body, each line with its end checked."""
    begun = text.partition(r"\toprule")[2].partition(r"\bottomrule")[0]
    lines = [line for line in begun.strip().splitlines() if line != r"\midrule"]
    for line in lines:
        assert line.endswith(r" \\"), line
    return [re.split(r"(?<!\\)&", line.removesuffix(r" \\")) for line in lines]


def check_tex(text: str) -> None:
    """Refuse what plain LaTeX with booktabs would not typeset."""
    assert text.isascii()
    body = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    assert not re.search(r"(?<!\\)[%#~]", body)
    opened = re.sub(r"\\[{}]", "", body)
    depth = 0
    for sign in opened:
        depth += {"{": 1, "}": -1}.get(sign, 0)
        assert depth >= 0
    assert depth == 0
    pieces = re.split(r"(?<!\\)\$", body)
    assert len(pieces) % 2, "every formula ends"
    for place, piece in enumerate(pieces):
        if place % 2:
            assert "\n" not in piece
        else:
            assert not re.search(r"(?<!\\)[_^]", piece), piece
    known = (
        *("begin", "end", "centering", "small", "caption", "toprule", "midrule", "bottomrule"),
        *("scriptsize", "uparrow", "downarrow", "dagger", "times", "cdot", "textbackslash"),
        *("textasciitilde", "textasciicircum"),
    )
    assert {*re.findall(r"\\([A-Za-z]+)", body)} <= {*known}
    environments = re.findall(r"\\(begin|end)\{(\w+)\}", body)
    assert environments == [
        *[("begin", "table"), ("begin", "tabular"), ("end", "tabular"), ("end", "table")]
    ]


def test_the_latex_table_is_sound_and_says_n_seed_and_what_is_not_told_apart(out: Path) -> None:
    text = (out / "evidence.tex").read_text(encoding="utf-8")
    check_tex(text)
    cells = cells_of(text)
    assert {len(row) for row in cells} == {9}
    heads = [row[0].strip() for row in cells if row[0].strip()]
    assert heads[:4] == ["Better", "$n$", "Grad-CAM", "LayerCAM"]
    assert heads[-2:] == ["Chance", "Ceiling"]
    table = evidence_table(load_results(out))
    assert table is not None
    own = table.tally("effect", "grad_cam", "b")
    assert own is not None
    line = next(row for row in cells if row[0].strip() == "Grad-CAM")
    assert line[2].strip().startswith(f"${own.median:.2f}")
    caption = text.partition(r"\caption{")[2]
    for said in ("predicted class", "seed 0", "31 of 32 images", "not told apart", "not added up"):
        assert said in caption


def test_under_thirty_images_the_latex_table_has_no_order(tmp_path: Path) -> None:
    synthetic.write_results(tmp_path, 3, grids=synthetic.SMALL, photo_side=32)
    text = export.export_tex(write_evidence(tmp_path, level="basic")).read_text()
    check_tex(text)
    assert "fewer than 30 images nothing is put in order" in text
    assert "dagger" not in text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("50% of a_b & c#1 {x} $2", r"50\% of a\_b \& c\#1 \{x\} \$2"),
        (r"C:\cats~dogs^2", r"C:\textbackslash{}cats\textasciitilde{}dogs\textasciicircum{}2"),
        ("conv5 · 6 × 6", r"conv5 $\cdot$ 6 $\times$ 6"),
        ("naïve−猫\n", "naive$-$? "),
        ("a < b > c | d", "a $<$ b $>$ c $|$ d"),
    ],
)
def test_texts_are_escaped(text: str, shown: str) -> None:
    assert escaped(text) == shown
    check_tex("\\begin{table}\\begin{tabular}{c}" + escaped(text) + "\\end{tabular}\\end{table}")


def test_without_evidence_the_command_says_what_to_do(command: Command, tmp_path: Path) -> None:
    synthetic.write_results(tmp_path / "out", 2, grids=synthetic.SMALL, photo_side=32)
    finished = command("export", str(tmp_path / "out"), "--tex")
    assert finished.code == 2
    assert "--evidence basic" in finished.err
    with pytest.raises(ResultsError, match="expected evidence"):
        export.export_tex(tmp_path / "out")


def test_the_latex_table_is_packed_and_goes_with_its_results(tmp_path: Path) -> None:
    out = tmp_path / "out"
    synthetic.write_results(out, 2, grids=synthetic.SMALL, photo_side=32)
    render_gallery(write_evidence(out))
    export.export_tex(out)
    with zipfile.ZipFile(export.export_archive(out)) as archive:
        assert "out/evidence.tex" in archive.namelist()
    remove_exports(out)
    assert not (out / "evidence.tex").exists()
    (out / "evidence.tex").write_text("mine")
    remove_exports(out)
    assert (out / "evidence.tex").read_text() == "mine"
