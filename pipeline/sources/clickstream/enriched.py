"""Each event with the state of its item at that millisecond, and its category. Declarations only."""

from pipeline.model import Derived, Enriched, Hierarchy, HierarchyJoin, PointInTimeJoin, Rule

# Property values are free text. Only a value of the expected form is cast; any other value counts as unknown.
NUMBER = r"value RLIKE '^[0-9]{1,18}\\z'"
PRICE = r"value RLIKE '^n[0-9]{1,15}([.][0-9]{1,3})?\\z'"

CATEGORIES = Hierarchy(
    name="categories",
    upstream="category_tree",
    id="categoryid",
    parent="parentid",
    description="Each category with the root of its branch.",
)


def item_property(prefix: str, property_sql: str, column: Derived) -> PointInTimeJoin:
    """Returns the join of one property: its value at the event's instant; none before the first value."""
    return PointInTimeJoin(
        feed="item_properties",
        on=("itemid",),
        prefix=prefix,
        before_first="none",
        where=f"property = {property_sql}",
        select=(column,),
    )


ENRICHED_EVENTS = Enriched(
    name="enriched_events",
    upstream="events",
    description="An event with the category, availability and price of its item at that millisecond, "
    "and the parent and root of the category.",
    as_of="event_time",
    joins=(
        item_property(
            "category_",
            "'categoryid'",
            Derived("category_id", "BIGINT", f"CASE WHEN {NUMBER} THEN CAST(value AS BIGINT) END"),
        ),
        item_property(
            "available_",
            "'available'",
            Derived("available", "BOOLEAN", "CASE value WHEN '1' THEN true WHEN '0' THEN false END"),
        ),
        item_property(
            "price_",
            "$price_property",
            Derived("price", "DECIMAL(18,3)", f"CASE WHEN {PRICE} THEN CAST(substring(value, 2) AS DECIMAL(18,3)) END"),
        ),
        HierarchyJoin(hierarchy="categories", on="category_id", parent="parent_category_id", root="root_category_id"),
    ),
    derived=(Derived("event_date", "DATE", "to_date(event_time)"),),
    checks=tuple(
        Rule(
            f"{name}_is_of_its_instant",
            f"_{name}_from <= event_time AND event_time < _{name}_to",
            where=f"_{name}_from IS NOT NULL",
            description="the joined version is valid at the event's time",
        )
        for name in ("category", "available", "price")
    ),
)
