"""Finds the secret settings by name and removes their values from all text for people. Reads no file."""

import json
import re
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping

_MASK = "***"
_MIN_LENGTH = 6  # characters: a shorter secret would occur in ordinary words
_MIN_TOKEN_LENGTH = 8
_PLAIN = re.compile(r"true|false|none|null|[\d.]+", re.IGNORECASE)  # switches and numbers are never secret

_SECRET_NAME = re.compile(
    r"pass(?:word|wd|phrase)?(?![a-z])|secret|token|credential|authorization|signature"
    r"|(?<![a-z])(?:api|access|account|private)?[._-]?key(?![a-z])",
    re.IGNORECASE,
)
_ASSIGNMENT = re.compile(r"([\w.-]+)=([^\s;&'\",]+)")
_USER_INFO = re.compile(r"(?<=://)[^/?#\s'\"]*@")


def is_secret_name(name: str) -> bool:
    """Returns whether a setting, parameter or variable of this name holds a secret: password, fs.s3a.secret.key."""
    return bool(_SECRET_NAME.search(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name)))


def named_secrets(values: Mapping[str, str]) -> Iterator[str]:
    """Yields the values of secret names, and the secrets inside of addresses and `name=value` texts."""
    for name, value in values.items():
        if is_secret_name(name):
            yield value
        yield from _inner_secrets(value)


def secrets_of_address(address: str) -> Iterator[str]:
    """Yields the address of a service, its password and parameters, and the parts that look like a token."""
    yield address
    yield from _inner_secrets(address)
    parts = urllib.parse.urlsplit(re.sub(r"^[^:]*(?=://)", "http", address), allow_fragments=False)
    pieces = (*re.split("[@:]", parts.netloc), parts.netloc, *parts.path.split("/"))
    yield from (p for p in pieces if len(p) >= _MIN_TOKEN_LENGTH and "." not in p and any(c.isdigit() for c in p))


def all_spellings(secrets: Iterable[str]) -> tuple[str, ...]:
    """Returns every spelling of the secrets (plain, URL-decoded, in JSON, in Python), the longest first.

    Secrets that are too short or too plain to find are left out.
    """
    findable = dict.fromkeys(s for s in secrets if len(s) >= _MIN_LENGTH and not _PLAIN.fullmatch(s))
    forms = {form for s in findable for form in (s, urllib.parse.unquote(s), json.dumps(s)[1:-1], repr(s)[1:-1])}
    return tuple(sorted(forms, key=lambda s: (-len(s), s)))


def hide_secrets(text: str, secrets: Iterable[str]) -> str:
    """Returns the text with these secrets, which `all_spellings` lists, replaced by `***`."""
    for secret in secrets:
        text = text.replace(secret, _MASK)
    return text


def mask_secrets(text: str) -> str:
    """Returns the text without the parts that look like a secret: users in addresses, and values of secret names."""
    text = _USER_INFO.sub(f"{_MASK}@", text)
    return _ASSIGNMENT.sub(lambda m: f"{m[1]}={_MASK}" if is_secret_name(m[1]) else m[0], text)


def _inner_secrets(value: str) -> Iterator[str]:
    for user in _USER_INFO.findall(value):
        yield user[:-1].partition(":")[2]
    yield from (assigned for name, assigned in _ASSIGNMENT.findall(value) if is_secret_name(name))
