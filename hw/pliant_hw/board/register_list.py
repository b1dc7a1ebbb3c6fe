"""The registers for people and for programs that read no IP-XACT: Markdown and JSON."""

from __future__ import annotations

import json
from typing import Any

from pliant.spec.config import AcceleratorConfig
from pliant.spec.platform import Platform
from pliant.spec.register_words import Word, words


def register_json(platform: Platform, config: AcceleratorConfig) -> str:
    """Return all 32-bit registers with their bit fields, as JSON."""
    document = {
        "base_address": f"0x{platform.core_address:08x}",
        "registers": [_word(word) for word in words(config)],
    }
    return json.dumps(document, indent=2) + "\n"


def _word(word: Word) -> dict[str, Any]:
    return {
        "name": word.name, "offset": f"0x{word.address:03x}", "access": word.access.value,
        "reset": f"0x{word.reset:08x}", "description": word.doc,
        "fields": [{
            "name": field.name, "offset": field.offset, "width": field.width,
            "description": field.doc,
            "values": {name: value for name, value, _ in field.values},
        } for field in word.fields],
    }


def register_markdown(platform: Platform, config: AcceleratorConfig) -> str:
    """Return a table of all 32-bit registers and their bit fields."""
    lines = [
        f"# Registers of pliant_core on {platform.name}", "",
        f"From 0x{platform.core_address:08x} on. Access `ro` is read-only, `rw` read and write; "
        "in a `w1` register writing 1 to a bit acts and writing 0 does nothing.", "",
        "| offset | name | access | reset | meaning |", "| --- | --- | --- | --- | --- |",
    ]
    for word in words(config):
        lines.append(f"| 0x{word.address:03x} | `{word.name}` | {word.access.value} | "
                     f"0x{word.reset:08x} | {word.doc} |")
    for word in words(config):
        if word.fields:
            lines += ["", f"## `{word.name}`", "", "| bits | name | meaning |",
                      "| --- | --- | --- |"]
            for field in word.fields:
                top = field.offset + field.width - 1
                bits = f"{top}" if field.width == 1 else f"{top}:{field.offset}"
                lines.append(f"| {bits} | `{field.name}` | {field.doc} |")
                lines += [f"| | = {value} | `{name}` {doc} |" for name, value, doc in field.values]
    return "\n".join(lines) + "\n"
