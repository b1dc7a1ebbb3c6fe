"""A Tcl interpreter, the system's ``tclsh``, whose unknown commands are answered by Python."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

Handler = Callable[[str, list[str]], str]
"""Gets the name of a command and its words, returns its result; raises TclError."""

# Every word travels as hexadecimal digits behind an "x", so that none is empty or has spaces.
_PRELUDE = """\
namespace eval handler {
    variable requests [open /dev/fd/@REQUESTS@ w]
    variable replies [open /dev/fd/@REPLIES@ r]
    proc call {args} {
        variable requests
        variable replies
        foreach word $args {
            lappend words x[binary encode hex [encoding convertto utf-8 $word]]
        }
        puts $requests $words
        flush $requests
        lassign [gets $replies] status word
        set text [encoding convertfrom utf-8 [binary decode hex [string range $word 1 end]]]
        return -code $status $text
    }
}
foreach name {@COMMANDS@} {
    interp alias {} $name {} handler::call $name
}
set argv {@ARGUMENTS@}
set argc [llength $argv]
if {[catch {source {@SCRIPT@}} message options]} {
    puts stderr [dict get $options -errorinfo]
    exit 1
}
"""


class TclError(RuntimeError):
    """A script failed, or a command that it calls refuses what it is given."""


def run(
    script: Path, commands: Iterable[str], handler: Handler, arguments: Sequence[str] = ()
) -> str:
    """Run `script`; return what it printed.

    Parameters
    ----------
    script : Path
        The file.
    commands : iterable of str
        The commands that `handler` answers; any other unknown command is an error.
    handler : Handler
        Answers them.
    arguments : sequence of str
        What the script finds in ``argv``.

    Raises
    ------
    TclError
        With the interpreter's trace.
    FileNotFoundError
        There is no ``tclsh``.
    """
    tclsh = shutil.which("tclsh")
    if tclsh is None:
        raise FileNotFoundError("no tclsh is on the path; the package is called tcl")
    request_read, request_write = os.pipe()
    reply_read, reply_write = os.pipe()
    text = _PRELUDE
    for name, value in {
        "REQUESTS": str(request_write), "REPLIES": str(reply_read),
        "COMMANDS": " ".join(commands), "ARGUMENTS": join(arguments), "SCRIPT": str(script),
    }.items():
        text = text.replace(f"@{name}@", value)
    with tempfile.TemporaryDirectory() as directory:
        prelude = Path(directory) / "prelude.tcl"
        prelude.write_text(text)
        log = Path(directory) / "log"
        with log.open("w") as output:
            process = subprocess.Popen(
                [tclsh, str(prelude)], pass_fds=(request_write, reply_read), stdout=output,
                stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        os.close(request_write)
        os.close(reply_read)
        with os.fdopen(request_read) as requests, os.fdopen(reply_write, "w") as replies:
            _serve(requests, replies, handler)
        status = process.wait()
        printed = log.read_text()
    if status:
        raise TclError(printed)
    return printed


def _serve(requests: Iterable[str], replies: object, handler: Handler) -> None:
    for line in requests:
        name, *words = (bytes.fromhex(word[1:]).decode() for word in line.split())
        try:
            status, result = "ok", handler(name, words)
        except TclError as error:
            status, result = "error", str(error)
        print(status, f"x{result.encode().hex()}", file=replies, flush=True)  # type: ignore[call-overload]


def join(words: Iterable[object]) -> str:
    """Return words as a Tcl list."""
    texts = [str(word) for word in words]
    return " ".join(
        f"{{{text}}}" if not text or set(text) & set(' \t\n{}"$[];\\') else text for text in texts)


def split(text: str) -> list[str]:
    """Return the words of a Tcl list of bare, braced and quoted words."""
    words, index = [], 0
    text = text.replace("\\\n", " ")
    while index < len(text):
        if text[index].isspace():
            index += 1
            continue
        if text[index] in '{"':
            end = _closing(text, index)
            words.append(text[index + 1:end])
            index = end + 1
        else:
            end = index
            while end < len(text) and not text[end].isspace():
                end += 1
            words.append(text[index:end])
            index = end
    return words


def _closing(text: str, start: int) -> int:
    if text[start] == '"':
        end = text.find('"', start + 1)
        if end < 0:
            raise TclError(f"list with an open quote: {text!r}")
        return end
    depth = 0
    for index in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[index], 0)
        if not depth:
            return index
    raise TclError(f"list with an open brace: {text!r}")
