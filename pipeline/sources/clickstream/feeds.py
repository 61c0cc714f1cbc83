"""What the web shop's trackers deliver: events, properties of items, the category tree. Declarations only."""

from pipeline.model import HIGH, MEDIUM, REJECT, Append, Derived, Feed, Rule, Scd2, Setting, Snapshot, Source
from pipeline.sources.clickstream.enriched import CATEGORIES, ENRICHED_EVENTS, NUMBER, PRICE
from pipeline.sources.clickstream.stream import EVENTS

# Milliseconds since 1970 up to the year 9999: outside of it there is no time, and no cast that could fail.
TIME = "CASE WHEN timestamp BETWEEN 0 AND 253402300799999 THEN timestamp_millis(timestamp) END"

events = Feed(
    name="events",
    files="events_*.csv",
    description="What a visitor did with an item: view, addtocart or transaction. The same row again is the same event.",
    columns="timestamp BIGINT NOT NULL, visitorid BIGINT NOT NULL, event STRING NOT NULL, itemid BIGINT NOT NULL, transactionid BIGINT",
    key=("visitorid", "itemid"),
    stored_as=Append(event_time="event_time"),
    cleaned=(Derived("event_time", "TIMESTAMP", TIME),),
    rules=(
        Rule("event_is_known", "event IN ('view', 'addtocart', 'transaction')", severity=HIGH, action=REJECT),
        Rule(
            "transaction_has_an_id",
            "transactionid IS NOT NULL",
            severity=HIGH,
            action=REJECT,
            where="event = 'transaction'",
        ),
    ),
)

item_properties = Feed(
    name="item_properties",
    files="item_properties_part*_*.csv",
    description="What became of a property of an item, and when; in two or more parts. An empty value ends the one before.",
    columns="timestamp BIGINT NOT NULL, itemid BIGINT NOT NULL, property STRING NOT NULL, value STRING",
    key=("itemid", "property"),
    stored_as=Scd2(sequence_by="property_time", track_history_except=("timestamp",)),
    cleaned=(Derived("property_time", "TIMESTAMP", TIME),),
    rules=(
        Rule(
            "category_is_a_number",
            NUMBER,
            severity=MEDIUM,
            where="property = 'categoryid' AND value IS NOT NULL",
            description="else it is unknown",
        ),
        Rule(
            "available_is_0_or_1",
            "value IN ('0', '1')",
            severity=MEDIUM,
            where="property = 'available' AND value IS NOT NULL",
            description="else it is unknown",
        ),
        Rule(
            "price_is_a_price",
            PRICE,
            severity=MEDIUM,
            where="property = $price_property AND value IS NOT NULL",
            description="as n1234.500, else it is unknown",
        ),
    ),
)

category_tree = Feed(
    name="category_tree",
    files="category_tree_*.csv",
    description="Every category with the one that it belongs to; a delivery is whole.",
    columns="categoryid BIGINT NOT NULL, parentid BIGINT",
    key=("categoryid",),
    stored_as=Snapshot(),
    snapshot=True,
)

CLICKSTREAM = Source(
    name="clickstream",
    feeds=(events, item_properties, category_tree),
    hierarchies=(CATEGORIES,),
    enriched=(ENRICHED_EVENTS,),
    gold_module="pipeline.sources.clickstream.gold",
    settings=(
        Setting(
            name="price_property", default="790", meaning="the property of an item that is its price, as n1234.500"
        ),
        EVENTS.setting,
    ),
    stream=EVENTS,
)
