"""Programs in other languages: what they are sent, what is made of what they send, and the two clients that ship."""

import io
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from refgrad.oracle import OPERATIONS, Outcome, check, find_case_of, judge, load_target, named_cases
from refgrad.oracle.derived import in_dtype
from refgrad.oracle.foreign import ProcessTarget
from refgrad.oracle.foreign.messages import DECLARED, call_items, declaration_of, results_of
from refgrad.oracle.foreign.records import (
    CALL,
    RESULT,
    TYPES,
    RecordError,
    decode_items,
    encode_items,
    read_record,
    record,
)
from refgrad.oracle.protocol import CallFailedError
from refgrad.oracle.target import TargetError

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(__file__).with_name("programs.py")
PAGE = (ROOT / "docs/foreign.md").read_text()
C_FOLDER = ROOT / "examples/implementations/c"
NODE_CLIENT = ROOT / "examples/implementations/node/client.js"
TENSOR = np.arange(6.0).reshape(2, 3)


@pytest.fixture
def start():
    """Start the program with a behaviour; it is ended after the test."""
    started = []

    def start(behaviour, timeout=30.0):
        started.append(ProcessTarget([sys.executable, str(PROGRAM), behaviour], timeout=timeout))
        return started[-1]

    yield start
    for target in started:
        target.close()


def test_a_program_is_a_target_like_any_other(start):
    target = start("right")
    assert target.declaration == {"dtypes": ("float64",)}
    np.testing.assert_array_equal(target.unfold(TENSOR, mode=1)["matrix"], TENSOR.T)
    report = check(target, cases=20)
    assert report.exit_code == 0
    assert {row.operation for row in report.rows} == {"unfold"}
    assert not hasattr(target, "rank")
    with pytest.raises(AttributeError, match="does not offer rank"):
        target.rank(np.ones(2), explained_variance=1.0)


@pytest.mark.parametrize(
    ("behaviour", "kind", "text"),
    [
        ("exit", "call crashed", "left the call without an answer: exit code 3"),
        ("abort", "call crashed", "left the call without an answer: signal SIGABRT"),
        ("exit halfway", "call crashed", "left the call without an answer: exit code 4"),
        ("exit quietly", "call crashed", "left the call without an answer: exit code 0"),
        ("much on stderr", "call crashed", "left the call without an answer: exit code 5"),
        ("print", "call sent no record", "a record begins with b'RGRD', got b'unfo'"),
        ("checksum", "call sent no record", "the checksum of a result record is"),
        ("hello again", "call sent no record", "answered by a result, not by a hello record"),
        ("integers", "call sent no record", "matrix must be array, got integers"),
        ("error", "call reported an error", "the program reported: no memory left"),
        ("error without a message", "call sent no record", "message must be text, but is missing"),
    ],
)
def test_what_goes_wrong_in_a_call_is_a_verdict_on_that_call(start, behaviour, kind, text):
    target = start(behaviour)
    verdicts = judge(target.unfold, find_case_of("unfold", named_cases("unfold")[0].name), twice=True).verdicts
    assert verdicts["call"].outcome is Outcome.FAILED
    assert verdicts["call"].kind == kind
    assert text in verdicts["call"].message
    assert verdicts["matrix"].outcome is Outcome.NOT_PROVIDED
    with pytest.raises(CallFailedError, match=re.escape(text)):  # it was started anew, and does it again
        target.unfold(TENSOR, mode=0)


@pytest.mark.parametrize(
    ("behaviour", "kind", "text"),
    [
        ("hang", "call timed out", "the call took longer than 1 s"),
        ("close", "call crashed", "left the call without an answer: it closed its output"),
        ("grandchild", "call timed out", "the call took longer than 1 s"),
    ],
)
def test_a_program_that_takes_too_long_is_killed(start, behaviour, kind, text):
    target = start(behaviour, timeout=10.0)
    target._timeout = 1.0  # the start of Python takes longer on a loaded machine
    with pytest.raises(CallFailedError, match=text) as caught:
        target.unfold(TENSOR, mode=0)
    assert caught.value.kind == kind
    assert target._child.ended


def test_the_last_lines_on_stderr_are_shown(start):
    target = start("much on stderr")
    with pytest.raises(CallFailedError) as caught:
        target.unfold(TENSOR, mode=0)
    lines = caught.value.output.splitlines()
    assert lines[-1] == "line 99999"
    assert len(lines) == 20
    judgement = judge(start("exit").unfold, named_cases("unfold")[0])
    assert judgement.answer.traceback == "the last words"


def test_a_case_may_not_be_claimed_and_an_unknown_key_is_named(start):
    judgement = judge(start("not claimed").unfold, named_cases("unfold")[0])
    assert judgement.answer.unclaimed == "too large for this board"
    verdict = judge(start("unknown key").unfold, named_cases("unfold")[0]).verdicts["call"]
    assert verdict.kind == "unknown key"
    assert "did you mean 'matrix'?" in verdict.message


def test_a_program_keeps_running_from_call_to_call_until_it_is_closed(start):
    target = start("count twice")
    counts = [target.unfold(TENSOR, mode=0)["matrix"][0, 0] for _ in range(3)]
    target.close()
    counts += [target.unfold(TENSOR, mode=0)["matrix"][0, 0] for _ in range(2)]
    assert counts == [1.0, 2.0, 3.0, 1.0, 2.0]
    assert judge(target.unfold, named_cases("unfold")[0], twice=True).verdicts["call"].kind == "not repeatable"


@pytest.mark.parametrize(
    ("behaviour", "text"),
    [
        ("nonsense", "did not begin with a hello: the program's answer cannot be read: a record begins with b'RGRD'"),
        ("no hello", "did not begin with a hello: a program's first record must be a hello, type 1, got a result"),
        ("greets and leaves", "did not begin with a hello: the program left the call without an answer: exit code 7"),
        ("unknown operation", "cannot be judged: there is no operation 'fold'; known are rank, unfold"),
        ("unknown dtype", "cannot be judged: declaration: dtypes must be some of float64, float32"),
        ("nothing offered", "cannot be judged: a hello names at least one operation of rank"),
    ],
)
def test_a_bad_start_is_an_error_that_names_the_program(behaviour, text):
    with pytest.raises(TargetError, match=re.escape(text)):
        load_target(f"'{sys.executable}' '{PROGRAM}' '{behaviour}'")


def test_a_silent_start_times_out():
    with pytest.raises(TargetError, match="the call took longer than 1 s"):
        load_target(f"'{sys.executable}' '{PROGRAM}' silent", timeout=1.0)


def test_a_program_that_is_not_there_or_cannot_run_is_named(tmp_path):
    with pytest.raises(TargetError, match=r"the program \./no_client is not there"):
        load_target("./no_client")
    with pytest.raises(TargetError, match="the program no_such_interpreter is not there"):
        load_target("no_such_interpreter client.x")
    text = tmp_path / "client"
    text.write_text("no program")
    with pytest.raises(TargetError, match="client is not executable"):
        load_target(str(text))
    text.chmod(0o755)
    with pytest.raises(TargetError, match="cannot be judged"):
        load_target(str(text))
    with pytest.raises(TargetError, match="is no command: No closing quotation"):
        load_target("node 'client.js")


# ---- what is sent


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_call_holds_the_arguments_of_the_operation_bit_by_bit(operation):
    for case in named_cases(operation)[::5]:
        arguments = case.arrays()
        kind, items = read_record(
            io.BytesIO(record(CALL, call_items(operation, list(arguments.values()), case.attributes)))
        )
        assert kind == CALL
        assert items.pop("operation") == operation
        for name, value in arguments.items():
            parts = {f"{name}[{n}]": a for n, a in enumerate(value)} if isinstance(value, tuple) else {name: value}
            for part, array in parts.items():
                sent = items.pop(part)
                assert sent.dtype == array.dtype
                assert sent.tobytes() == array.tobytes()
                assert sent.shape == array.shape
        for name, value in case.attributes.items():
            sent = items.pop(name)
            assert sent == (value if isinstance(value, float) else tuple(np.ravel(value)))
        assert not items


def test_results_come_back_as_a_target_in_this_process_returns_them():
    one, two = np.ones((2, 1)), np.zeros((3, 2))
    found = results_of("hosvd", {"factors[1]": two, "factors[0]": one, "ranks": (1, 2), "stored_numbers": (10,)})
    assert found["factors"][0] is one
    assert found["factors"][1] is two
    assert found["ranks"] == (1, 2)
    assert found["stored_numbers"] == 10


@pytest.mark.parametrize(
    ("items", "text"),
    [
        ({"factors[1]": np.ones(1)}, "factors come as factors[0]; got factors[1]"),
        ({"factors[00]": np.ones(1)}, "factors come as factors[0]; got factors[00]"),
        ({"factors": np.ones(1)}, "factors come as factors[0], factors[1], ..., one array each"),
        ({"factors[0]": 1.0}, "factors[0] must be array, got a real"),
        ({"core": "none"}, "core must be array, got text"),
        ({"ranks": np.ones(4)}, "ranks must be integers, got array"),
        ({"stored_numbers": (1, 2)}, "stored_numbers must be one integer, got 2"),
    ],
)
def test_results_of_the_wrong_kind_are_named(items, text):
    with pytest.raises(RecordError, match=re.escape(text)):
        results_of("hosvd", items)


@pytest.mark.parametrize(
    ("items", "text"),
    [
        ({"operations": "rank", "colour": "red"}, "a hello has no item colour"),
        ({"operations": (1,)}, "operations must be text"),
        ({"operations": "rank", "repeatable": (2,)}, "repeatable must be one integer, 0 or 1, got (2,)"),
        ({"operations": "rank", "repeatable": "yes"}, "repeatable must be integers, got text"),
        ({"operations": "  "}, "a hello names at least one operation"),
    ],
)
def test_a_hello_of_the_wrong_kind_is_named(items, text):
    with pytest.raises(RecordError, match=re.escape(text)):
        declaration_of(items)


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (np.ones(2, np.float16), TypeError),
        (np.ones(2, np.int64), TypeError),
        (np.ones((1,) * 9), TypeError),
        (3, TypeError),
        ((2**63,), Exception),
        ((0,) * 256, ValueError),
    ],
)
def test_what_no_item_can_hold_is_refused(value, error):
    with pytest.raises(error):
        encode_items({"value": value})


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_array_that_came_from_another_process_is_sent_like_any_other(dtype):
    array = np.arange(3, dtype=dtype)
    assert encode_items({"bias": pickle.loads(pickle.dumps(array))}) == encode_items({"bias": array})


def test_an_item_needs_a_name():
    with pytest.raises(ValueError, match="1 to 255 characters"):
        encode_items({"": 1.0})
    with pytest.raises(UnicodeEncodeError):
        encode_items({"größe": 1.0})


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        (b"\x03ab", "a name needs 3 bytes at byte 1, but the payload has 2 left"),
        (b"\x00\x01\x00", "must be printable and not empty"),
        (b"\x01\x07\x01\x00", "must be printable and not empty"),
        (b"\x01\xff\x01\x00", "not ASCII, at byte 1"),
        (b"\x01a", "the kind of a needs 1 bytes"),
        (b"\x01a\x09", "a is of kind 9; known are 1 to 5"),
        (b"\x01a\x01\x00\x01a\x01\x00", "two items are called a"),
        (b"\x01a\x03\x02\x00\x00\x00\xff\xff", "a is not UTF-8"),
        (b"\x01a\x04\x09" + bytes(36), "a has 9 axes; at most 8 are allowed"),
        (b"\x01a\x05\x02\xff\xff\xff\xff\xff\xff\xff\xff", "but the payload has 0 left"),
        (b"\x01a\x05\x02\x00\x00\x00\x00\xff\xff\xff\xff", "which holds nothing and is longer than the payload"),
    ],
)
def test_a_malformed_payload_is_named_with_its_place(payload, text):
    with pytest.raises(RecordError, match=re.escape(text)):
        decode_items(payload)


# ---- the clients that ship


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """Compile the C client as its Makefile does, with more flags."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler is here")
    strict = re.search(r"^STRICT := (.*)$", (C_FOLDER / "Makefile").read_text(), flags=re.MULTILINE)[1].split()
    folder = tmp_path_factory.mktemp("c")

    def compiled(*flags):
        program = folder / f"client{'_'.join(flags)}"
        sources = [str(C_FOLDER / name) for name in ("client.c", "records.c", "layer.c")]
        subprocess.run([compiler, *strict, "-O2", *flags, "-o", str(program), *sources, "-lm"], check=True)
        return str(program)

    return compiled


def test_the_c_client_is_right_in_every_operation_that_it_offers(compiled):
    target = load_target(compiled())
    report = check(target, cases=30)
    target.close()
    assert report.exit_code == 0, report.failures
    assert list(dict.fromkeys(row.operation for row in report.rows)) == [
        "rank", "unfold", "hosvd", "reconstruct", "weight_gradient", "conv2d",
    ]  # fmt: skip
    assert report.catalogue > 220, "a float32 port meets the named inputs of both dtypes"
    assert all(row.failed == row.suspect == row.inconclusive == 0 for row in report.rows)
    assert {row.name for row in report.rows if row.not_provided} == {"relations"}, (
        "of large and small numbers none holds"
    )


@pytest.mark.parametrize(
    ("flag", "cause"),
    [
        ("-DPLANTED_PADDING", "the padding of the height is used for the width as well"),
        ("-DPLANTED_DILATION", "the dilation is ignored"),
    ],
)
def test_a_mistake_planted_in_the_c_client_is_named(compiled, flag, cause):
    target = load_target(compiled(flag))
    report = check(target, cases=10, operations=["conv2d"])
    target.close()
    assert report.exit_code == 1
    assert [failure.row for failure in report.failures] == ["grad_weight"]
    assert cause in report.failures[0].cause.sentence


def test_the_c_client_says_what_is_too_large_for_it(compiled):
    target = load_target(compiled("-DLAYER_NUMBERS=64", "-DRECORDS_BYTES=2048"))
    report = check(target, cases=20, operations=["hosvd", "weight_gradient"])
    target.close()
    assert report.exit_code == 0, report.failures
    reasons = " ".join(reason for reason, _ in report.unclaimed)
    assert "LAYER_NUMBERS" in reasons
    assert "RECORDS_BYTES" in reasons


def test_the_c_client_ends_with_its_input_and_refuses_what_is_no_record(compiled):
    program = compiled()
    hello = subprocess.run([program], input=b"", capture_output=True, check=True).stdout
    assert read_record(io.BytesIO(hello))[1]["dtypes"] == "float32"
    good = record(CALL, {"operation": "unfold", "tensor": np.ones((2, 2), np.float32), "mode": (0,)})
    for bad in (b"nonsense that is long enough", good[:20], good[:-1] + bytes([good[-1] ^ 1]), b"RGRD\x02" + good[5:]):
        run = subprocess.run([program], input=bad, capture_output=True, check=False)
        assert run.returncode == 1
        assert b"no record" in run.stderr
    unknown = record(CALL, {"operation": "fold"}) + record(RESULT, {}) + record(CALL, {"operation": "unfold"}) + good
    stream = io.BytesIO(subprocess.run([program], input=unknown, capture_output=True, check=True).stdout)
    answers = [read_record(stream) for _ in range(5)]
    assert [TYPES[kind] for kind, _ in answers] == ["hello", *["not claimed"] * 3, "result"]
    np.testing.assert_array_equal(answers[-1][1]["matrix"], np.ones((2, 2)))


def test_the_node_client_is_right():
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node is here")
    target = load_target(f"'{node}' '{NODE_CLIENT}'")
    report = check(target, cases=30)
    assert report.exit_code == 0, report.failures
    assert list(dict.fromkeys(row.operation for row in report.rows)) == ["rank", "unfold", "reconstruct"]
    with pytest.raises(NotImplementedError, match="float64 is what is taken"):
        target.unfold(TENSOR.astype(np.float32), mode=0)
    with pytest.raises(CallFailedError, match="the program reported: TypeError"):
        target._call("reconstruct", TENSOR, (np.eye(2),))
    target.close()


# ---- the page that a client is written from


def test_the_page_has_every_operation_with_its_items():
    rows = dict(re.findall(r"^\| (`[a-z_`, 0-9]+`) \| (.*) \|$", PAGE, flags=re.MULTILINE))
    for operation in OPERATIONS.values():
        (text,) = [cells for names, cells in rows.items() if f"`{operation.name}`" in names.split(", ")]
        text = text.replace(
            "those of conv2d", " ".join([*OPERATIONS["conv2d"].arrays, *OPERATIONS["conv2d"].attributes])
        )
        text = text.replace("those of hosvd", " ".join(OPERATIONS["hosvd"].results))
        words = set(re.findall(r"[a-z_0-9]+", text))
        assert {*operation.arrays, *operation.attributes, *operation.results} <= words, operation.name


def test_the_page_has_every_item_of_a_hello_and_every_type():
    assert set(re.findall(r"^\| `([a-z_]+)` \| (?:text|integers) ", PAGE, flags=re.MULTILINE)) == set(DECLARED)
    for kind, name in TYPES.items():
        assert f"{kind} {name}" in PAGE


def test_the_page_runs(monkeypatch, capsys):
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(ROOT)
    exec(compile(blocks[0], "docs/foreign.md", "exec"), {"__name__": "foreign"})
    if shutil.which("node") is None:
        pytest.skip("no node is here")
    exec(compile(blocks[1], "docs/foreign.md", "exec"), {"__name__": "foreign"})
    assert capsys.readouterr().out.split() == ["[[0.", "3.]", "[1.", "4.]", "[2.", "5.]]"]


def test_named_inputs_come_in_the_dtype_that_a_target_takes():
    case = find_case_of("conv2d", "every mode cut, in float32")
    assert case.dtype == np.float32
    np.testing.assert_array_equal(case.x, find_case_of("conv2d", "every mode cut").x.astype(np.float32))
    huge = [case for case in named_cases("conv2d") if float(np.abs(case.x).max()) > 1e100]
    assert huge
    assert all(in_dtype(case, "float32") is None for case in huge)
    with pytest.raises(ValueError, match="no case named"):
        find_case_of("conv2d", f"{huge[0].name}, in float32")
