"""Check JSON against the parts of JSON Schema that framecnn's schema uses."""

KINDS = {
    "array": list,
    "boolean": bool,
    "integer": int,
    "null": type(None),
    "number": int | float,
    "object": dict,
    "string": str,
}


def problems(value, schema, root, place="$"):
    """Yield what is wrong with a value, with its place, such as ``$.movies[0].label``."""
    if "$ref" in schema:
        yield from problems(value, root["$defs"][schema["$ref"].removeprefix("#/$defs/")], root, place)
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(is_kind(value, kind) for kind in kinds):
        yield f"{place}: expected {kinds}, got {value!r}"
        return
    if value is not None:
        yield from (f"{place}: {value} is too small" for _ in range("minimum" in schema and value < schema["minimum"]))
        yield from (f"{place}: {value} is too large" for _ in range("maximum" in schema and value > schema["maximum"]))
    if "const" in schema and value != schema["const"]:
        yield f"{place}: expected {schema['const']!r}, got {value!r}"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{place}: expected one of {schema['enum']}, got {value!r}"
    if isinstance(value, list):
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
            yield f"{place}: {len(value)} items"
        for number, item in enumerate(value):
            yield from problems(item, schema.get("items", {}), root, f"{place}[{number}]")
    if isinstance(value, dict):
        yield from (f"{place}: {key} is missing" for key in schema.get("required", ()) if key not in value)
        known = schema.get("properties", {})
        for key, item in value.items():
            yield from problems(item, known.get(key, schema.get("additionalProperties", {})), root, f"{place}.{key}")
    for each in schema.get("allOf", ()):
        yield from problems(value, each, root, place)
    if "if" in schema and not any(problems(value, schema["if"], root, place)):
        yield from problems(value, schema["then"], root, place)


def is_kind(value, kind):
    """Return whether a value has a type of JSON; true and false are no numbers."""
    return isinstance(value, KINDS[kind]) and (kind == "boolean" or not isinstance(value, bool))
