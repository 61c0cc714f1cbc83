"""One line of an error: its first paragraph, without secrets, cut only after they are hidden."""

from pipeline.contract.error_text import one_line

SECRET = "hunter2-hunter2"


def test_the_first_paragraph_becomes_one_line_behind_the_class_of_the_error() -> None:
    error = RuntimeError("the engine\n  failed\n\nJVM stacktrace:\n at org.apache.spark")
    assert one_line(error, ()) == "RuntimeError: the engine failed"
    assert one_line(error, (), with_type=False) == "the engine failed"


def test_a_secret_that_the_cut_would_halve_is_hidden() -> None:
    error = ValueError(f"the key is {SECRET}")
    longest = len("ValueError: the key is hunter2")
    assert one_line(error, (SECRET,), longest) == "ValueError: the key is ***"
