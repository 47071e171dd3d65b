"""Parameters and strict YAML: whatever comes in, a value within its bounds or one line that says what would do."""

import argparse
import math
from dataclasses import dataclass, fields

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from mbrl_control import config as c
from mbrl_control.config import ConfigError, Marked, param


@dataclass(frozen=True)
class Config:
    rate: float = param(100.0, "ticks a second", unit="Hz", low=10.0, high=500.0)
    count: int = param(3, "how many", low=0)
    offset: float = param(0.0, "unbounded")
    label: str = param("a", "what it is called")
    norm: str = param("abs", "which norm", choices=("abs", "square"))
    on: bool = param(True, "whether")
    weights: tuple = param((1.0, 2.0), "of each", low=0.0)
    names: tuple[str, ...] = param((), "of what")


PARAMS = c.params(Config)


def outcome(run):
    """What came out, and what the error said."""
    try:
        return run(), ""
    except ConfigError as error:
        return None, str(error)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.binary(max_size=8) | st.dates(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.tuples(inner) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.sampled_from(sorted(PARAMS)), ANYTHING)
@example("count", 10**400)
@example("count", "1e400")
@example("count", math.inf)
@example("rate", 10**400)
@example("rate", "nan")
@example("weights", [math.nan])
@example("weights", "inf 1")
@example("on", 1)
@example("count", True)
@example("names", ["a", 1])
@example("names", [""])
@example("names", ["two words"])
@example("names", "a, b c")
def test_parse_gives_a_value_that_is_declared_or_a_config_error(name, value):
    p = PARAMS[name]
    parsed, said = outcome(lambda: p.parse(value))
    if said:
        assert said.startswith(f"{name} = {value!r}: it takes ")
        return
    assert type(parsed) is p.type
    if p.items is str:
        assert all(isinstance(text, str) and text and not set(text) & set(" ,\t\n") for text in parsed)
    for number in list(parsed if p.type is tuple else [parsed]) if p.type in (int, float) or name == "weights" else []:
        assert math.isfinite(number)
        assert p.low is None or number >= p.low
        assert p.high is None or number <= p.high
    assert not p.choices or parsed in p.choices


VALID = st.fixed_dictionaries(
    {},
    optional={
        "rate": st.floats(10, 500),
        "count": st.integers(0, 2**63 - 1),
        "offset": st.floats(allow_nan=False, allow_infinity=False),
        "label": st.text(max_size=10),
        "norm": st.sampled_from(["abs", "square"]),
        "on": st.booleans(),
        "weights": st.lists(st.floats(0, 1e9), max_size=4).map(tuple),
        "names": st.lists(st.from_regex(r"[a-z_/][a-z0-9_/]{0,8}", fullmatch=True), max_size=4).map(tuple),
    },
)


@given(VALID)
def test_what_is_valid_arrives_unchanged(values):
    built = c.build(Config, values)
    for field in fields(Config):
        assert getattr(built, field.name) == values.get(field.name, field.default)


@given(VALID)
def test_the_flags_say_the_same_as_the_values(values):
    parser = argparse.ArgumentParser(allow_abbrev=False)
    c.add_flags(parser, Config)

    def written(value):
        return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)

    args = parser.parse_args([f"--{name}={written(value)}" for name, value in values.items()])
    assert c.from_flags(Config, args) == c.build(Config, values)


def test_large_whole_numbers_are_not_rounded():
    assert PARAMS["count"].parse(2**53 + 1) == 2**53 + 1


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"rte": 1.0}, "x.rte: no such parameter; did you mean 'rate'?"),
        ({"zzz": 1.0}, "x.zzz: no such parameter; known: count, label, names, norm, offset, on, rate, weights"),
        ({"rate": 1.0}, "x.rate = 1.0: it takes a number from 10 to 500 [Hz]"),
        ({"norm": "max"}, "x.norm = 'max': it takes one of abs, square"),
        ({"count": 1.5}, "x.count = 1.5: it takes a whole number of at least 0"),
        ({"names": ["a", 2]}, "x.names = ['a', 2]: it takes a list of texts"),
        ({"names": 2}, "x.names = 2: it takes a list of texts"),
    ],
)
def test_a_mistake_is_told_with_what_would_do(values, said):
    with pytest.raises(ConfigError) as caught:
        c.build(Config, values, where="x.")
    assert str(caught.value) == said


def test_flags_explain_themselves():
    parser = argparse.ArgumentParser()
    c.add_flags(parser, Config)
    assert "ticks a second (a number from 10 to 500 [Hz]; default 100.0)" in " ".join(parser.format_help().split())


# --- strict YAML ------------------------------------------------------------------------------------

DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


def unmarked(marked: Marked):
    if isinstance(marked.value, dict):
        return {key: unmarked(value) for key, value in marked.value.items()}
    if isinstance(marked.value, list):
        return [unmarked(value) for value in marked.value]
    return marked.value


@given(document=DOCUMENTS, style=st.booleans())
def test_plain_yaml_is_read_as_it_was_written(tmp_path_factory, document, style):
    path = tmp_path_factory.getbasetemp() / "document.yaml"
    path.write_text(yaml.safe_dump(document, default_flow_style=style), encoding="utf-8")
    text = path.read_bytes().decode()
    if "&id" not in text:
        assert c.read_yaml(path) == document
        assert unmarked(c.read_marked(path)) == document


@given(st.text() | st.text("{}[]-:,&*!|>'\"#%? \n\tab1~<@`", max_size=40))
@example("a: " + "1" * 5000)
@example("a: 2020-99-99")
@example("\x00")
@example("? {a: b}\n: c")
def test_any_text_is_a_document_or_one_line_of_error(text):
    _, said = outcome(lambda: c.parse_yaml(text, "x.yaml"))
    assert said.startswith("x.yaml") or not said
    assert "\n" not in said


BOMB = "a: &a [x, x]\n" + "".join(
    f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefghijkl", "bcdefghijklm", strict=True)
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x: 1\ny: 2\nx: 3", "f.yaml line 3: key 'x' stands twice"),
        ("a:\n  b: {c: 1, c: 1}", "f.yaml line 2: key 'c' stands twice"),
        ("a: !!python/object/apply:os.system ['touch canary']", "f.yaml line 1: tags (!name) are not accepted"),
        ("a: !!binary aGVsbG8=", "f.yaml line 1: tags (!name) are not accepted"),
        ("a: !!set {b}", "f.yaml line 1: tags (!name) are not accepted"),
        (BOMB, "f.yaml line 2: aliases (*name) are not accepted"),
        ("a: &x\n  b: *x", "f.yaml line 2: aliases (*name) are not accepted"),
        ("base: {a: 1}\n<<: {b: 2}", "f.yaml line 2: a key must be a plain name"),
        ("1: a", "f.yaml line 1: a key must be a plain name"),
        ("yes: a", "f.yaml line 1: a key must be a plain name"),
        ("[" * 60 + "]" * 60, "f.yaml line 1: nested deeper than 50"),
        ("[" * 400_000, "f.yaml line 1: nested deeper than 50"),
        ("a: 1\n--- b", "f.yaml line 2: expected a single document in the stream but found another document"),
        ("a: [1,\nb", "f.yaml line 2: expected ',' or ']', but got '<stream end>'"),
    ],
    ids=lambda text: text[:16],
)
def test_surprises_in_yaml_are_refused_by_line(text, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for read in (c.read_marked, lambda path: c.parse_yaml(path.read_text(), path.name)):
        path = tmp_path / "f.yaml"
        path.write_text(text)
        with pytest.raises(ConfigError) as caught:
            read(path)
        assert str(caught.value) == said
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda p: p.write_bytes(b"a: " + b"x" * c.MAX_YAML_BYTES), f"larger than {c.MAX_YAML_BYTES} bytes"),
        (lambda p: p.symlink_to("/dev/zero"), f"larger than {c.MAX_YAML_BYTES} bytes"),
        (lambda p: p.write_bytes(b"\xff\xfe\x00binary"), "not a text file in UTF-8"),
        (lambda p: p.mkdir(), "is a directory"),
        (lambda p: None, "no such file or directory"),
    ],
)
def test_what_is_no_yaml_file_is_told_with_its_path(make, said, tmp_path):
    path = tmp_path / "f.yaml"
    make(path)
    with pytest.raises(ConfigError, match=said) as caught:
        c.read_yaml(path)
    assert str(path) in str(caught.value)


def test_values_know_their_lines(tmp_path):
    path = tmp_path / "f.yaml"
    path.write_text("launch:\n- node:\n    pkg: a\n    exec:\n      b\n")
    node = c.read_marked(path).value["launch"].value[0].value["node"]
    assert {key: value.where for key, value in node.value.items()} == {"pkg": "f.yaml line 3", "exec": "f.yaml line 4"}
