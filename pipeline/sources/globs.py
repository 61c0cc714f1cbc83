"""Compares file globs: whether one name can match two of them."""

from functools import cache

_ANY = frozenset(map(chr, range(32, 127)))


def overlap(a: str, b: str) -> bool:
    """Returns whether one file name can match both globs."""
    left = _tokens(a)
    right = _tokens(b)

    @cache
    def rest_overlaps(i: int, j: int) -> bool:
        if i == len(left) or j == len(right):
            return all(token is None for token in (*left[i:], *right[j:]))
        one, other = left[i], right[j]
        if one is None:
            return rest_overlaps(i + 1, j) or rest_overlaps(i, j + 1)
        if other is None:
            return rest_overlaps(i, j + 1) or rest_overlaps(i + 1, j)
        return bool(one & other) and rest_overlaps(i + 1, j + 1)

    return rest_overlaps(0, 0)


def _tokens(glob: str) -> list[frozenset[str] | None]:
    """Returns the characters that each position of the glob matches, and None for a star. Case matters."""
    tokens: list[frozenset[str] | None] = []
    at = 0
    while at < len(glob):
        end = glob.find("]", at + 2 + glob.startswith("!", at + 1)) if glob[at] == "[" else -1
        if end > 0:
            tokens.append(_character_class(glob[at + 1 : end]))
            at = end
        else:
            tokens.append(None if glob[at] == "*" else _ANY if glob[at] == "?" else frozenset(glob[at]))
        at += 1
    return tokens


def _character_class(text: str) -> frozenset[str]:
    inner = text.removeprefix("!")
    matched = set[str]()
    at = 0
    while at < len(inner):
        is_range = inner[at + 1 : at + 2] == "-" and at + 2 < len(inner)
        matched |= set(map(chr, range(ord(inner[at]), ord(inner[at + 2]) + 1))) if is_range else {inner[at]}
        at += 3 if is_range else 1
    return _ANY - matched if text.startswith("!") else frozenset(matched)
