"""The stream of events: each settled file is taken without a trigger. Declarations only."""

from pipeline.model import Setting, Stream

EVENTS = Stream(
    feed="events",
    setting=Setting(
        name="stream",
        default=False,
        meaning="take settled event files without a trigger, through a streaming query; needs engine spark",
    ),
)
