"""Whose face a file shows, by its path: templates for the layouts of the public collections, and for one's own.

A template is the end of a path without suffix. `{name}` stands for a piece of one folder's or file's name, `{name*}`
may reach over folders. `{frame}` says that an image is one frame of the clip that its folder is. The person is
`{identity}`, else `{video}`, else `{clip}`; the clip is named by all fields but the person and the frame.
"""

import re
from pathlib import PurePosixPath
from typing import NamedTuple

LAYOUTS: dict[str, tuple[str, ...]] = {
    "video": ("{clip*}/{frame}", "{frame}", "{clip*}"),  # every video and every folder of images is a person
    "folder": ("{identity}/{clip*}/{frame}", "{identity}/{frame}", "{identity}/{clip*}"),  # the first folder is
    "stills": ("{clip*}",),  # every photograph is: FFHQ
    "voxceleb2": ("{identity}/{video}/{clip}",),
    "mead": ("{identity}/video/{angle}/{emotion}/{level}/{clip}",),
    "celebvhq": ("{clip}",),  # names no person: pairs within a clip
    "talkinghead1kh": ("{video}_{clip}_S{start}_E{end}_L{left}_T{top}_R{right}_B{bottom}",),
    "vfhq": ("Clip+{identity}+{shot}+{range}/{frame}",),  # identity: the video and the number of the person in it
}


# The fields that a template may have: those of the collections, and others by which recordings are often sorted.
_FIELD = re.compile(r"\{(\w+\*?)\}")
_KNOWN = dict.fromkeys(
    [
        *("identity", "video", "session", "clip", "frame"),
        *(name.rstrip("*") for templates in LAYOUTS.values() for text in templates for name in _FIELD.findall(text)),
    ]
)


class Place(NamedTuple):
    """What a path says."""

    identity: str
    clip: str
    is_frame: bool  # one image of several that make up the clip


class Layout:
    """Matches paths against templates, in order.

    Raises:
      ValueError: neither the name of a known layout nor a template.
    """

    def __init__(self, text: str) -> None:
        if text not in LAYOUTS and "{" not in text:
            known = ", ".join(LAYOUTS)
            raise ValueError(f"layout {text!r}: choose {known}, or a template like {{identity}}/{{clip}}")
        self.name = text
        self._patterns = [_pattern(template) for template in LAYOUTS.get(text, (text,))]

    def place(self, path: PurePosixPath, *, is_video: bool, root: str) -> Place | None:
        """Person and clip of a file at `path` below the folder named `root`; None if the path does not fit."""
        for pattern in self._patterns:
            is_frame = "frame" in pattern.groupindex
            match = pattern.fullmatch(str(path.with_suffix("")))
            if match and not (is_frame and is_video):
                fields = {name: text.replace("/", "-") for name, text in match.groupdict().items() if name != "frame"}
                clip = "-".join(text for name, text in fields.items() if name != "identity")
                identity = fields.get("identity") or fields.get("video") or fields.get("clip") or root
                return Place(identity, clip or identity, is_frame)
        return None


def _pattern(template: str) -> re.Pattern[str]:
    pieces = _FIELD.split(template)
    unknown = [name for name in pieces[1::2] if name.rstrip("*") not in _KNOWN]
    if unknown:
        raise ValueError(f"layout {template!r}: {{{unknown[0]}}} is no field of a path; there are {', '.join(_KNOWN)}")
    names = [f"(?P<{name.rstrip('*')}>{'.+' if name.endswith('*') else '[^/]+'})" for name in pieces[1::2]]
    literals = [re.escape(piece) for piece in pieces[::2]]
    body = "".join(literal + name for literal, name in zip(literals, [*names, ""], strict=True))
    try:
        return re.compile(f"(?:.*/)??{body}")
    except re.error as error:
        raise ValueError(f"layout {template!r} is not a template: {error}") from error
