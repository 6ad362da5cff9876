"""The rules of prose for docstrings, comments and `help` texts, as a checker of one Python file."""

import ast
import io
import re
import tokenize

MAX_WORDS = 20
MAX_COLUMNS = 119

# Interrogatives, conjunctions and prepositions: a reader must hold them until the noun or verb arrives.
BAD_FIRST_WORDS = frozenset(
    """
    how that what whatever when whenever where which who whom whose why whether although and as because but if nor
    or since so such than though unless until while yet about above after against along among around at before
    behind below beneath beside besides between beyond by despite down during except for from in inside instead
    into like near of off on onto out outside over per through throughout to toward towards under unlike up upon
    via with within without
    """.split()
)

# Comments that speak to a tool.
DIRECTIVE = re.compile(r"#\s*(noqa|type:|fmt:|ruff:|pragma|!)")
# Headings of Google's style, and the head of an entry below one: `name (type): ` or `name: `.
SECTION = re.compile(r"(Args|Arguments|Returns|Raises|Yields|Example|Examples|Attributes|Note|Notes):$")
ENTRY_HEAD = re.compile(r"^[`*\w.,\[\]/ ]{1,60}?(\((?:[^()]|\([^()]*\))*\))?:(\s|$)")
BULLET = re.compile(r"^([-*•]|\d+[.)])\s+")
# A sentence ends at a full stop, question or exclamation mark before a capital, a digit, a quote or code.
SENTENCE_END = re.compile(r"(?<=[.!?])[\"')]*\s+(?=[A-Z0-9\"'(\[`-])")
ABBREVIATIONS = re.compile(r"\b(e\.g|i\.e|al|eq|Eq|Fig|fig|vs|cf|No|no|resp|Sec|sec|Tab)\.(?=\s)")


def texts(source, nodes):
    """Yield (line, text) of each docstring, each `help` text and each block of comment lines in `source`."""
    for node in nodes:
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            docstring = ast.get_docstring(node)
            if docstring:
                raw = node.body[0].value.value
                yield node.body[0].lineno + raw[: len(raw) - len(raw.lstrip())].count("\n"), docstring
        elif isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and key.value == "help":
                    yield value.lineno, literal(value)
        elif isinstance(node, ast.keyword) and node.arg == "help":
            yield node.value.lineno, literal(node.value)
    block, last = None, None
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT or DIRECTIVE.match(token.string):
            continue
        text = token.string.lstrip("#").strip()
        whole_line = not token.line[: token.start[1]].strip()
        place = (token.start[0], token.start[1])
        if block and whole_line and last == (place[0] - 1, place[1]):
            block[1].append(text)
        else:
            if block:
                yield block[0], "\n".join(block[1])
            block = (place[0], [text])
        last = place if whole_line else None
    if block:
        yield block[0], "\n".join(block[1])


def literal(node):
    """Return the text of a string, with `...` for each value in an f-string."""
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "`...`" for part in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def paragraphs(text):
    """Yield (line offset, prose) of each paragraph, list item or entry: code, tables and headings are left out."""
    offset, lines, section = 0, [], False
    for number, line in enumerate([*text.splitlines(), ""]):
        stripped = line.strip()
        indented = line.startswith("    ") and not section
        is_code = indented or stripped.startswith((">>>", "```", "|", "..."))
        new = not stripped or is_code or SECTION.match(stripped) or BULLET.match(stripped)
        new = new or (section and ENTRY_HEAD.match(stripped))
        if new and lines:
            yield offset, " ".join(lines)
            lines = []
        if SECTION.match(stripped):
            section = not stripped.startswith("Example")
        elif stripped and not is_code:
            if not lines:
                offset = number
            prose = BULLET.sub("", stripped)
            lines.append(ENTRY_HEAD.sub("", prose) if section and not lines else prose)
        if stripped and not line.startswith(" ") and not SECTION.match(stripped):
            section = False


def sentences(paragraph):
    """Return the sentences of a paragraph; a parenthesis is a sentence of its own, code and links are one word."""
    plain = re.sub(r"``[^`]*``|`[^`]*`", "Code", paragraph)
    plain = re.sub(r"https?://[^\s)]+", "Link", plain)
    plain = re.sub(r"\[[^\[\]]*\](\(Link\))?", "Code", plain)
    asides = []
    while match := re.search(r"\(([^()]*)\)", plain):
        asides.append(match[1])
        plain = plain[: match.start()] + plain[match.end() :]
    plain = ABBREVIATIONS.sub(r"\1", plain)
    return [part for text in (plain, *asides) for part in SENTENCE_END.split(text)]


def count_words(sentence):
    return sum(1 for word in sentence.split() if re.search(r"\w", word))


def variables(nodes):
    """Yield (line, name) of every name that is assigned, looped over or taken as a parameter."""
    for node in nodes:
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg


def first_word(text):
    match = re.match(r"\W*([A-Za-z]+)", text)
    return match[1] if match else ""


def problems(source):
    """Return (line, message) of every break of the rules in `source`, in the order of its lines."""
    found, nodes = [], list(ast.walk(ast.parse(source)))
    for line, text in texts(source, nodes):
        if first_word(text).lower() in BAD_FIRST_WORDS and not text.startswith("`"):
            start = text.splitlines()[0]
            found.append((line, f"begins with {first_word(text)!r}, not with a verb or a noun: {start}"))
        for offset, paragraph in paragraphs(text):
            for sentence in sentences(paragraph):
                if count_words(sentence) > MAX_WORDS:
                    found.append((line + offset, f"{count_words(sentence)} words in a sentence: {sentence}"))
    for line, name in variables(nodes):
        if name == "one":
            found.append((line, "a variable is called `one`: name what it is"))
    for number, text in enumerate(source.splitlines(), start=1):
        if len(text) > MAX_COLUMNS:
            found.append((number, f"{len(text)} columns: {text.strip()}"))
    return sorted(found)
