"""The order of the events of one key, as S3 tells it. Pure.

Source: S3 user guide, "Event message structure", and AWS re:Post, "Why do I see duplicate messages
in Amazon SQS for the same Amazon S3 event?". (An early edition of the guide says *left* pad; it
was corrected.)
"""

from __future__ import annotations

import re

_HEXADECIMAL = re.compile(r"[0-9A-Fa-f]+", re.ASCII)


def place(sequencer: str | None) -> str | None:
    """Return a text that sorts as the event does among those of its key; None if it has no place.

    AWS pads the shorter of two hexadecimal sequencers on the right with zeros and compares them as
    text. To take the zeros away at the right is the same, and needs no other to compare with: of
    two texts of which one begins with the other, the shorter sorts first.
    """
    if sequencer is None or not _HEXADECIMAL.fullmatch(sequencer):
        return None
    return sequencer.upper().rstrip("0")
