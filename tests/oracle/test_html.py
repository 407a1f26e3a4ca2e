"""The HTML page: what a browser would show of a report, and of where in an array the error sits."""

import re
import warnings
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest

import refgrad
from refgrad.oracle import Check, check
from refgrad.oracle.heat_map import DRAWN, LONGEST, NOT_FINITE
from refgrad.oracle.html import to_html
from refgrad.oracle.own import target as own
from refgrad.oracle.verdicts import compare, compare_norm

VOID = {"meta", "br"}
OUTSIDE = {"src", "href", "srcset", "action", "data", "poster", "xlink:href", "background"}


class Page(HTMLParser):
    """Every element with its attributes and its text; refuses a tag that is not closed where it should be."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open = [], []
        self.source = text
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        assert len(dict(attributes)) == len(attributes), f"an attribute twice: {attributes}"
        element = SimpleNamespace(tag=tag, attributes=dict(attributes), text="")
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag):
        assert self.open, f"{tag} closed and never opened"
        assert self.open.pop().tag == tag

    def handle_data(self, data):
        for element in self.open:
            element.text += data

    def all(self, tag, name=None):
        return [
            each
            for each in self.elements
            if each.tag == tag and (name is None or name in each.attributes.get("class", "").split())
        ]

    def one(self, tag, name=None):
        (element,) = self.all(tag, name)
        return element


def read(report):
    page = Page(to_html(report))
    assert not page.all("script")
    assert not page.all("link")
    for element in page.elements:
        assert not OUTSIDE & set(element.attributes)
        assert not [name for name in element.attributes if name.startswith("on")]
    style = page.one("style").text
    assert "url(" not in style
    assert "@import" not in style
    page.source.encode("utf-8")
    return page


def drawn(page):
    """Return the cells of the only picture: index -> (class, corner), and the index of the outlined one."""
    cells = {}
    for rect, title in zip(page.all("rect", "cell"), page.all("title")[1:], strict=True):
        index = tuple(int(i) for i in re.findall(r"\d+", title.text.partition("]")[0]))
        corner = tuple(int(rect.attributes[name]) for name in "xy")
        cells[index] = (rect.attributes["class"].removeprefix("cell "), corner)
    outline = page.one("rect", "worst").attributes
    middle = [int(outline[name]) + int(outline[side]) / 2 for name, side in zip("xy", ("width", "height"), strict=True)]
    side = int(page.all("rect", "cell")[0].attributes["width"])
    (worst,) = [
        i for i, (_, (x, y)) in cells.items() if abs(x + side / 2 - middle[0]) + abs(y + side / 2 - middle[1]) < 1
    ]
    corners = [corner for _, corner in cells.values()]
    assert len(set(corners)) == len(corners)
    width, height = (int(page.one("svg").attributes[name]) for name in ("width", "height"))
    assert all(x > 0 and x + side < width and y > 0 and y + side < height for x, y in corners)
    return cells, worst


def facts(page):
    return dict(zip((e.text for e in page.all("dt")), (e.text for e in page.all("dd")), strict=True))


def legend(page):
    return [element.text for element in page.all("li")]


@cache
def doubled():
    """Return the report on a doubled db."""
    return check(
        lambda x, weight, bias, grad_output, **_: {"grad_bias": 2 * grad_output.sum((0, 2, 3))},
        cases=0,
        name="<my> layer",
    )


def with_verdict(verdict, row="grad_weight"):
    """Return the report on a doubled db, with another verdict in its place."""
    report = doubled()
    return replace(report, failures=(replace(report.failures[0], row=row, verdict=verdict, at_first=verdict),))


def array_with(*wrong, shape):
    """Return the verdict on an array of ones with some errors, (index, error), of which 1 is allowed."""
    value = np.ones(shape)
    for index, error in wrong:
        value[index] += error
    return compare("grad_weight", value, np.ones(shape), np.ones(shape))


def test_a_failure_is_told_as_in_the_terminal():
    page, report = read(doubled()), doubled()
    failure = report.failures[0]
    assert page.one("h1").text == "refgrad check <my> layer"
    assert page.one("p", "verdict").text == report.summary()
    assert page.one("p", "verdict").text.startswith("FAILED: grad_bias; on ")
    section = page.one("section", "failure").text
    assert "Failure 1: conv2d, grad_bias (db), value" in section
    told = facts(page)
    assert told["what"] == failure.verdict.message
    assert told["likely cause"] == "no mistake in the library gives these values"
    assert told["measured"] == "error 1.000e+00, allowed 0.000e+00: nothing is allowed"
    assert told["smallest input"] == failure.case.describe()
    assert told["found in"] == f"{failure.found} ({failure.case.effect})"
    assert told["fails in"].startswith(f"{failure.failed} of {failure.judged} cases: plain; ")
    assert told["fails in"].endswith(f" and {failure.failed - len(failure.names)} more")
    assert failure.snippet in [pre.text for pre in page.all("pre")]
    assert page.one("footer").text.strip() == f"refgrad {refgrad.__version__}, seed 0"


def test_the_table_has_a_line_for_every_row_and_the_operations_where_there_are_several():
    rows = read(doubled()).all("tr")[1:]
    assert len(rows) == len(doubled().rows)
    (failed,) = [row for row in rows if "grad_bias" in row.text]
    assert failed.attributes["class"] == "failed"
    report = check(SimpleNamespace(rank=own.rank, unfold=own.unfold), cases=0)
    rows = read(report).all("tr")[1:]
    assert [row.text for row in rows if "class" not in row.attributes] == ["rank", "unfold"]
    assert len(rows) == len(report.rows) + 2


def test_a_right_target_has_no_failure():
    page = read(check(own, operations=["unfold"], cases=0))
    assert page.one("p", "verdict").attributes["class"] == "verdict passed"
    assert page.one("p", "verdict").text.startswith("PASSED: everything that it returned is right, on ")
    assert not page.all("section", "failure")
    assert not page.all("svg")
    assert "Not claimed" not in page.source


def test_an_interrupted_run_says_so_in_words():
    run = Check(own, operations=["unfold"], cases=0)
    next(iter(run))
    page = read(run.report())
    assert page.one("p", "verdict").text.startswith("INTERRUPTED after 0 of ")
    assert "interrupted" in page.all("title")[0].text


def test_what_was_not_claimed_and_the_declaration_are_listed():
    def unfold(tensor, *, mode):
        if mode:
            raise NotImplementedError("only <mode> 0")
        return own.unfold(tensor, mode=mode)

    target = SimpleNamespace(unfold=unfold, declaration={"limits": "small & slow", "accumulator": "bfloat16"})
    page = read(check(target, cases=0))
    (line,) = page.all("li")
    assert re.fullmatch(r"in \d+ cases: only <mode> 0", line.text)
    told = facts(page)
    assert told["dtypes"] == "float64, float32"
    assert (told["accumulator"], told["limits"]) == ("bfloat16", "small & slow")
    assert (told["repeatable"], told["flushes subnormals"]) == ("yes", "no")


def test_what_the_target_warned_of_is_told():
    def rank(singular_values, *, explained_variance):
        warnings.warn("<b>deprecated</b>", DeprecationWarning, stacklevel=1)
        return {"rank": 0}

    assert "<b>deprecated</b>" in facts(read(check(SimpleNamespace(rank=rank), cases=0)))["it warned"]


def test_what_a_target_says_is_escaped_and_control_characters_are_replaced():
    def rank(singular_values, *, explained_variance):
        raise RuntimeError("<script>alert('1')</script> \x1b[31m \x00 half a pair \ud800, \u202e turned")

    page = read(check(SimpleNamespace(rank=rank), cases=0, name="</title><script>"))
    assert "<script" not in page.source
    assert "&lt;script&gt;alert(" in page.source
    assert not set("\x1b\x00\ud800\u202e") & set(page.source)
    assert "RuntimeError: <script>alert('1')</script> \N{REPLACEMENT CHARACTER}[31m" in page.all("pre")[0].text
    assert not page.all("svg")


def test_the_name_of_a_target_s_exception_is_escaped():
    def rank(singular_values, *, explained_variance):
        raise type("<i>Odd", (RuntimeError,), {})("?")

    page = read(check(SimpleNamespace(rank=rank), cases=0))
    assert "call raised <i>Odd" in page.all("h2")[0].text


def test_a_bias_gradient_is_a_row():
    def layer(x, weight, bias, grad_output, **_):
        gradient = grad_output.sum((0, 2, 3))
        gradient[2:3] += 1 + abs(gradient[2:3])
        return {"grad_bias": gradient}

    report = check(layer, cases=0)
    verdict = report.failures[0].at_first
    page = read(report)
    cells, worst = drawn(page)
    assert worst == verdict.index == (2,)
    assert list(cells) == [(i,) for i in range(verdict.ratios.size)]
    assert len({y for _, (_, y) in cells.values()}) == 1
    assert [name == "within" for name, _ in cells.values()] == [i != 2 for i in range(len(cells))]
    assert f"Shape ({len(cells)},): O to the right." in page.one("figcaption").text


def test_a_weight_gradient_is_tiles_with_o_down_and_c_to_the_right():
    verdict = array_with(((2, 1, 0, 3), 5000.0), ((0, 3, 1, 1), 20.0), shape=(3, 4, 2, 5))
    page = read(with_verdict(verdict))
    cells, worst = drawn(page)
    assert len(cells) == 3 * 4 * 2 * 5
    assert worst == (2, 1, 0, 3)
    assert {index: name for index, (name, _) in cells.items() if name != "within"} == {
        (2, 1, 0, 3): "over-6",
        (0, 3, 1, 1): "over-2",
    }
    steps = [((1, 0, 0, 0), 1), ((0, 1, 0, 0), 0), ((0, 0, 1, 0), 1), ((0, 0, 0, 1), 0)]
    for index, axis in steps:
        moved = np.subtract(cells[index][1], cells[0, 0, 0, 0][1])
        assert moved[axis] > 0
        assert moved[1 - axis] == 0
    assert cells[0, 1, 0, 0][1][0] > cells[0, 0, 0, 4][1][0]
    assert cells[1, 0, 0, 0][1][1] > cells[0, 0, 1, 0][1][1]
    assert "O down, C/groups to the right; in each tile k_h down, k_w to the right" in page.one("figcaption").text
    assert [text.text for text in page.all("text")] == [*"012", *"0123"]
    assert "Entries over what is allowed: 2 of 120." in page.one("figcaption").text
    assert legend(page) == [
        "within what is allowed",
        "10 to 100 times",
        "100 to 1,000 times",
        "1,000 to 1e4 times",
        "outlined: the worst, [2, 1, 0, 3]: 5e+03 times",
    ]


@pytest.mark.parametrize("shape", [(), (1,), (4, 3), (2, 3, 4), (2, 2, 3, 1, 2)])
def test_every_entry_is_drawn_whatever_the_number_of_axes(shape):
    last = tuple(size - 1 for size in shape)
    cells, worst = drawn(read(with_verdict(array_with((last, 9.0), shape=shape))))
    assert set(cells) == set(np.ndindex(*shape))
    assert worst == last


def test_what_is_not_finite_has_a_colour_of_its_own():
    page = read(with_verdict(array_with(((1, 1), np.nan), ((0, 2), np.inf), ((0, 0), 3.0), shape=(2, 3))))
    cells, worst = drawn(page)
    assert {index for index, (name, _) in cells.items() if name == NOT_FINITE} == {(1, 1), (0, 2)}
    assert cells[0, 0][0] == "over-6"
    assert cells[worst][0] == NOT_FINITE
    assert "NaN, infinite, or nothing is allowed" in legend(page)
    assert f"outlined: the worst, {list(worst)}: NaN, infinite, or nothing is allowed" in legend(page)


def test_a_nan_in_db_is_drawn():
    def layer(x, weight, bias, grad_output, **_):
        gradient = grad_output.sum((0, 2, 3))
        gradient[-1] = np.nan
        return {"grad_bias": gradient}

    report = check(layer, cases=0)
    assert report.failures[0].kind == "not finite"
    cells, worst = drawn(read(report))
    assert cells[worst][0] == NOT_FINITE


def test_shades_are_decades_that_begin_at_the_least_wrong():
    errors = [1.5e3, 1.5e9, 1.5e15, 1e300, 0.5]
    page = read(with_verdict(array_with(*(((i,), error) for i, error in enumerate(errors)), shape=(5,))))
    cells, _ = drawn(page)
    assert [name for name, _ in cells.values()] == ["over-1", "over-1", "over-1", "over-6", "within"]
    assert legend(page)[1:3] == ["1,000 to 1e53 times", "1e53 to 1e103 times"]


@pytest.mark.parametrize(
    ("shape", "at"),
    [
        ((100, 60, 3, 3), (80, 40, 1, 2)),
        ((100_000,), (99_999,)),
        ((70, 70), (0, 69)),
        ((9, 8, 7, 6, 5), (8, 7, 6, 5, 4)),
    ],
)
def test_of_a_large_array_the_part_with_the_worst_entry_is_drawn(shape, at):
    page = read(with_verdict(array_with((at, 3.0), shape=shape)))
    cells, worst = drawn(page)
    assert worst == at
    assert min(DRAWN // 2, LONGEST) <= len(cells) <= DRAWN
    left = np.prod(shape) - len(cells)
    assert f"{left} of {np.prod(shape)} entries are left out; drawn is the part that" in page.one("figcaption").text


def test_the_worst_is_in_the_last_shade_where_it_is_a_power_of_ten():
    cells, _ = drawn(read(with_verdict(array_with(((0,), 1000.0), ((1,), 20.0), shape=(2,)))))
    assert [name for name, _ in cells.values()] == ["over-6", "over-3"]


def test_the_drawn_part_is_named_by_its_slice():
    page = read(with_verdict(array_with(((99_999,), 3.0), shape=(100_000,))))
    assert f"[{100_000 - LONGEST}:100000]" in page.one("figcaption").text


def test_an_array_judged_by_its_norm_is_held_against_an_equal_share():
    value = np.zeros((4, 4))
    value[:2] = 0.7
    verdict = compare_norm("grad_weight", value, np.ones((4, 4)) - 1, 1.0)
    assert verdict.ratio > 1 > verdict.ratios.max()
    page = read(with_verdict(verdict))
    cells, worst = drawn(page)
    assert {index for index, (name, _) in cells.items() if name != "within"} == set(np.ndindex(2, 4))
    assert worst == verdict.index
    assert "judged as a whole, by its norm" in page.one("figcaption").text


def test_the_picture_is_of_the_input_in_which_it_was_found_and_not_of_the_shrunk_one():
    (failure,) = doubled().failures
    assert failure.shrunk
    assert failure.at_first.ratios.size == 4 > failure.verdict.ratios.size
    cells, _ = drawn(read(doubled()))
    assert len(cells) == 4
    assert "Where the error sits, in plain." in to_html(doubled())


def test_a_failure_without_an_array_has_no_picture():
    def rank(singular_values, *, explained_variance):
        return {"rank": own.rank(singular_values, explained_variance=explained_variance)["rank"] + 1}

    page = read(check(SimpleNamespace(rank=rank), cases=0))
    assert "every mode keeps one column too many" in facts(page)["likely cause"]
    assert "measured" not in facts(page)
    assert not page.all("svg")


@pytest.mark.parametrize(
    ("operation", "shape", "axes"),
    [
        ("linear", (3, 4), "O down, I to the right"),
        ("weight_gradient", (2, 3, 2, 2), "O down, C/groups to the right; in each tile k_h down, k_w to the right"),
        ("step", (2, 3, 2, 2), "O down, C/groups to the right; in each tile k_h down, k_w to the right"),
    ],
)
def test_axes_have_the_names_that_the_operation_gives_them(operation, shape, axes):
    verdict = array_with(((0,) * len(shape), 9.0), shape=shape)
    (failure,) = with_verdict(verdict).failures
    page = read(replace(doubled(), failures=(replace(failure, operation=operation),)))
    assert axes in page.one("figcaption").text


@pytest.mark.parametrize("shape", [(4, 3), (3, 4, 2, 5)])
def test_an_index_stands_at_the_middle_of_what_it_counts(shape):
    """Of a tile where there are several, else of an entry; a pixel is lost to each of two halves that are rounded."""
    page = read(with_verdict(array_with(((0,) * len(shape), 9.0), shape=shape)))
    cells, _ = drawn(page)
    side = int(page.all("rect", "cell")[0].attributes["width"])
    across = [text for text in page.all("text") if text.attributes["text-anchor"] == "middle"]
    assert [text.text for text in across] == [str(number) for number in range(shape[1])]
    for number, text in enumerate(across):
        left, *_, right = sorted(x for index, (_, (x, _)) in cells.items() if index[1] == number)
        assert abs(int(text.attributes["x"]) - (left + right + side) / 2) <= 1
    down = [text for text in page.all("text") if text.attributes["text-anchor"] == "end"]
    assert [text.text for text in down] == [str(number) for number in range(shape[0])]
    for number, text in enumerate(down):  # its letters stand on the line at y
        top, *_, bottom = sorted(y for index, (_, (_, y)) in cells.items() if index[0] == number)
        assert (top + bottom + side) / 2 - 1 <= int(text.attributes["y"]) <= bottom + side


def test_axes_are_numbered_where_the_operation_does_not_name_them():
    def unfold(tensor, *, mode):
        return {"matrix": own.unfold(tensor, mode=mode)["matrix"] + 1}

    page = read(check(SimpleNamespace(unfold=unfold), cases=0))
    assert re.search(r"Shape \(\d+, \d+\): axis 0 down, axis 1 to the right\.", page.one("figcaption").text)
