"""Write the generated parts of the documentation: commands, recipes, endpoints, settings, Python API, model card.

    python tools/reference.py            rewrite them in the pages (`make reference`)
    python tools/reference.py --check    fail if a page is out of date

A part stands between the lines `<!-- generated: NAME -->` and `<!-- end -->` of a page.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from mmgcs.cli.main import COMMANDS, SHARE, TRAIN, load_command
from mmgcs.registry import Registry

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Option:
    """An argument or option of a command.

    Attributes:
        names: as they are typed, such as "--plot"; for an argument, its name in capitals.
        value: the kind of its value, such as "FILE"; "" for a switch.
        help: its line of help.
        required: True if the command needs it.
        default: its default; "" if it has none.
    """

    names: tuple[str, ...]
    value: str
    help: str
    required: bool
    default: str

    @property
    def is_argument(self) -> bool:
        """True if it is given by its position and not by a name."""
        return not self.names[0].startswith("-")


@dataclass(frozen=True, slots=True)
class CommandReference:
    """A command: its words, its help and its options."""

    words: tuple[str, ...]
    help: str
    options: tuple[Option, ...]
    extra: str | None = None
    flags: frozenset[str] = field(default=frozenset())

    @property
    def usage(self) -> str:
        """The usage line."""
        parts = [*self.words]
        for option in self.options:
            shown = option.names[0] if option.is_argument or not option.value else f"{option.names[0]} {option.value}"
            if option.required or option.is_argument:
                parts.append(shown if option.required else f"[{shown}]")
        return " ".join([*parts, "[OPTIONS]"])


def commands() -> list[CommandReference]:
    """Return every command, in the order of `mmgcs --help`."""
    found = []
    for name, panel in COMMANDS.items():
        found += _described(("mmgcs", name), load_command(name), {TRAIN: "train", SHARE: "hub"}.get(panel))
    return found


def _described(words: tuple[str, ...], command: Any, extra: str | None) -> Iterator[CommandReference]:
    # typer bundles its own click, so a group is recognized by its attribute and not by its class.
    if hasattr(command, "commands"):
        for name, inner in command.commands.items():
            yield from _described((*words, name), inner, extra)
        return
    options = tuple(_typer_option(parameter) for parameter in command.params if parameter.name != "help")
    flags = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    flags |= {"-h", "--help"}
    yield CommandReference(words, " ".join((command.help or "").split()), options, extra, frozenset(flags))


def _typer_option(parameter: Any) -> Option:
    default = parameter.show_default if isinstance(parameter.show_default, str) else _plain(parameter.default)
    if parameter.param_type_name == "argument":
        return Option((parameter.metavar or parameter.name.upper(),), "", parameter.help, parameter.required, default)
    value = "" if parameter.is_flag else parameter.metavar or _type_name(parameter)
    return Option((*parameter.opts, *parameter.secondary_opts), value, parameter.help, parameter.required, default)


def _plain(default: Any) -> str:
    if default is None or default is False or default == () or callable(default):
        return ""
    return "yes" if default is True else str(default)


def _type_name(parameter: Any) -> str:
    names = {"int": "NUMBER", "integer": "NUMBER", "float": "NUMBER", "path": "PATH", "str": "TEXT", "list": "TEXT"}
    kind = parameter.type_descriptor.annotation if hasattr(parameter, "type_descriptor") else parameter.type
    name = str(getattr(kind, "__name__", None) or getattr(kind, "name", "text")).lower().removesuffix(" range")
    return names.get(name, name.upper())


def cli_markdown() -> str:
    """Return the reference of every command, as Markdown."""
    parts = []
    for command in commands():
        parts.append(f"## {' '.join(command.words)}\n\n{_escape(command.help)}\n\n```text\n{command.usage}\n```\n")
        if command.extra:
            parts.append(f"Needs the extra `{command.extra}` ([install](../index.md#install)).\n")
        if command.options:
            parts.append(_table(command.options))
    return "\n".join(parts)


def _table(options: tuple[Option, ...]) -> str:
    lines = ["| option | meaning | default |", "|---|---|---|"]
    for option in options:
        names = ", ".join(f"`{name}`" for name in option.names) + (f" `{option.value}`" if option.value else "")
        default = "required" if option.required else _escape(option.default)
        lines.append(f"| {names} | {_escape(option.help)} | {default} |")
    return "\n".join([*lines, ""])


def _escape(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;").replace("_", "\\_").replace("*", "\\*")


def recipes_markdown() -> str:
    """Return the reference of every setting of a recipe, from the docstrings of `mmgcs.training.recipe`."""
    from mmgcs.training import recipe

    parts = []
    shown: list[tuple[type[BaseModel], str]] = [
        (recipe.Recipe, "the whole file"),
        (recipe.BranchRecipe, "`plot:` and `poster:`"),
        (recipe.Component, "`encoder:`, `model:`, each of `augment:`"),
        (recipe.Optimization, "`training:`"),
        (recipe.Loss, "`training.loss:`"),
        (recipe.Distillation, "`distill:`"),
        (recipe.FusionRecipe, "`fusion:`"),
        (recipe.SearchRange, "each of `search:`"),
    ]
    for model, place in shown:
        parts.append(f"## {model.__name__}: {place}\n\n{inspect.getdoc(model)}\n")
        parts.append("| setting | type | default | meaning |\n|---|---|---|---|")
        described = _field_docs(model)
        for name, info in model.model_fields.items():
            kind = _kind(model, name)
            default = "required" if info.is_required() else f"`{_default(info.default)}`"
            parts.append(f"| `{name}` | `{kind}` | {default} | {_cell(described.get(name, ''))} |")
        parts.append("")
    return "\n".join(parts)


def _field_docs(model: type) -> dict[str, str]:
    """Return the string literal under each field, read from the source, because pydantic does not keep it."""
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(model))).body
    assert isinstance(body, ast.ClassDef)
    found = {}
    for field_node, text in zip(body.body, body.body[1:], strict=False):
        if (
            isinstance(field_node, ast.AnnAssign)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
        ):
            assert isinstance(field_node.target, ast.Name)
            found[field_node.target.id] = " ".join(str(text.value.value).split())
    return found


def _kind(model: type, name: str) -> str:
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(model))).body
    assert isinstance(body, ast.ClassDef)
    for node in body.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == name:
            annotation = node.annotation
            if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) == "Annotated":
                assert isinstance(annotation.slice, ast.Tuple)
                annotation = annotation.slice.elts[0]
            return ast.unparse(annotation).replace("|", "or").replace("Share", "float")
    return ""


def _default(value: Any) -> str:
    if hasattr(value, "model_dump"):
        changed = value.model_dump(exclude_defaults=True)
        return ", ".join(f"{key}: {item}" for key, item in changed.items()) or "its own defaults"
    return "none" if value is None else "yes" if value is True else "no" if value is False else str(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def refusal(words: list[str]) -> str | None:
    """Return why a command line that begins with `mmgcs` has an unknown command or option; None if it has not.

    For commands in the documentation that are not run: values and files are not checked.
    """
    known = {command.words: command for command in commands()}
    for length in (3, 2):
        command = known.get(tuple(words[:length]))
        if command is not None:
            break
    else:
        if len(words) > 1 and words[1] in ("--help", "--version"):
            return None
        return f"there is no command {' '.join(words[:3])}"
    given = {word.split("=", 1)[0] for word in words[length:] if word.startswith("--") and word != "--"}
    unknown = sorted(given - command.flags)
    return f"{' '.join(command.words)} has no option {', '.join(unknown)}" if unknown else None


def techniques_markdown() -> str:
    """Return the components that a recipe can name, with their settings, from the registries and their docstrings."""
    from mmgcs.models import ENCODERS, FUSIONS
    from mmgcs.training.augment import PLOT_CHANGES, POSTER_CHANGES
    from mmgcs.training.losses import LOSSES

    places: dict[str, Registry[Any]] = {
        "encoder:": ENCODERS,
        "fusion.model:": FUSIONS,
        "plot.augment:": PLOT_CHANGES,
        "poster.augment:": POSTER_CHANGES,
        "training.loss:": LOSSES,
    }
    parts = []
    for place, registry in places.items():
        parts.append(f"## `{place}`\n")
        parts += [f"### {name}\n\n```text\n{inspect.getdoc(registry[name])}\n```\n" for name in registry]
    return "\n".join(parts)


def card_markdown() -> str:
    """Return the default bundle's model card, its headings one level deeper."""
    from mmgcs.bundle import DEFAULT_BUNDLE

    text = (DEFAULT_BUNDLE / "CARD.md").read_text(encoding="utf-8")
    return re.sub(r"^#", "##", text, flags=re.MULTILINE)


def dependencies_markdown() -> str:
    """Return what each dependency is for, as Markdown, from the comments in pyproject.toml."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    project = tomllib.loads(text)
    groups = {
        "Running": project["project"]["dependencies"],
        **{f"Extra `{name}`": found for name, found in project["project"]["optional-dependencies"].items()},
        **{f"Group `{name}`": found for name, found in project["dependency-groups"].items()},
    }
    parts = []
    for title, requirements in groups.items():
        parts.append(f"### {title}\n\n| package | what for |\n|---|---|")
        for requirement in requirements:
            comment = re.search(rf"""^\s*"{re.escape(requirement)}",\s*# (.+)$""", text, re.MULTILINE)
            parts.append(f"| {requirement} | {_escape(comment[1]) if comment else ''} |")
        parts.append("")
    return "\n".join(parts)


def http_markdown() -> str:
    """Return every endpoint of the server with its requests and responses, as Markdown, from its OpenAPI document."""
    from mmgcs.web import create_app

    value = create_app().test_client().get("/openapi.json").get_json()
    parts = ["## Endpoints\n\n| endpoint | purpose | request | response | errors |\n|---|---|---|---|---|"]
    for path, methods in value["paths"].items():
        for method, operation in methods.items():
            taken = ", ".join(f"{kind}: {_schema(what)}" for kind, what in _content(operation.get("requestBody", {})))
            good = {code: answer for code, answer in operation["responses"].items() if int(code) < 400}
            given = ", ".join(
                f"{code} {_schema(what)}" for code, answer in good.items() for _, what in _content(answer)
            )
            bad = ", ".join(code for code in operation["responses"] if code not in good)
            parts.append(f"| `{method.upper()} {path}` | {_escape(operation['summary'])} | {taken} | {given} | {bad} |")
    parts.append("\n## Schemas\n")
    for name, schema in value["components"]["schemas"].items():
        parts.append(f"### {name}\n\n{schema.get('description', '')}\n\n| key | type | meaning |\n|---|---|---|")
        required = schema.get("required", [])
        for key, what in schema["properties"].items():
            kind = _schema(what) + ("" if key in required else ", optional")
            parts.append(f"| `{key}` | {kind} | {_escape(what.get('description', ''))} |")
        parts.append("")
    return "\n".join(parts)


def settings_markdown() -> str:
    """Return every environment variable that the server reads, as Markdown."""
    from mmgcs.web import Settings

    parts = ["| variable | default | meaning |\n|---|---|---|"]
    for name, setting in Settings.model_fields.items():
        default = "none" if setting.default in (None, "") else str(setting.default)
        parts.append(f"| `MMGCS_{name.upper()}` | {default} | {_cell(setting.description or '')} |")
    return "\n".join([*parts, ""])


def python_markdown() -> str:
    """Return the names that `mmgcs` exports, with signatures and docstrings, as Markdown."""
    import mmgcs

    parts = []
    for name in sorted(set(dir(mmgcs)) - {"__version__"}, key=lambda name: (name[0].isupper(), name)):
        value = getattr(mmgcs, name)
        parts.append(_described_object(f"mmgcs.{name}", value, "##"))
        if inspect.isclass(value) and not issubclass(value, Exception):
            methods = [
                (method, found)
                for method, found in vars(value).items()
                if not method.startswith("_") and (callable(found) or isinstance(found, classmethod | property))
            ]
            parts += [_described_object(f"{name}.{method}", found, "###") for method, found in methods]
    return "\n".join(parts)


def _described_object(name: str, value: Any, heading: str) -> str:
    plain = getattr(value, "__func__", getattr(value, "fget", None) or value)
    try:
        signature = "" if isinstance(value, property) else str(inspect.signature(plain))
    except ValueError:
        signature = ""
    signature = signature.replace("= ''", '= ""').replace("'", "").replace("mmgcs.film.", "")
    signature = re.sub(r"<built-in function (\w+)>", r"\1", re.sub(r"\((?:self|cls)(?:, )?", "(", signature))
    text = _docstring_markdown(inspect.getdoc(plain) or "")
    return f"{heading} {name}\n\n```py\n{name}{signature}\n```\n\n{text}\n"


def _docstring_markdown(text: str) -> str:
    """Return a docstring in Google's style as Markdown: its sections become lists, its examples code."""
    lines: list[str] = []
    section = False
    for line in text.splitlines():
        entry = re.match(r" {4}([\w, *`]+): (.*)", line) if section else None
        if re.fullmatch(r"(Args|Returns|Raises|Attributes|Yields):", line):
            section = line not in ("Returns:", "Yields:")
            lines += [f"**{line[:-1]}**", ""]
        elif entry:
            lines.append(f"- `{entry[1]}`: {entry[2]}")
        elif line.startswith("    ") and lines:
            lines.append(("  " if section else "") + line.strip())
        else:
            section = section and not line.strip()
            lines.append(line)
    joined = "\n".join(lines)
    return re.sub(r"((?:^>>> .*\n?(?:^(?!>>>|$).*\n?)*)+)", r"```pycon\n\1\n```\n", joined, flags=re.MULTILINE)


def _content(part: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [(kind, what.get("schema", {})) for kind, what in part.get("content", {}).items()]


def _schema(what: dict[str, Any]) -> str:
    """Return a JSON schema in a few words, with a link if it has a name."""
    if "$ref" in what:
        name = what["$ref"].rsplit("/", 1)[1]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in what:
        return " or ".join(_schema(choice) for choice in what["anyOf"])
    if "properties" in what:
        return "object with " + ", ".join(f"`{key}`" for key in what["properties"])
    if "required" in what:
        return "object with " + ", ".join(f"`{key}`" for key in what["required"])
    if what.get("type") == "array":
        return f"list of {_schema(what.get('items', {}))}"
    if isinstance(what.get("additionalProperties"), dict):
        return f"object of {_schema(what['additionalProperties'])}"
    return str(what.get("type", "anything"))


def structure_markdown() -> str:
    """Return which folder imports which, as Markdown, from import-linter's graph of the code."""
    import grimp

    graph = grimp.build_graph("mmgcs")
    parts = sorted(graph.find_children("mmgcs"))
    for part in parts:
        graph.squash_module(part)
    rows = []
    for part in sorted(parts, key=lambda part: -len(graph.find_modules_directly_imported_by(part))):
        used = sorted(
            name.removeprefix("mmgcs.")
            for name in graph.find_modules_directly_imported_by(part)
            if name not in (part, "mmgcs")
        )
        rows.append(f"| `{part.removeprefix('mmgcs.')}` | {', '.join(f'`{name}`' for name in used) or 'nothing'} |")
    return "\n".join(["| part | imports |", "|---|---|", *rows])


GENERATED = {
    "commands": cli_markdown,
    "recipes": recipes_markdown,
    "techniques": techniques_markdown,
    "model card": card_markdown,
    "dependencies": dependencies_markdown,
    "settings": settings_markdown,
    "endpoints": http_markdown,
    "python": python_markdown,
    "structure": structure_markdown,
}
"""The parts that a page may contain."""

PLACE = re.compile(r"(^<!-- generated: ([^\n]+?) -->\n).*?(^<!-- end -->$)", re.MULTILINE | re.DOTALL)


def filled(markdown: str) -> str:
    """Return a page with its generated parts made anew. Raises KeyError for a part that is not in `GENERATED`."""
    return PLACE.sub(lambda match: f"{match[1]}\n{GENERATED[match[2]]().strip()}\n\n{match[3]}", markdown)


def recipe_schema() -> str:
    """Return the JSON schema of recipes, which editors use to complete and check them."""
    from mmgcs.training import Recipe

    return json.dumps(Recipe.model_json_schema(), indent=1) + "\n"


def stale_pages(docs: Path = ROOT / "docs") -> dict[Path, str]:
    """Return the files whose generated parts are out of date, with the text that they should have."""
    pages = {path: path.read_text(encoding="utf-8") for path in sorted(docs.rglob("*.md"))}
    made = {path: filled(text) for path, text in pages.items() if "<!-- generated: " in text}
    for path in docs.rglob("recipe.schema.json"):
        pages[path], made[path] = path.read_text(encoding="utf-8"), recipe_schema()
    return {path: text for path, text in made.items() if text != pages[path]}


def main() -> int:
    """Rewrite the pages, or with --check only compare them."""
    stale = stale_pages()
    for path, text in stale.items():
        if "--check" not in sys.argv:
            path.write_text(text, encoding="utf-8")
        print(path.relative_to(ROOT))
    return int(bool(stale) and "--check" in sys.argv)


if __name__ == "__main__":
    sys.exit(main())
