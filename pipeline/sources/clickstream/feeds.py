"""The feeds of the web shop's trackers: events, item properties, category tree. Declarations only."""

from pipeline.model import HIGH, MEDIUM, REJECT, Append, Derived, Feed, Rule, Scd2, Setting, Snapshot, Source
from pipeline.sources.clickstream.enriched import CATEGORIES, ENRICHED_EVENTS, NUMBER, PRICE
from pipeline.sources.clickstream.stream import EVENTS

# Milliseconds from 1970 up to the year 9999. A number outside of this range has no time, because its cast would fail.
TIME = "CASE WHEN timestamp BETWEEN 0 AND 253402300799999 THEN timestamp_millis(timestamp) END"

events = Feed(
    name="events",
    files="events_*.csv",
    description="An action of a visitor on an item: view, addtocart or transaction. A repeated row is the same event.",
    columns=(
        "timestamp BIGINT NOT NULL, visitorid BIGINT NOT NULL, event STRING NOT NULL, itemid BIGINT NOT NULL,"
        " transactionid BIGINT"
    ),
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
    description="The new value of an item's property, in two or more files. An empty value ends the value before.",
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
            description="any other value is unknown",
        ),
        Rule(
            "available_is_0_or_1",
            "value IN ('0', '1')",
            severity=MEDIUM,
            where="property = 'available' AND value IS NOT NULL",
            description="any other value is unknown",
        ),
        Rule(
            "price_is_a_price",
            PRICE,
            severity=MEDIUM,
            where="property = $price_property AND value IS NOT NULL",
            description="as n1234.500; any other value is unknown",
        ),
    ),
)

category_tree = Feed(
    name="category_tree",
    files="category_tree_*.csv",
    description="Every category with its parent category; each delivery is a snapshot.",
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
        Setting(name="price_property", default="790", meaning="the item property that holds the price, as n1234.500"),
        EVENTS.setting,
    ),
    stream=EVENTS,
)
