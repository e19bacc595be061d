"""Prose is plain: first sentences have a subject, one thing has one name, and the glossary says what the names mean."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "octorec"
HOUSE = sorted(PACKAGE.rglob("*.py"))
CODE = [*HOUSE, *sorted(path for place in ("benchmarks", "studies", "tests") for path in (ROOT / place).rglob("*.py"))]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "results/README.md", "studies/quality/plan.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs/how-to").glob("*.md")),
]
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text()
TERMS = re.findall(r"^- \*\*(.+?)\*\*(?: \(\w\))?: ", GLOSSARY, re.M)

# An opening that makes of a sentence an object without a subject: "Of every matrix; ..."
OPENINGS = re.compile(r"(Of|As|By|For|From|Since|Against)\b")
# A function's docstring in the package begins with such a verb.
IMPERATIVES = re.compile(
    r"(Add|Answer|Append|Apply|Ask|Assign|Attend|Begin|Call|Cancel|Check|Claim|Clean|Cluster|Compare|Compile"
    r"|Compute|Copy|Correct|Count|Decide|Decode|Describe|Do|Download|Draw|Drop|End|Extend|Fill|Find|Fit|Forget"
    r"|Free|Give|Go|Hand|Hold|Import|Join|Judge|Keep|Lay|Leave|Let|Load|Log|Look|Make|Map|Measure|Merge"
    r"|Multiply|Name|Norm|Open|Pack|Parse|Print|Prove|Put|Quantize|Raise|Read|Recommend|Record|Refuse|Remember"
    r"|Remove|Rename|Render|Repeat|Replay|Restore|Return|Round|Route|Run|Say|Search|Send|Serve|Set|Show|Sort"
    r"|Spare|Split|Start|Stop|Sum|Swap|Take|Tell|Train|Turn|View|Wait|Walk|Withdraw|Write|Yield)\b"
)
# Or it is a sentence, with such a verb before any relative clause: "Each program walks tiles that ..."
FINITE = re.compile(r"\b(is|are|has|have|holds?|lies?|stays?|remains?|takes?|walks?|runs?|comes?|multipl(y|ies))\b")
RELATIVE = re.compile(r"[,:;(]|\b(that|which|who|whose|where|what|whether|how|when|if|as)\b")
HALF_SENTENCES = re.compile(r"(How|What|When|Where|Whether|Which|Who|Why)\b[^?]*$")  # what a module is often named by
SPELLINGS = {  # what is written -> the one name of the thing
    r"catalogues?": "catalog",
    r"data ?sets?": "interactions, items or table",
    r"non-inferior(ity)?": "not inferior",
    r"hold-out (interactions?|items?|targets?)": "held-out",
    r"holdout": "hold-out group, or held-out interactions",
    r"semantic ids?": "semantic ID",
    r"code books?": "codebook",
    r"roof[- ]line": "roofline",
}
IDIOMS = {  # what a reader of school English does not know -> what to say instead
    r"(?i:(at|of|by|in|than) so (many|much|often|few))": "the name of the quantity",
    r"(?i:whoever)": "who or what it is",
    r"(?i:for good)": "permanently, or for the life of the process",
    r"(?i:anew)": "again",
    r"(?i:lies? behind one another)": "are concatenated",
    r"(?i:takes? apart|taken apart)": "parses, or profiles",
    r"(?i:in turns)": "alternately",
    r"(?i:brings? along)": "has, or carries",
    r"(?i:goes no further)": "ends here",
    r"(?i:in small)": "of small size",
}


def prose_of(path: Path, text: str) -> Iterator[tuple[str, str]]:
    """Where a text stands, and the text: docstrings, comments, messages of errors; a page without code and tables."""
    where = path.relative_to(ROOT)
    if path.suffix == ".md":
        yield str(where), words_of_page(text)
        return
    yield from chain(*parsed(where, text))
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield f"{where}:{token.start[0]}", token.string


@cache
def prose() -> list[tuple[str, str]]:
    """The prose of all places but this file, which names what is banned."""
    return [one for path in [*CODE, *PAGES] if path != Path(__file__) for one in prose_of(path, path.read_text())]


def words_of_page(text: str) -> str:
    """A page without what is code, or rendered from rows, or the address of a link."""
    for unwanted in (r"<!-- rows: .*?<!-- end -->", r"```.*?```", r"`[^`]*`", r"\]\([^)]*\)", r"^    [^\n]*$"):
        text = re.sub(unwanted, "", text, flags=re.S | re.M)
    return text


def docstrings(where: Path, text: str) -> list[tuple[str, str]]:
    return parsed(where, text)[0]


@cache
def parsed(where: Path, text: str) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """The docstrings of a text of Python and the messages of its errors."""
    found: tuple[list[tuple[str, str]], list[tuple[str, str]]] = [], []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if docstring := ast.get_docstring(node):
                found[0].append((f"{where}: {getattr(node, 'name', 'module')}", docstring))
        elif isinstance(node, ast.Raise) and node.exc is not None:
            said = [part.value for part in ast.walk(node.exc) if isinstance(part, ast.Constant)]
            found[1].append((f"{where}:{node.lineno}", " ".join(part for part in said if isinstance(part, str))))
    return found


def found(pattern: str, text: str) -> list[str]:
    """Every place of a text that a pattern matches as whole words, none of them quoted as code."""
    return [match[0] for match in re.finditer(rf"(?<![\w`]){pattern}(?![\w`])", " ".join(text.split()))]


def verbless(tree: ast.AST) -> Iterator[str]:
    """Yield the first lines of docstrings without a verb.

    A function's begins with an imperative, a class's with its name and a verb, and a module's with no half sentence.
    """
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        docstring = ast.get_docstring(node)
        if not docstring:
            continue
        if isinstance(node, ast.ClassDef):
            has_verb = re.match(rf"An? {node.name} \w+s\b|{node.name} (?!(for|in|of|that|with)\b)[a-z]", docstring)
        elif isinstance(node, ast.Module):
            has_verb = not HALF_SENTENCES.match(docstring.split(". ")[0])
        else:
            has_verb = IMPERATIVES.match(docstring) or FINITE.search(RELATIVE.split(docstring)[0])
        if not has_verb:
            yield docstring.splitlines()[0]


def test_what_is_looked_for_is_found() -> None:
    assert OPENINGS.match("Of every matrix; `active` is the share")
    assert not OPENINGS.match("Offline, an engine answers")
    assert found("semantic ids?", "a semantic id of it") == ["semantic id"]
    assert found("semantic ids?", "semantic IDs, semantic_ids, `semantic ids`") == []
    assert found("(?i:whoever)", "Whoever comes") == ["Whoever"]
    assert found("for good", "ended for\n    good") == ["for good"]
    page = "a `whoever`\n```\nwhoever\n```\nb [c](whoever.md)\n\n    whoever\n\nd"
    assert words_of_page(page).split() == ["a", "b", "[c", "d"]
    text = '"""One."""\n# two\nraise ValueError("three")\nx = "four"\n'
    assert [said for _, said in prose_of(ROOT / "tests" / "x.py", text)] == ["One.", "three", "# two"]


def test_first_sentences_have_a_subject() -> None:
    wrong = [
        f"{where}: {docstring.splitlines()[0]}"
        for path in CODE
        for where, docstring in docstrings(path.relative_to(ROOT), path.read_text())
        if OPENINGS.match(docstring)
    ]
    assert not wrong, "\n".join(wrong)


def test_a_docstring_without_a_verb_is_found() -> None:
    text = """
class Spread:
    '''{}'''
def bounds():
    '''{}'''
"""
    good = [("A Spread holds moments.", "Return the bounds."), ("Spread is one.", "Read, and write, them.")]
    bad = ["The moments of units.", "A Spread of moments.", "Spread of units."], ["The bounds.", "Bounds.", "Of units."]
    for of_class, of_function in good:
        assert not list(verbless(ast.parse(text.format(of_class, of_function))))
    for of_class, of_function in zip(*bad, strict=True):
        assert list(verbless(ast.parse(text.format(of_class, of_function)))) == [of_class, of_function]
    assert list(verbless(ast.parse("'What is lost.'"))) == ["What is lost."]
    assert not list(verbless(ast.parse("'What is lost? Bits are.'")))


@pytest.mark.parametrize("room", sorted({path.relative_to(PACKAGE).parts[0] for path in HOUSE}))
def test_first_sentences_have_a_verb(room: str) -> None:
    paths = [path for path in HOUSE if path.relative_to(PACKAGE).parts[0] == room]
    wrong = [f"{path.relative_to(ROOT)}: {line}" for path in paths for line in verbless(ast.parse(path.read_text()))]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(("pattern", "instead"), [*SPELLINGS.items(), *IDIOMS.items()])
def test_a_banned_word_is_not_used(pattern: str, instead: str) -> None:
    wrong = [f"{where}: {word}: say {instead}" for where, text in prose() for word in found(pattern, text)]
    assert not wrong, "\n".join(wrong)


def test_the_glossary_is_in_order_and_has_each_word_once() -> None:
    assert len(TERMS) > 80
    assert len(set(TERMS)) == len(TERMS)
    for section in GLOSSARY.split("\n## ")[1:]:
        terms = re.findall(r"^- \*\*(.+?)\*\*", section, re.M)
        assert terms == sorted(terms, key=str.lower), section.splitlines()[0]


def test_the_glossary_s_words_are_those_that_code_and_pages_use() -> None:
    texts = [path.read_text() for path in (ROOT / "src").rglob("*.py")]
    texts += [path.read_text() for path in PAGES if path.name != "glossary.md"]
    everything = re.sub(r"[\s_-]+", " ", " ".join(texts)).lower()
    unused = [term for term in TERMS if re.sub(r"[\s_-]+", " ", term).lower() not in everything]
    assert not unused


def test_the_glossary_is_found_from_where_a_reader_starts() -> None:
    for page in ("README.md", "docs/architecture.md"):
        assert "glossary.md)" in (ROOT / page).read_text()
