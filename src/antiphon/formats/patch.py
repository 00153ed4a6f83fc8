"""What a codec's own way of writing leaves out, as a patch. No I/O.

A codec has one way to write a value (the *canonical* form). What it read may say the same in another way, so it keeps
`diff(canonical, read)` beside the decoded value and gives back `apply(canonical, patch)`, which equals what was read:
that is how the fourth law of codecs holds by construction rather than by a list of cases.

A patch remembers the values it replaces. Where one of them has changed since, that level of the patch is stale and is
passed over whole, so that it can never bring back a value that somebody changed on purpose; likewise all of it below an
array that grew or shrank, whose places mean something else now.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from antiphon.chat.messages import Patch
from antiphon.formats.json import is_array, is_object, same

__all__ = ["apply", "diff"]

_ABSENT: Any = object()


def diff(canonical: Mapping[str, Any], actual: Mapping[str, Any]) -> Patch | None:
    """Return what makes *actual* of *canonical*, both JSON objects, or `None` where they are the same."""
    return _diff(canonical, actual, None)


def _diff(canonical: Mapping[Any, Any], actual: Mapping[Any, Any], size: int | None) -> Patch | None:
    changed: dict[Any, Any] = {}
    sub: dict[Any, Patch] = {}
    old = {key: value for key, value in canonical.items() if key not in actual}
    for key, new in actual.items():
        before = canonical.get(key, _ABSENT)
        if before is new:
            continue
        patch = None
        if is_object(new) and is_object(before):
            patch = _diff(before, new, None)
        elif is_array(new) and is_array(before) and len(before) == len(new):
            patch = _diff(_places(before), _places(new), len(new))
        elif type(before) is not type(new) or before != new:
            changed[key] = new
            if before is not _ABSENT:
                old[key] = before
        if patch is not None:
            sub[key] = patch
    return Patch(changed, old, sub, size) if changed or old or sub else None


def _places(array: list[Any]) -> dict[Any, Any]:
    return dict(enumerate(array))


def apply(canonical: Any, patch: Patch | None) -> Any:
    """Return *canonical*, a JSON object or array, as *patch* makes it; neither is changed."""
    if patch is None or patch.size != (len(canonical) if is_array(canonical) else None):
        return canonical
    array = is_array(canonical)
    result = _places(canonical) if array else dict(canonical)
    if _fits(result, patch):
        result.update(patch.set)
        for key in patch.old:
            if key not in patch.set:
                del result[key]
    for key, sub in patch.sub.items():
        if type(result.get(key)) in (dict, list):
            result[key] = apply(result[key], sub)
    return list(result.values()) if array else result


def _fits(values: dict[Any, Any], patch: Patch) -> bool:
    """Whether the values that *patch* replaces are still what they were."""
    for key in patch.set:
        if key not in patch.old and key in values:
            return False
    return all(same(values.get(key, _ABSENT), before) for key, before in patch.old.items())
