"""Knows which settings are secret, and keeps their values out of all that is written for people. Reads nothing."""

import json
import re
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping

HIDDEN = "***"
SHORTEST = 6  # characters: a shorter one would punch holes into every word
SHORTEST_TOKEN = 8
PLAIN = re.compile(r"true|false|none|null|[\d.]+", re.IGNORECASE)  # switches and counts are no secrets, by any name

SECRET_NAME = re.compile(
    r"pass(?:word|wd|phrase)?(?![a-z])|secret|token|credential|authorization|signature"
    r"|(?<![a-z])(?:api|access|account|private)?[._-]?key(?![a-z])",
    re.IGNORECASE,
)
ASSIGNED = re.compile(r"([\w.-]+)=([^\s;&'\",]+)")
USER_INFO = re.compile(r"(?<=://)[^/?#\s'\"]*@")


def is_secret_name(name: str) -> bool:
    """Whether a setting, parameter or variable of this name holds a secret: password, token, fs.s3a.secret.key."""
    return bool(SECRET_NAME.search(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name)))


def named_secrets(values: Mapping[str, str]) -> Iterator[str]:
    """The secrets among settings: values of secret names, and what addresses and `name=value` texts carry."""
    for name, value in values.items():
        if is_secret_name(name):
            yield value
        yield from _carried(value)


def secrets_of_address(address: str) -> Iterator[str]:
    """The secrets in the address of a service: itself, its password and parameters, and what looks like a token."""
    yield address
    yield from _carried(address)
    parts = urllib.parse.urlsplit(re.sub(r"^[^:]*(?=://)", "http", address), allow_fragments=False)
    pieces = (*re.split("[@:]", parts.netloc), parts.netloc, *parts.path.split("/"))
    yield from (p for p in pieces if len(p) >= SHORTEST_TOKEN and "." not in p and any(c.isdigit() for c in p))


def spelled(secrets: Iterable[str]) -> tuple[str, ...]:
    """Every form that secrets may be written in, the longest first; without those too short or plain to find."""
    found = dict.fromkeys(s for s in secrets if len(s) >= SHORTEST and not PLAIN.fullmatch(s))
    forms = {form for s in found for form in (s, urllib.parse.unquote(s), json.dumps(s)[1:-1], repr(s)[1:-1])}
    return tuple(sorted(forms, key=lambda s: (-len(s), s)))


def hidden(text: str, secrets: Iterable[str]) -> str:
    """The text with these secrets (`spelled`) taken out."""
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    return text


def masked(text: str) -> str:
    """The text without what looks like a secret: users in addresses, and values of secret names."""
    text = USER_INFO.sub(f"{HIDDEN}@", text)
    return ASSIGNED.sub(lambda m: f"{m[1]}={HIDDEN}" if is_secret_name(m[1]) else m[0], text)


def _carried(value: str) -> Iterator[str]:
    for user in USER_INFO.findall(value):
        yield user[:-1].partition(":")[2]
    yield from (assigned for name, assigned in ASSIGNED.findall(value) if is_secret_name(name))
