"""YAML as plain data: what is read, and what is refused before it can do harm."""

import random
from pathlib import Path

import pytest

from jobs.models import catalog
from jobs.planning.specfile import build_spec
from jobs.problems import SpecError
from jobs.specs.plain_yaml import parse


def test_yaml_1_2_numbers_and_text():
    document = parse(
        "a: 1e-5\nb: 22:00\nc: no\nd: 0o17\ne: 010\nf: ~\ng: 2024-01-01\n100: [{1: 2}]\n", "test"
    )
    assert document == {
        "a": 1e-5,
        "b": "22:00",
        "c": "no",
        "d": 15,
        "e": 10,
        "f": None,
        "g": "2024-01-01",
        "100": [{"1": 2}],
    }


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "a: !!python/object/apply:os.system [echo hi]",
            "line 1: tags (!) are refused: a spec is plain data",
        ),
        ("a: 1\nb: !thing {}", "line 2: tags (!) are refused: a spec is plain data"),
        ("a: 1\nb: 2\na: 3", 'line 3: found duplicate key "a" with value "3" (original value: "1")'),
        ("a: [1, 2", "line 1: "),
        ("- 1\n- 2", "a spec is a mapping of keys, such as `name: trial`; this is a list"),
        ("", "a spec is a mapping of keys, such as `name: trial`; this is empty"),
        ("a: *b", "line 1: found undefined alias"),
        ("%YAML 1.1\n---\na: yes", "line 1: directives (%) are refused: a spec always is YAML 1.2"),
        ("a: 1\nb: 'a\0b'", "line 2: the character U+0000 may not stand in YAML"),
        ('a: "\\e[31mred"', "a: '\\x1b[31mred' holds the character U+001B, which may not stand in text"),
        ('a: {b: ["\\ud800"]}', "a.b[0]: '\\ud800' holds the character U+D800, which may not stand in text"),
        ("a: " + "9" * 5000, "holds a number that cannot be read: Exceeds the limit"),
        ("a: 1\nb: " + "[" * 5000, "line 2: is nested more than 50 deep"),
        ("# nothing\n", "a spec is a mapping of keys, such as `name: trial`; this is empty"),
    ],
)
def test_yaml_that_is_no_plain_mapping_is_refused(text: str, problem: str):
    with pytest.raises(SpecError) as caught:
        parse(text, "test")
    assert str(caught.value.problems[0]).startswith(problem)


def test_anchors_cannot_unfold_without_end():
    lines = ["a0: &a0 [0, 0, 0, 0, 0, 0, 0, 0, 0, 0]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    with pytest.raises(SpecError, match="unfolds to more than"):
        parse("\n".join(lines), "test")
    with pytest.raises(SpecError, match="unfolds to more than"):
        parse("a: &a [*a]", "test")
    with pytest.raises(SpecError, match="nested too deeply"):
        parse("a0: &a0 []\n" + "\n".join(f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 600)), "test")
    assert parse("a: &a [1]\nb: *a", "test") == {"a": [1], "b": [1]}


def test_damaged_specs_are_refused_and_never_crash(tmp_path: Path):
    """Random damage to a ready spec: whatever is not a spec any more is a SpecError."""
    dice = random.Random(0)
    text = (catalog.CATALOG / "digits-table1.yaml").read_text(encoding="utf-8")
    refused = 0
    for _ in range(60):
        letters = list(text)
        for _ in range(dice.randint(1, 6)):
            place = dice.randrange(len(letters))
            letters[place : place + dice.randint(0, 4)] = dice.choice("{}[]:,-#&*!|>'\"%@`~ \n\tx0")
        damaged = "".join(letters)
        try:
            build_spec(parse(damaged, "test"), damaged, tmp_path, "test", {})
        except SpecError as error:
            refused += bool(error.problems)
    assert refused > 30
