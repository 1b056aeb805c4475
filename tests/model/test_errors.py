"""Messages that repeat what is as long as a file."""

import pytest

from reconciler.model.errors import LONGEST, TransportError
from reconciler.model.secret import Redactor

SECRET = "s3cr3t-0123456789-abcdefghij"


@pytest.mark.parametrize("before", [LONGEST // 2 - len(SECRET), LONGEST // 2 - 9, LONGEST // 2 - 1])
def test_no_half_of_a_secret_is_left_where_a_message_is_cut(before: int) -> None:
    redactor = Redactor()
    redactor.learn([SECRET])
    words = "x" * (before - 1) + f" {SECRET} " + "y " * LONGEST
    for text in (words, words[::-1].replace(SECRET[::-1], SECRET)):
        shown = redactor.redact(str(TransportError(text, left=False)))
        assert len(shown) <= LONGEST + 3
        assert SECRET[:8] not in shown
        assert SECRET[-8:] not in shown
