"""Bodies as their structs, and what is said of one that is none."""

import difflib
import re
from collections.abc import Mapping
from typing import Any, Final, NoReturn, TypeVar

import msgspec
from msgspec import inspect

from app.config import METADATA_DEPTH_MAX
from app.errors import InvalidJSON, InvalidRequest

T = TypeVar("T")

_PATH: Final = re.compile(r" - at (?:`key` in )?`\$(.*)`\Z")
_NAMED_FIELD: Final = re.compile(r"field `([^`]*)`")
_EXPECTED: Final = re.compile(r"Expected `([^`]*)`(.*?)(?:, got `([^`]*)`)?\Z")
_WORDS: Final = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "object": "an object",
    "array": "a list",
}


def decode_json(decoder: "msgspec.json.Decoder[T]", raw: bytes) -> T:
    """A body as its struct.

    Raises:
        InvalidJSON: it is no JSON in UTF-8, or nested too deeply for the parser.
        InvalidRequest: it is not of the struct's shape; `field` names where.

    """
    try:
        body = decoder.decode(raw)
    except msgspec.ValidationError as error:
        _raise_invalid(str(error), decoder.type)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidJSON from error
    except RecursionError as error:
        raise InvalidJSON("The request body is nested too deeply.") from error
    if metadata := getattr(body, "metadata", None):
        _check_depth(metadata)
    return body


def convert(fields: Mapping[str, Any], shape: type[T]) -> T:
    """Fields at hand as their struct, checked as those of a body are.

    Raises:
        InvalidRequest: they are not of the struct's shape; `field` names where.

    """
    try:
        return msgspec.convert(fields, shape)
    except msgspec.ValidationError as error:
        _raise_invalid(str(error), shape)


def _check_depth(metadata: Mapping[str, Any]) -> None:
    """Refuses what could be written and not read again: encoders and decoders recurse, each from a depth of its own."""
    level: list[Any] = [metadata]
    for _ in range(METADATA_DEPTH_MAX):
        inside = (one.values() if isinstance(one, Mapping) else one for one in level)
        level = [each for values in inside for each in values if isinstance(each, dict | list)]
        if not level:
            return
    raise InvalidRequest(
        f"metadata: objects and lists go {METADATA_DEPTH_MAX} deep at most inside of each other.", field="metadata"
    )


def _raise_invalid(text: str, shape: Any) -> NoReturn:
    where = _PATH.search(text)
    path = where[1].replace("[...]", "").lstrip(".") if where else ""
    problem = text[: where.start()] if where else text
    named = _NAMED_FIELD.search(problem)
    field = ".".join(part for part in (path, named[1] if named else "") if part)
    raise InvalidRequest(f"{field or 'body'}: {_sentence(problem, shape, path)}.", field=field or "body")


def _sentence(problem: str, shape: Any, path: str) -> str:
    """What msgspec found wrong, without the names of types."""
    if (expected := _EXPECTED.search(problem)) is not None:
        wanted, bounds, got = expected.groups()
        return f"it must be {_in_words(wanted)}{bounds}" + (f", not {_in_words(got)}" if got else "")
    if "unknown field" in problem and (named := _NAMED_FIELD.search(problem)) is not None:
        near = difflib.get_close_matches(named[1], _fields_at(shape, path), n=1)
        return "there is no such field" + (f"; perhaps it is {near[0]}" if near else "")
    if "missing required field" in problem:
        return "it is missing"
    if problem.startswith("Invalid enum value"):
        return f"it must be one of {', '.join(_choices_at(shape, path))}"
    return problem


def _in_words(types: str) -> str:
    return " or ".join(_WORDS.get(name, name) for name in types.split(" | "))


def _fields_at(shape: Any, path: str) -> list[str]:
    found = (kind for kind in _types_at(shape, path) if isinstance(kind, inspect.StructType))
    return [field.encode_name for kind in found for field in kind.fields]


def _choices_at(shape: Any, path: str) -> list[str]:
    found = (kind for kind in _types_at(shape, path) if isinstance(kind, inspect.LiteralType))
    return [str(value) for kind in found for value in kind.values]


def _types_at(shape: Any, path: str) -> list[inspect.Type]:
    """What the struct has at a place such as `spend_limit.per` or `scopes[0]`."""
    kinds = _alternatives(inspect.type_info(shape))
    for name in re.findall(r"[^.\[\]]+", path):
        inner: list[inspect.Type] = []
        for kind in kinds:
            if isinstance(kind, inspect.StructType):
                inner += [field.type for field in kind.fields if field.encode_name == name]
            elif isinstance(kind, inspect.ListType | inspect.VarTupleType | inspect.SetType | inspect.FrozenSetType):
                inner.append(kind.item_type)
        kinds = [each for kind in inner for each in _alternatives(kind)]
    return kinds


def _alternatives(kind: inspect.Type) -> list[inspect.Type]:
    if isinstance(kind, inspect.Metadata):
        kind = kind.type
    return list(kind.types) if isinstance(kind, inspect.UnionType) else [kind]
