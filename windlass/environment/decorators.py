"""The grammar of decorators: what a comment above a variable can say about it.

::

    line      = "#" *SP decorator *( 1*SP decorator ) [ 1*SP "#" any text ]
    decorator = "@" word [ "(" arguments ")" / "=" value ]
    arguments = [ argument *( "," argument ) ]
    argument  = [ word "=" ] text *( "|" text )
    text      = quoted / 1*( any character but space , | ( ) " ' )
    value     = quoted / word [ "(" arguments ")" ] / 1*( any character but space )
    quoted    = `"` *( any character but `"` ) `"`  /  "'" *( any character but "'" ) "'"

There are no escapes: within quotes every character stands for itself, so a regular expression is written
as it is. What a decorator takes decides which form its value has; the table `DECORATORS` says which.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Final, Literal

Shape = Literal["flag", "names", "text", "number", "type"]


class DecoratorFault(ValueError):
    """A comment that is meant as decorators and cannot be read; no text of it is in the sentence.

    Args:
        what: what is wrong.
        column: where in the comment's text it is, from 0.
        allowed: what would be right.
        nearest: the nearest valid name; empty when there is none.
    """

    def __init__(self, what: str, column: int = 0, allowed: str = "", nearest: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.column = column
        self.allowed = allowed
        self.nearest = nearest


@dataclass(frozen=True)
class DecoratorForm:
    """A decorator there is.

    Args:
        name: the word after `@`.
        form: examples of it, for errors and the documentation.
        description: what it means.
        shape: what it takes: nothing, names of environments, a text, a number or a type.
        optional: it may also stand alone.
    """

    name: str
    form: str
    description: str
    shape: Shape = "flag"
    optional: bool = False


DECORATORS: Final = (
    DecoratorForm(
        "required",
        "@required` or `@required(prod, staging)",
        "The variable must have a value, in every environment or in those named. An empty value is none; "
        "the default counts.",
        "names",
        optional=True,
    ),
    DecoratorForm("optional", "@optional", "The variable may be left out; so it is without `@required`."),
    DecoratorForm("sensitive", "@sensitive", "The value is secret, whatever its name and form."),
    DecoratorForm(
        "public",
        "@public",
        "The value is not secret though its name says so. A value that is referenced, a private key, a URL "
        "with a password and a token of a known form stay secret, as do names in `variables.secret`.",
    ),
    DecoratorForm("type", "@type=int(min=1)", "What the value must be: one of the types below.", "type"),
    DecoratorForm(
        "example",
        "@example=30` or `@example='two words'",
        "A value to show in `.env.example`; it must be of the type.",
        "text",
    ),
    DecoratorForm(
        "min_entropy",
        "@min_entropy=128",
        "The least strength of a secret in bits, estimated from its length, its kinds of characters and "
        "its repetitions. `0` switches the checks of strength off.",
        "number",
    ),
    DecoratorForm(
        "deprecated",
        '@deprecated` or `@deprecated="use CACHE_URL"',
        "A warning where the variable is set.",
        "text",
        optional=True,
    ),
)
_BY_NAME: Final = {each.name: each for each in DECORATORS}


@dataclass(frozen=True)
class Argument:
    """One argument: `min=1` has a name, `a|b` has two alternatives and no name."""

    name: str
    texts: tuple[str, ...]
    column: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Call:
    """A word with arguments: `url(schemes=http|https)`."""

    name: str
    arguments: tuple[Argument, ...] = ()
    column: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Decorator:
    """A decorator as it stands in a comment.

    Args:
        form: which it is.
        text: its value, for those that take a text or a number; empty when it stands alone.
        call: its value, for those that take a type.
        names: its arguments, for those that take names of environments.
        column: where it begins in the comment's text, from 0.
    """

    form: DecoratorForm
    text: str = ""
    call: Call | None = None
    names: tuple[str, ...] = ()
    column: int = field(default=0, compare=False)


_MEANT: Final = re.compile(r"@[A-Za-z]")
_WORD: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_SPACE: Final = re.compile(r"[ \t]*")
_BARE_ARGUMENT: Final = re.compile(r"""[^\s,|()"']+""")
_BARE_VALUE: Final = re.compile(r"\S+")
_OPTION: Final = re.compile(r"(?P<name>[A-Za-z_]+)=")
# C0 and C1 but the tab: they would control the terminal or break the line of what is written from it.
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")
_NUMBER: Final = re.compile(r"[0-9]{1,5}")


def is_meant(comment: str) -> bool:
    """Whether a comment, with its `#`, is a line of decorators: `@` and a letter come first."""
    return _MEANT.match(_text(comment)) is not None


def names_known(comment: str) -> bool:
    """Whether a comment begins with a decorator that there is."""
    word = _WORD.match(_text(comment), 1) if is_meant(comment) else None
    return word is not None and word[0] in _BY_NAME


def parse(comment: str) -> tuple[Decorator, ...]:
    """Read the decorators of a comment, with its `#`, for which `is_meant`.

    Raises:
        DecoratorFault: it cannot be read.
    """
    text = _text(comment)
    if control := _CONTROL.search(text):
        raise DecoratorFault("holds a control character", control.start())
    return tuple(_Reader(text).decorators())


def description_of(comment: str) -> str:
    """Return the words of a comment without its `#` and without control characters."""
    return _CONTROL.sub("", _text(comment)).strip()


def _text(comment: str) -> str:
    return comment.strip().removeprefix("#").strip()


class _Reader:
    """Reads a line from left to right; what it cannot read it refuses at once."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def decorators(self) -> list[Decorator]:
        found: list[Decorator] = []
        while self._at < len(self._text) and self._text[self._at] != "#":
            found.append(self._decorator())
            before = self._at
            self._space()
            if self._at < len(self._text) and before == self._at:
                raise DecoratorFault("a decorator ends with a space", self._at, found[-1].form.form)
        return found

    def _decorator(self) -> Decorator:
        column = self._at
        if not self._take("@"):
            raise DecoratorFault(
                "a line of decorators holds nothing else", column, "a comment after `#`, or a line of its own"
            )
        form = self._form(column)
        if form.shape == "names" and self._take("("):
            return Decorator(form, names=self._names(form), column=column)
        if form.shape in {"text", "number", "type"} and self._take("="):
            return self._with_value(form, column)
        if self._at < len(self._text) and self._text[self._at] in "=(":
            raise DecoratorFault(f"`@{form.name}` is not written like this", self._at, f"`{form.form}`")
        if form.shape != "flag" and not form.optional:
            raise DecoratorFault(f"`@{form.name}` needs a value", self._at, f"`{form.form}`")
        return Decorator(form, column=column)

    def _form(self, column: int) -> DecoratorForm:
        word = self._match(_WORD)
        if word not in _BY_NAME:
            close = get_close_matches(word.lower(), _BY_NAME, 1)
            allowed = ", ".join(f"@{name}" for name in _BY_NAME)
            raise DecoratorFault(
                "there is no such decorator", column, allowed, f"@{close[0]}" if close else ""
            )
        return _BY_NAME[word]

    def _with_value(self, form: DecoratorForm, column: int) -> Decorator:
        at = self._at
        if form.shape == "type":
            return Decorator(form, call=self._call(), column=column)
        text = self._quoted()
        if text is None:
            text = self._match(_BARE_VALUE)
        if not text or (form.shape == "number" and not _NUMBER.fullmatch(text)):
            what = "is a whole number" if form.shape == "number" else "is a text"
            raise DecoratorFault(f"the value of `@{form.name}` {what}", at, f"`{form.form}`")
        return Decorator(form, text=text, column=column)

    def _names(self, form: DecoratorForm) -> tuple[str, ...]:
        at = self._at
        arguments = self._arguments()
        if not arguments or any(each.name for each in arguments):
            raise DecoratorFault(f"`@{form.name}(…)` takes names", at, f"`{form.form}`")
        return tuple(text for each in arguments for text in each.texts)

    def _call(self) -> Call:
        column = self._at
        word = self._match(_WORD)
        if not word:
            raise DecoratorFault("a type is a word", column, "`int` or `int(min=1)`")
        return Call(word, self._arguments() if self._take("(") else (), column)

    def _arguments(self) -> tuple[Argument, ...]:
        """Read up to the closing parenthesis; the opening one is read already."""
        found: list[Argument] = []
        self._space()
        if self._take(")"):
            return ()
        while True:
            found.append(self._argument())
            if self._take(")"):
                return tuple(found)
            if not self._take(","):
                raise DecoratorFault("the parenthesis is not closed", self._at, "`(first, second)`")

    def _argument(self) -> Argument:
        self._space()
        column = self._at
        option = _OPTION.match(self._text, self._at)
        if option:
            self._at = option.end()
        texts = [self._alternative()]
        while self._take("|"):
            texts.append(self._alternative())
        return Argument(option["name"] if option else "", tuple(texts), column)

    def _alternative(self) -> str:
        self._space()
        at = self._at
        quoted = self._quoted()
        text = self._match(_BARE_ARGUMENT) if quoted is None else quoted
        if not text:
            raise DecoratorFault(
                "an argument is empty or holds a sign that needs quotes", at, "`name=text` or `'any text'`"
            )
        self._space()
        return text

    def _quoted(self) -> str | None:
        """Read a text in quotes; None when there is none here."""
        quote = self._text[self._at : self._at + 1]
        if quote not in {'"', "'"}:
            return None
        end = self._text.find(quote, self._at + 1)
        if end < 0:
            raise DecoratorFault("the quotes are not closed", self._at)
        text = self._text[self._at + 1 : end]
        self._at = end + 1
        return text

    def _take(self, sign: str) -> bool:
        found = self._text.startswith(sign, self._at)
        self._at += len(sign) if found else 0
        return found

    def _match(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        if match is None:
            return ""
        self._at = match.end()
        return match[0]

    def _space(self) -> None:
        self._match(_SPACE)
